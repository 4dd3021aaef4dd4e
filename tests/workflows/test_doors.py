"""The door that every verb which writes goes through: one writer, and nothing of the user's is replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from medseg.bundle.write import DESCRIPTION
from medseg.core import files, lock
from medseg.core.errors import MedsegError, RunError
from medseg.core.files import WRITING
from medseg.core.lock import LOCK
from medseg.core.sealed import unsealed
from medseg.core.written import WRITTEN
from medseg.workflows.bundle import bundle
from medseg.workflows.clean import clean
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.train import train
from tests.processes import writer_of
from tests.tiny import tiny_config
from tests.workflows import test_foreign
from tests.workflows.test_foreign import Call, snapshot

calls = test_foreign.calls
ROOT = Path(__file__).resolve().parents[2]

QUICK = ("predict", "predict --overwrite", "predict --format bids", "evaluate", "bundle", "submission", "composite")
VERBS = {
    **dict.fromkeys(QUICK, ("", "")),
    **dict.fromkeys(("train", "train --restart"), ("", "")),
    "train --fold": ("fold_0", ""),
    "plan": ("", "config.yaml"),
    "score --nnunet-summary": ("", "summary.json"),
}
"""Verb -> the folder in its output that it locks first, and the file in it, if it is that alone."""


@pytest.mark.parametrize("verb", VERBS)
def test_another_writer_is_met_by_every_verb_and_the_dead_are_taken_over(
    verb: str, calls: dict[str, Call], tmp_path: Path
) -> None:
    out, (below, only) = tmp_path / "out", VERBS[verb]
    with writer_of(out / below, only) as holder:
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        with pytest.raises(
            RunError, match=f"process {holder.pid} on .* is writing there\n    -> wait for it"
        ) as caught:
            calls[verb](out, tmp_path)
        assert caught.value.exit_code == 2
        assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
        holder.kill()
        holder.wait()
        if verb not in QUICK:
            return
        calls[verb](out, tmp_path)
    assert not [*out.rglob(f"{LOCK}*"), *out.rglob(f"{WRITING}*")]


def test_what_a_training_needs_is_not_cleaned_meanwhile(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    before = snapshot(run)
    with writer_of(run), pytest.raises(RunError, match="is writing there"):
        clean(run, free=True)
    for left in (*run.glob(f"{WRITING}*"), run / LOCK):  # of the other process, which was killed
        left.unlink()
    assert snapshot(run) == before


@pytest.mark.parametrize(
    "verb", [*QUICK, *(pytest.param(verb, marks=pytest.mark.slow) for verb in VERBS if verb not in QUICK)]
)
def test_every_file_is_written_by_who_holds_its_folder(
    verb: str, calls: dict[str, Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    alone: list[Path] = []

    def tell(path: Path, _: Path) -> None:
        written.append(path)
        held = [(file.parent, file.name) for file in lock._held]
        real = path.resolve()
        whole = any(name == LOCK and folder in real.parents for folder, name in held)
        one = any(name == f"{LOCK}-{VERBS[verb][1]}" and folder == real.parent for folder, name in held)
        if not (whole or one or real.parent.name == "cache"):  # whose entries are the same, whoever writes them
            alone.append(path)

    monkeypatch.setattr(files, "announced", [*files.announced, tell])
    calls[verb](tmp_path / "out", tmp_path)
    assert written
    assert alone == []


def test_nobody_takes_a_lock_but_the_door() -> None:
    found = [file for file in (ROOT / "medseg").rglob("*.py") if "writing_to" in file.read_text(encoding="utf-8")]
    assert {file.name for file in found} == {"lock.py", "places.py"}


def change(file: Path) -> bytes:
    file.write_bytes(file.read_bytes() + b"\n# mine\n")
    return file.read_bytes()


def made(verb: str, folder: Path, trained: tuple[Path, Path]) -> Callable[[], object]:
    """What writes into the folder; called once already."""
    run, root = trained
    if verb == "bundle":
        call: Callable[[], object] = partial(bundle, tiny_config(root), output=folder)
    elif verb == "evaluate":
        call = partial(evaluate, run, output=folder)
    else:
        call = partial(train, tiny_config(root, training__max_epochs=1), run=folder)
    call()
    return call


@pytest.mark.parametrize("verb", ["bundle", "evaluate", pytest.param("train", marks=pytest.mark.slow)])
def test_a_file_that_somebody_has_changed_is_theirs(verb: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    call = made(verb, folder, trained)
    call()  # what nobody has changed is no obstacle
    known = unsealed((folder / WRITTEN).read_text())
    assert len(known) >= 3
    for name in known:
        file = folder / name
        before = file.read_bytes()
        mine = change(file)
        if name in DESCRIPTION:
            call()
        else:
            with pytest.raises(MedsegError, match=r"was changed since medseg wrote it\n    -> .*move it away"):
                call()
        assert file.read_bytes() == mine, name
        file.write_bytes(before)
    for name in known:
        (folder / name).write_bytes(b"")  # as after a loss of power: nothing that is anybody's
    call()
    assert all((folder / name).stat().st_size for name in known)


def test_a_model_card_of_ones_own_survives_all_verbs(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = trained[1]
    bundle(tiny_config(root), output=tmp_path)
    card = tmp_path / "docs" / "README.md"
    card.write_text("# Mine\n")
    bundle(tiny_config(root, training__batch_size=1), output=tmp_path)
    assert card.read_text() == "# Mine\n"
    assert f"{card}: was changed since medseg wrote it, and is left as it is" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "configs" / "train.yaml").read_text())["train"]["dataloader"]["batch_size"] == 1


def test_what_is_written_by_others_of_medseg_is_no_change(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """As MONAI runs a bundle, without a verb around it."""
    from medseg.metrics.table import MetricsTable

    evaluate(trained[0], output=tmp_path)
    table = MetricsTable.read(tmp_path)
    MetricsTable([*table.scores[:1]]).write(tmp_path)
    evaluate(trained[0], output=tmp_path)


SLOW = [pytest.param(state, marks=pytest.mark.slow) for state in ("as it was", "killed")]


@pytest.mark.parametrize("state", ["changed", "of the user alone", *SLOW])
def test_a_plan_is_replaced_as_it_was_written(
    state: str, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, output = trained[1], tmp_path / "plan.yaml"
    call = partial(plan, root, output=output, overwrite=True, progress=False, overrides=["network.widths=[4, 8]"])
    call()
    if state == "changed":
        change(output)
    elif state == "of the user alone":
        output.write_text("name: mine\nnetwork:\n  widths: [4, 8]\n")
        output.with_suffix(".json").unlink()
    elif state == "killed":  # between the two files of another plan
        from medseg.workflows import plan as planning

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(planning, "replace_file", die)
        with pytest.raises(KeyboardInterrupt):
            plan(root, output=output, overwrite=True, progress=False, overrides=["network.widths=[4, 6]"])
        monkeypatch.undo()
    before = snapshot(tmp_path)
    if state in ("as it was", "killed"):
        call()
        return
    with pytest.raises(MedsegError, match=r"medseg did not write it|was changed since medseg wrote it"):
        call()
    assert snapshot(tmp_path) == before


def test_a_plan_names_the_file_that_was_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(MedsegError) as caught:
        plan(trained[1], output=tmp_path / "x.yaml", progress=False, overrides=["network.widths=[4, 8, 16, -3]"])
    assert WRITING not in str(caught.value)
    assert not list(tmp_path.iterdir())
