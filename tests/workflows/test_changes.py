"""A run whose data have changed since: what is safe goes on, anything else is refused before a byte is written."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import RunError
from medseg.data.cases.dataset import read_dataset
from medseg.runs.changes import Asked, scored_cases
from medseg.runs.files import read_files
from medseg.runs.folder import open_run, read_run
from medseg.runs.members import held_out_by_all
from medseg.runs.split import run_split
from medseg.workflows.evaluate import evaluate
from medseg.workflows.postprocess import postprocess
from medseg.workflows.train import train
from tests.tiny import finish, medseg, tiny_config, train_arguments

NOTHING = contextlib.nullcontext()
Change = Callable[[Path, list[str]], None]


@pytest.fixture
def mine(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A finished run, and its data, both to change: moved, which alone is no change."""
    run, root = (shutil.copytree(one, tmp_path / name) for one, name in zip(trained, ("run", "data"), strict=True))
    config = tiny_config(root)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(trained[1]), str(config.data.root)))
    return run, root


def sides(run: Path) -> tuple[list[str], list[str]]:
    split = json.loads((run / "split.json").read_text())
    return split["training"], split["validation"]


def everything(run: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.rglob("*") if file.is_file()}


def described(root: Path, change: Callable[[dict], None]) -> None:
    file = root / "dataset.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def replaced(kind: str) -> Change:
    """Another image or label of each of these cases: as large, and said to be as old, as the one before."""

    def change(root: Path, cases: list[str]) -> None:
        for case in cases:
            file = root / f"{kind}Tr" / f"{case}.nii.gz"
            before, raw = file.stat(), bytearray(gzip.decompress(file.read_bytes()))
            raw[-1] = 1  # a voxel in the corner
            content = gzip.compress(bytes(raw), 9, mtime=0)
            assert len(content) <= before.st_size
            file.write_bytes(content.ljust(before.st_size, b"\0"))  # which gzip takes for padding
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def removed(root: Path, cases: list[str]) -> None:
    described(root, lambda content: content.update(
        training=[one for one in content["training"] if not any(case in one["image"] for case in cases)]
    ))  # fmt: skip


def labels(**names: str) -> Change:
    return lambda root, _: described(
        root, lambda content: content.update(labels={value[1:]: name for value, name in names.items()})
    )


def other_channels(root: Path, _: list[str]) -> None:
    described(root, lambda content: content.update(modality={"0": "T1", "1": "FLAIR"}))


