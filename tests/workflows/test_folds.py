"""A cross-validation of tiny runs: who is held out where, one table of all, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.config.network import NetworkConfig
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, DataError, MedsegError, RunError
from medseg.core.written import WRITTEN
from medseg.runs.folder import read_run
from medseg.runs.folds import fold_runs, keep_folds
from medseg.workflows.bundle import bundle
from medseg.workflows.evaluate import evaluate_folds
from medseg.workflows.train import train
from tests.tiny import finish, same_weights, tiny_config, torchrun
from tests.workflows.test_foreign import snapshot


def test_every_case_is_scored_by_the_fold_that_held_it_out(crossed: tuple[Path, Path]) -> None:
    run, _ = crossed
    folds = json.loads((run / "splits.json").read_text())["folds"]
    assert [folder.name for folder in fold_runs(run)] == ["fold_0", "fold_1"]
    table = json.loads((run / "eval" / "metrics.json").read_text())
    assert table["cases"] == 4
    for number, fold in enumerate(folds):
        own = json.loads((run / f"fold_{number}" / "eval" / "metrics.json").read_text())["scores"]
        assert {score["case"] for score in own} == set(fold["val"])
        assert all(score in table["scores"] for score in own)
        kept = json.loads((run / f"fold_{number}" / "split.json").read_text())
        assert [kept["training"], kept["validation"], kept["why"]] == [
            fold["train"],
            fold["val"],
            f"fold {number} of 2",
        ]
    masks = {file.name for file in (run / "eval" / "masks").glob("*.nii.gz")}
    assert masks == {f"tiny_{number:02d}.nii.gz" for number in range(4)}
    assert (run / "report.html").stat().st_size > 10_000
    assert not same_weights(*(run / f"fold_{n}" / "models" / "model.pt" for n in (0, 1)))


def test_lesions_of_all_cases_stand_in_one_table(crossed: tuple[Path, Path]) -> None:
    run, _ = crossed
    found = json.loads((run / "eval" / "lesions.json").read_text())
    assert {score["case"] for score in found["scores"]} == {f"tiny_{number:02d}" for number in range(4)}
    assert found["targets"]["lesion"]["true"] == 4, "one ball in every case"


def test_the_folds_share_one_cache(crossed: tuple[Path, Path]) -> None:
    run, _ = crossed
    assert len(list((run / "cache").glob("*.json"))) == 4
    assert not list(run.glob("fold_*/cache"))


def test_a_single_fold_is_the_same_as_in_all(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    config = tiny_config(root, data__folds=2, training__max_epochs=1)
    train(config, run=tmp_path / "run", fold="1")
    assert same_weights(run / "fold_1" / "models" / "model.pt", tmp_path / "run" / "fold_1" / "models" / "model.pt")
    with pytest.raises(RunError, match="not trained yet: fold_0"):
        evaluate_folds(tmp_path / "run")
    assert read_run(tmp_path / "run" / "fold_1").config.data.fold == 1


def test_goes_on_where_it_stopped_and_refuses_other_folds(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    before = (mine / "fold_0" / "models" / "model.pt").read_bytes()
    config = tiny_config(root, data__folds=2, training__max_epochs=1)
    train(config, run=mine, fold="0")
    assert (mine / "fold_0" / "models" / "model.pt").read_bytes() == before
    other = tmp_path / "splits_final.json"
    names = [f"tiny_{number:02d}" for number in range(4)]
    other.write_text(json.dumps([{"train": names[:3], "val": names[3:]}, {"train": names[1:], "val": names[:1]}]))
    changed = config.model_copy(update={"data": config.data.model_copy(update={"folds_file": str(other)})})
    with pytest.raises(RunError, match="other folds than those"):
        train(changed, run=mine, fold="0")


def test_mistakes_are_found_before_anything_is_trained(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd(cases=3)
    file = tmp_path / "splits.json"
    file.write_text(json.dumps([{"train": ["tiny_00"], "val": ["tiny_01", "tiny_77"]}]))
    config = tiny_config(root, data__folds_file=str(file))
    with pytest.raises(DataError, match="no case 'tiny_77' in the data set"):
        train(config, run=tmp_path / "run", fold="all")
    with pytest.raises(DataError, match=r"5 folds of 3 patient\(s\)"):
        train(tiny_config(root), run=tmp_path / "run2", fold="all")
    with pytest.raises(ConfigError, match="give the number of a fold"):
        train(tiny_config(root), run=tmp_path / "run3", fold="first")
    with pytest.raises(DataError, match="there is no fold 7"):
        train(tiny_config(root, data__folds=3), run=tmp_path / "run4", fold="7")
    assert not list(tmp_path.rglob("model.pt"))


def test_dry_run_of_a_fold_writes_nothing(tiny_msd, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tiny_msd(cases=4)
    train(tiny_config(root, data__folds=4), run=tmp_path / "run", fold="all", dry_run=True)
    assert not (tmp_path / "run").exists()
    assert "3 cases to train on, 1 held out" in capsys.readouterr().out


def test_a_fold_that_is_trained_again_keeps_the_decision(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    """What `medseg postprocess` decided cleans the masks of every later evaluation, that of a training too."""
    run, root = tmp_path / "run", crossed[1]
    shutil.copytree(crossed[0], run)
    steps = {"schema": "medseg-postprocessing/1", "steps": {"keep_largest_component": ["lesion"]}}
    for folder in (run, run / "fold_0"):
        (folder / "postprocessing.json").write_text(json.dumps(steps))
    train(tiny_config(root, data__folds=2, training__max_epochs=1), run=run, fold=0)
    table = json.loads((run / "fold_0" / "eval" / "metrics.json").read_text())
    assert table["postprocessing"] == {"keep_largest_component": ["lesion"]}


@pytest.mark.slow
def test_restart_divides_anew_whatever_older_folds_kept(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = tmp_path / "run", crossed[1]
    shutil.copytree(crossed[0], run, ignore=shutil.ignore_patterns("cache"))
    for number in (0, 1):  # once, each fold had all folds beside its bundle, and no split of its own
        shutil.copy(run / "splits.json", run / f"fold_{number}")
        (run / f"fold_{number}" / "split.json").unlink()
    config = tiny_config(root, data__folds=4, training__max_epochs=1, training__iterations_per_epoch=1)
    with pytest.raises(ConfigError):  # a mistake loses nothing
        train(config.model_copy(update={"network": wrong(config)}), run=run, fold="all", restart=True)
    assert len(json.loads((run / "splits.json").read_text())["folds"]) == 2
    train(config, run=run, fold="all", restart=True)
    whys = [json.loads((run / f"fold_{n}" / "split.json").read_text())["why"] for n in range(4)]
    assert whys == [f"fold {n} of 4" for n in range(4)]
    assert not list(run.glob("fold_*/splits.json"))


@pytest.mark.parametrize("account", [True, False])
@pytest.mark.parametrize("what", ["changed", "no JSON", "a link", "a folder"])
def test_no_folds_for_nnunet_are_replaced_that_are_not_medsegs(
    what: str, account: bool, crossed: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = Path(shutil.copytree(crossed[0], tmp_path / "run", ignore=shutil.ignore_patterns("cache"))), crossed[1]
    config, theirs = tiny_config(root, data__folds=4), run / "splits_final.json"
    if what == "changed":
        theirs.write_text(json.dumps(json.loads(theirs.read_text())[::-1]))
    elif what == "no JSON":
        theirs.write_text("mine")
    elif what == "a link":
        theirs.replace(tmp_path / "mine.json")
        theirs.symlink_to(tmp_path / "mine.json")
    else:
        theirs.unlink()
        theirs.mkdir()
        (theirs / "inside").write_text("mine")
    if not account:  # as an older version left it
        (run / WRITTEN).unlink()
    before = snapshot(run)
    with pytest.raises(MedsegError, match=r"splits_final\.json: (is|was) .*\n    -> move it away"):
        train(config, run=run, fold="all", restart=True)
    assert snapshot(run) == before


@pytest.mark.parametrize("laid_out", ["as it was", "anew", "not there", "of damaged folds"])
def test_folds_for_nnunet_follow_those_of_the_run(laid_out: str, crossed: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("splits.json", "splits_final.json", WRITTEN):
        shutil.copy(crossed[0] / name, tmp_path)
    theirs = tmp_path / "splits_final.json"
    if laid_out == "anew":  # the same folds: by another program, or another version of this one
        theirs.write_text(json.dumps(json.loads(theirs.read_text())))
        (tmp_path / WRITTEN).unlink()
    elif laid_out == "of damaged folds":
        (tmp_path / "splits.json").write_text("{")
    elif laid_out == "not there":
        theirs.unlink()
    config = tiny_config(crossed[1], data__folds=4)
    folds = keep_folds(config, tmp_path, None, anew=True)
    assert len(folds.folds) == 4
    assert json.loads(theirs.read_text()) == json.loads((tmp_path / "splits.json").read_text())["folds"]


def wrong(config: Config) -> NetworkConfig:
    return config.network.model_copy(update={"widths": [4, 8, 8], "strides": [1, 2]})


def test_a_fold_of_another_file_is_refused(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    names = [f"tiny_{number:02d}" for number in range(4)]
    for name, held_out in (("a", names[:1]), ("b", names[1:2])):
        fold = {"train": [case for case in names if case not in held_out], "val": held_out}
        (tmp_path / f"{name}.json").write_text(json.dumps([fold]))
    options = {"data__fold": 0, "training__max_epochs": 1, "training__iterations_per_epoch": 1}
    train(tiny_config(root, data__folds_file=str(tmp_path / "a.json"), **options), run=tmp_path / "run")
    with pytest.raises(RunError, match="other folds than those that this run was begun with"):
        train(tiny_config(root, data__folds_file=str(tmp_path / "b.json"), **options), run=tmp_path / "run")


@pytest.mark.slow
def test_two_processes_score_folds_as_one_does(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = crossed
    finish(torchrun(2, "evaluate", "--run", run, "--anew", "--output", tmp_path / "two", cwd=tmp_path))
    evaluate_folds(run, again=True, anew=True, output=tmp_path / "one")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text())["scores"] for name in ("one", "two"))
    assert sorted(one, key=str) == sorted(two, key=str)


def test_the_bundle_of_another_fold_has_its_split(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    for fold in (0, 1):
        bundle(tiny_config(root, data__fold=fold, data__folds=2), output=tmp_path / "bundle")
        assert json.loads((tmp_path / "bundle" / "split.json").read_text())["why"] == f"fold {fold} of 2"
    (tmp_path / "bundle" / "models").mkdir()
    (tmp_path / "bundle" / "models" / "model.pt").touch()
    with pytest.raises(RunError, match=r"trained on another split \(fold 1 of 2\)"):
        bundle(tiny_config(root, data__fold=0, data__folds=2), output=tmp_path / "bundle")


@pytest.mark.slow
def test_two_processes_end_alike_when_a_case_fails(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    """A damaged scan: the others are scored, and nobody waits for the first process, which has written all of it."""
    run, root = tmp_path / "run", tmp_path / "data"
    shutil.copytree(crossed[0], run, ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(crossed[1], root)
    for config in run.glob("fold_*/config.yaml"):
        config.write_text(config.read_text().replace(str(crossed[1]), str(root)))
    (root / "imagesTr" / "tiny_00.nii.gz").write_bytes(b"damaged")
    command = ("evaluate", "--run", run, "--output", tmp_path / "two")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    _, errors = finish(torchrun(2, *command, cwd=tmp_path), expect=1)
    assert errors.count("the data are not those that this run was begun with") == 1, "one speaks for both"
    assert errors.count("tiny_00: another image") == 1
    assert re.search(r"exitcode\s*: 2\b", errors), "of the first of them, as torchrun reports it"
    assert errors.count("Traceback") == 1, "torchrun's own"
    assert not (tmp_path / "two").exists()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    _, errors = finish(torchrun(2, *command, "--accept-changes", cwd=tmp_path), expect=1)
    assert "tiny_00" in errors
    assert "Connection" not in errors
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["cases"] == 3
