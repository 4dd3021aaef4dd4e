"""`network.pretrained` with the weights of another run: whom that was trained on is known, as with `train --from`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medseg.config.schema import Config
from medseg.core.errors import ConfigError, RunError
from medseg.data.cases.dataset import read_dataset
from medseg.runs.files import read_files
from medseg.runs.folder import open_run, read_run
from medseg.runs.seen import Seen
from medseg.runs.start import run_of_weights
from medseg.workflows.bundle import bundle
from medseg.workflows.train import train
from tests.tiny import tiny_config

PLACES = ("model", "link", "finder", "fold")


def weights_at(place: str, run: Path, folder: Path) -> Path:
    """The file of a run's weights as somebody may name it."""
    if place == "model":
        return run / "models" / "model.pt"
    if place == "link":
        (folder / "link.pt").symlink_to(run / "models" / "model.pt")
        return folder / "link.pt"
    if place == "fold":
        return Path(shutil.copytree(run, folder / "folds" / "fold_0")) / "models" / "model.pt"
    origin = shutil.copytree(run, folder / "staged")
    (origin / "finder").mkdir()
    for name in ("models", "config.yaml", "data.json"):
        shutil.move(shutil.copytree(run, folder / "copy", dirs_exist_ok=True) / name, origin / "finder")
    return origin / "finder" / "models" / "model.pt"


def begun_with(file: Path, root: Path, **changes: object) -> Config:
    return tiny_config(root, network__pretrained=str(file), **changes)


@pytest.mark.parametrize("place", PLACES)
def test_nobody_is_held_out_whom_the_weights_have_seen(trained: tuple[Path, Path], tmp_path: Path, place: str) -> None:
    file, run = weights_at(place, trained[0], tmp_path), tmp_path / "run"
    config = begun_with(file, trained[1]).model_copy(update={"seed": 5})
    for dry_run in (False, True):
        with pytest.raises(RunError, match=r"was trained on [12] of the 2 cases that are held out now"):
            train(config, run=run, dry_run=dry_run)
    assert not run.exists()


def test_their_images_are_known_from_then_on(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    origin, root = trained
    dataset, images = read_dataset(root), Seen.by([read_run(origin)]).identities
    assert images
    first = open_run(begun_with(origin / "models" / "model.pt", root), tmp_path / "first", dataset).run
    assert f"begins with {origin}: model.pt" in capsys.readouterr().out
    files = read_files(first.folder)
    assert files is not None
    assert images <= files.trained_on
    assert not (first.folder / "models" / "start.pt").exists()
    record = json.loads((first.folder / "start.json").read_text())
    (split,) = record["trained_on"]
    assert split["cases"] == json.loads((origin / "split.json").read_text())["training"]

    (first.folder / "models").mkdir(exist_ok=True)
    shutil.copyfile(origin / "models" / "model.pt", first.weights)
    second = open_run(begun_with(first.weights, root), tmp_path / "second", dataset).run.folder
    record = json.loads((second / "start.json").read_text())
    assert [part["cases"] for part in record["trained_on"]] == [split["cases"], split["cases"]]
    assert images <= read_files(second).trained_on
    open_run(tiny_config(root), second, dataset, restart=True)
    assert not (second / "start.json").exists()
    assert not read_files(second).trained_on


def test_weights_of_others_are_nobodys(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Outside a run, and beside files of another program that are called as those of a run."""
    origin, root = trained
    theirs = tmp_path / "theirs" / "models"
    theirs.mkdir(parents=True)
    (tmp_path / "theirs" / "config.yaml").write_text("name: resnet\nlayers: 18\n")
    (tmp_path / "theirs" / "data.json").write_text("{}")
    for file in (theirs / "model.pt", tmp_path / "model.pt"):
        shutil.copyfile(origin / "models" / "model.pt", file)
        assert run_of_weights(file) is None
        run = tmp_path / f"run{file.parent.name}"
        config = begun_with(file, root).model_copy(update={"seed": 5})
        assert not (open_run(config, run, read_dataset(root)).run.folder / "start.json").exists()


@pytest.mark.parametrize("lost", ["config.yaml", "data.json", "split.json"])
def test_a_run_that_has_lost_a_file_is_not_taken_for_others(
    trained: tuple[Path, Path], tmp_path: Path, lost: str
) -> None:
    origin = shutil.copytree(trained[0], tmp_path / "origin")
    (origin / lost).unlink()
    config = begun_with(origin / "models" / "model.pt", trained[1])
    with pytest.raises((RunError, ConfigError), match="is missing"):
        open_run(config, tmp_path / "run", read_dataset(trained[1]))
    assert not (tmp_path / "run").exists()


def test_of_a_bundle_that_monai_has_trained_nobody_knows(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bundle(tiny_config(trained[1]), output=tmp_path / "bundle")
    file = tmp_path / "bundle" / "models" / "model.pt"
    file.parent.mkdir(exist_ok=True)
    shutil.copyfile(trained[0] / "models" / "model.pt", file)
    open_run(begun_with(file, trained[1]), tmp_path / "run", read_dataset(trained[1]))
    assert "unverified: nobody knows on which cases" in capsys.readouterr().out