REFUSED: dict[str, tuple[Change, str]] = {
    "class added": (labels(_0="background", _1="organ", _2="lesion", _3="vein"), r"class 'vein' \(3\) is new"),
    "class renamed": (labels(_0="background", _1="organ", _2="cyst"), r"class 'lesion' \(2\) is called 'cyst' now"),
    "classes swapped": (labels(_0="background", _1="lesion", _2="organ"), "class 'organ' is 2, and was 1"),
    "another modality": (other_channels, "channels are T1, FLAIR, and were T1, T2"),
    "labels replaced": (replaced("labels"), "another label: .*labelsTr"),
    "images replaced": (replaced("images"), "another image: .*imagesTr"),
    "cases removed": (removed, "is not in the data set any more"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_safe_is_refused_and_nothing_written(mine: tuple[Path, Path], name: str) -> None:
    run, root = mine
    change, message = REFUSED[name]
    config = tiny_config(root, training__max_epochs=3)
    change(root, sides(run)[1])
    before = everything(run)
    for verb in (lambda: open_run(config, run, read_dataset(root)), lambda: evaluate(run)):
        with pytest.raises(RunError, match=message) as refused:
            verb()
        assert refused.value.exit_code == 2
        assert refused.value.problems[-1].remedy
        assert everything(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_changed_case_of_training_stops_training_only(mine: tuple[Path, Path], kind: str) -> None:
    run, root = mine
    replaced(kind)(root, sides(run)[0][:1])
    with pytest.raises(RunError, match="another"):
        open_run(tiny_config(root), run, read_dataset(root))
    cases = scored_cases(read_run(run), read_dataset(root))
    assert [case.name for case in cases] == sides(run)[1], "what is scored is as it was"


@pytest.mark.slow
def test_moved_touched_and_added_cases_are_safe(
    mine: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = mine
    before = sides(run)
    for file in root.rglob("*.nii.gz"):
        os.utime(file)
    for kind in ("images", "labels"):
        image = nib.load(root / f"{kind}Tr" / f"{before[0][0]}.nii.gz")
        values = np.asarray(image.dataobj)[::-1]
        nib.save(nib.Nifti1Image(values, image.affine), root / f"{kind}Tr" / "new.nii.gz")
    new = {"image": "./imagesTr/new.nii.gz", "label": "./labelsTr/new.nii.gz"}
    described(root, lambda content: content.update(training=[*content["training"], new]))
    assert evaluate(run)["cases"] == len(before[1])
    opened = open_run(tiny_config(root), run, read_dataset(root))
    assert "1 cases are on neither side" in capsys.readouterr().out
    assert sides(run) == before
    assert "new" not in {name for part in opened.split.parts for name in part}
    files = read_files(run)
    assert files is not None
    assert files.whole
    assert all(file.sha256 and file.path.startswith(str(root)) for case in files.cases.values() for file in case.files)


def exchange(root: Path, one: str, other: str) -> None:
    for kind in ("images", "labels"):
        a, b = (root / f"{kind}Tr" / f"{name}.nii.gz" for name in (one, other))
        a.rename(root / "kept")
        b.rename(a)
        (root / "kept").rename(b)


@pytest.mark.slow
def test_accepting_leaves_out_what_was_on_the_other_side(
    mine: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    """Two cases change places, one is gone, one has a better label; then everything comes back."""
    run, root = mine
    (first, second, third, *_), (held_out, *others) = sides(run)
    shutil.copytree(root, root.with_name("before"))
    described(root, lambda content: content)
    if not others:  # another one, so that a side is not left empty
        others = [third]
        split = run_split(read_run(run))
        moved = split.without({third})
        (run / "split.json").write_text(
            type(split)(moved.training, (*split.validation, third), why=split.why).to_json()
        )
    exchange(root, first, held_out)
    removed(root, [second])
    dataset = read_dataset(root)
    with pytest.raises(RunError, match="2 cases have other files, 1 are gone"):
        open_run(tiny_config(root), run, dataset)
    assert [case.name for case in scored_cases(read_run(run), dataset, Asked(accept=True))] == others
    opened = open_run(tiny_config(root), run, dataset, asked=Asked(accept=True))
    left = {name for part in opened.split.parts for name in part}
    assert left & {first, second, held_out} == set()
    assert "3 cases are left out" in capsys.readouterr().out
    assert evaluate(run)["cases"] == len(others), "it is as it was accepted"
    again = open_run(tiny_config(root), run, dataset)
    assert again.split == opened.split, "there is nothing more to accept"

    later = read_dataset(root.with_name("before"))
    back = open_run(tiny_config(later.root), run, later)
    assert back.split.parts == opened.split.parts, "who was once on a side does not come back"


@pytest.mark.slow
def test_an_image_that_was_trained_on_is_not_scored_under_another_name(
    mine: tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    run, root = mine
    training, held_out = sides(run)
    shutil.copyfile(root / "imagesTr" / f"{training[0]}.nii.gz", root / "imagesTr" / f"{held_out[0]}.nii.gz")
    dataset, accept = read_dataset(root), Asked(accept=True)
    if len(held_out) == 1:
        with pytest.raises(RunError, match="no case is left"):
            scored_cases(read_run(run), dataset, accept)
    else:
        assert held_out[0] not in [case.name for case in scored_cases(read_run(run), dataset, accept)]
    members = [read_run(run), read_run(shutil.copytree(run, run.with_name("other")))]
    with pytest.raises(RunError, match="another image"):
        held_out_by_all(members, dataset)
    with pytest.raises(RunError, match="no case is held out by all") if len(held_out) == 1 else NOTHING:
        assert held_out[0] not in [case.name for case in held_out_by_all(members, dataset, accept)]


@pytest.mark.slow
def test_another_data_set_with_images_of_the_training_is_not_called_held_out(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = trained
    training, _ = sides(run)
    shutil.copytree(root, tmp_path / "hospital")
    summary = evaluate(run, data=tmp_path / "hospital", output=tmp_path / "out")
    said = capsys.readouterr().out
    assert f"NOT HELD OUT: {len(training)} of {summary['cases']} cases are images that were trained on" in said


@pytest.mark.slow
def test_verify_reads_what_nobody_seems_to_have_touched(
    mine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that changes a bit says nothing of it: times and size stay."""
    run, root = mine
    config, dataset = tiny_config(root), read_dataset(root)
    open_run(config, run, dataset)  # it knows the files where they are now
    case = sides(run)[1][0]
    file = root / "labelsTr" / f"{case}.nii.gz"
    states = read_files(run)
    content = bytearray(file.read_bytes())
    content[4] ^= 1  # the time in the header of gzip: the label is the same, the file is not
    file.write_bytes(content)
    real = os.stat
    known = {one.path: one.touched for state in states.cases.values() for one in state.files}

    def stat(path, *args, **options):
        found = real(path, *args, **options)
        if str(path) != str(file):
            return found
        _, size, changed, touched = known[str(file)]
        return os.stat_result(
            (*tuple(found)[:6], size, *tuple(found)[7:10]), {"st_mtime_ns": changed, "st_ctime_ns": touched}
        )

    monkeypatch.setattr("medseg.data.files.digests.os.stat", stat)
    assert scored_cases(read_run(run), dataset)
    with pytest.raises(RunError, match="another label"):
        scored_cases(read_run(run), dataset, Asked(verify=True))
    with pytest.raises(RunError, match="another label"):
        open_run(config, run, dataset, asked=Asked(verify=True))


@pytest.mark.slow
def test_a_run_that_is_older_is_unverified(mine: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    run, root = mine
    (run / "files.json").unlink()
    split = run_split(read_run(run))
    (run / "split.json").unlink()
    assert evaluate(run)["cases"] == len(split.validation)
    assert capsys.readouterr().out.count("unverified") == 1
    open_run(tiny_config(root), run, read_dataset(root))
    assert capsys.readouterr().out.count("unverified") == 1
    files = read_files(run)
    assert files is not None
    assert not files.whole


@pytest.mark.slow
def test_on_the_command_line(mine: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = mine
    replaced("labels")(root, sides(run)[0][:1])
    arguments = train_arguments(root, run, training__max_epochs=3)
    before = everything(run)
    _, error = finish(medseg(*arguments, cwd=tmp_path), expect=2)
    assert "another label" in error
    assert "--accept-changes" in error
    assert "Traceback" not in error
    assert everything(run) == before
    out, _ = finish(medseg(*arguments, "--accept-changes", cwd=tmp_path))
    assert "unverified" not in out
    finish(medseg(*arguments, "--verify", cwd=tmp_path))
    finish(medseg("evaluate", "--run", run, "--verify", cwd=tmp_path))


@pytest.mark.slow
def test_folds_are_compared_before_the_first_is_scored_or_trained(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = (shutil.copytree(one, tmp_path / name) for one, name in zip(crossed, ("run", "data"), strict=True))
    for file in run.rglob("config.yaml"):
        file.write_text(file.read_text().replace(str(crossed[1]), str(root)))
    last = sides(run / "fold_1")[1]
    replaced("labels")(root, last[:1])
    before = everything(run)
    config = tiny_config(root, data__folds=2, training__max_epochs=2, evaluation__lesions=["lesion"])
    for verb in (lambda: evaluate(run), lambda: postprocess(run), lambda: train(config, run=run, fold="all")):
        with pytest.raises(RunError, match="another label"):
            verb()
        assert everything(run) == before


@pytest.mark.slow
def test_folds_go_on_without_a_case_that_is_gone(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    """The folds' own file still names it; each fold's split does not, and nothing has to be accepted twice."""
    run, root = (shutil.copytree(one, tmp_path / name) for one, name in zip(crossed, ("run", "data"), strict=True))
    gone = sides(run / "fold_0")[0][0]
    removed(root, [gone])
    config = tiny_config(root, data__folds=2, training__max_epochs=2, evaluation__lesions=["lesion"])
    before = everything(run)
    with pytest.raises(RunError, match="is not in the data set any more"):
        train(config, run=run, fold="0")
    assert everything(run) == before
    train(config, run=run, fold="0", accept_changes=True)
    assert gone not in sides(run / "fold_0")[0]
    assert len((run / "fold_0" / "history.csv").read_text().splitlines()) == 3
    train(config, run=run, fold="0", accept_changes=True)
    train(config, run=run, fold="0")
