"""The table of layouts: every layout is recognised, read and named wherever one can be asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.config.cards import load_card
from medseg.config.load import load_config
from medseg.core.errors import ConfigError, DataError
from medseg.core.resources import resource_names
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import find_dataset, find_layout, read_dataset
from medseg.data.cases.layouts import AUTO, LAYOUTS
from medseg.data.cases.layouts.layout import Found, Layout

FOUR = ("a", "b", "c", "d")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def csv(root: Path) -> Path:
    touch(root, *(f"{name}.nii" for name in FOUR))
    rows = [f"{name},{name}.nii,{name}.nii" for name in FOUR]
    (root / "cases.csv").write_text("\n".join(["case,image,label", *rows]))
    return root / "cases.csv"


def msd(root: Path) -> Path:
    touch(root, *(f"{folder}/{name}.nii" for name in FOUR for folder in ("imagesTr", "labelsTr")))
    listed = [{"image": f"imagesTr/{name}.nii", "label": f"labelsTr/{name}.nii"} for name in FOUR]
    labels = {"0": "background", "1": "tumour"}
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "T1"}, "labels": labels, "training": listed}))
    return root


def nnunet(root: Path) -> Path:
    touch(root, *(file for name in FOUR for file in (f"imagesTr/{name}_0000.nii", f"labelsTr/{name}.nii")))
    labels = {"background": 0, "tumour": 1}
    described = {"channel_names": {"0": "T1"}, "labels": labels, "file_ending": ".nii"}
    (root / "dataset.json").write_text(json.dumps(described))
    return root


def bids(root: Path) -> Path:
    for name in FOUR:
        touch(root, f"sub-{name}/anat/sub-{name}_T1w.nii", f"derivatives/m/sub-{name}/anat/sub-{name}_mask.nii")
    return root


def volumes(root: Path) -> Path:
    touch(root, *(f"{folder}/{name}.nii" for name in FOUR for folder in ("images", "labels")))
    return root


def voc(root: Path) -> Path:
    for name in FOUR:
        touch(root, f"VOC2012/JPEGImages/{name}.jpg", f"VOC2012/SegmentationClass/{name}.png")
    touch(root, "VOC2012/ImageSets/Segmentation/train.txt")
    (root / "VOC2012/ImageSets/Segmentation/train.txt").write_text("\n".join(FOUR))
    return root


def cityscapes(root: Path) -> Path:
    for name in FOUR:
        frame = f"train/ulm/ulm_00000{FOUR.index(name)}_000019"
        touch(root, f"leftImg8bit/{frame}_leftImg8bit.png", f"gtFine/{frame}_gtFine_labelIds.png")
    return root


def ade20k(root: Path) -> Path:
    touch(root, *(f"images/training/{name}.jpg" for name in FOUR))
    touch(root, *(f"annotations/training/{name}.png" for name in FOUR))
    return root


def camvid(root: Path) -> Path:
    touch(root, *(f"{folder}/{name}.png" for name in FOUR for folder in ("train", "trainannot")))
    return root


def pairs(root: Path) -> Path:
    touch(root, *(f"{folder}/{name}.png" for name in FOUR for folder in ("images", "masks")))
    return root


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker for maker in (csv, msd, nnunet, bids, volumes, voc, cityscapes, ade20k, camvid, pairs)
}


@pytest.mark.parametrize("name", list(LAYOUTS.own))
def test_every_layout_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    root = EXAMPLES[name](tmp_path)
    assert find_layout(root) == name
    for asked in (AUTO, name):
        dataset = read_dataset(root, asked)
        assert (dataset.layout, len(dataset.cases), dataset.unlabelled) == (name, 4, ())
        assert all(Path(file).is_file() for case in dataset.cases for file in case.files)
        assert dataset.natural == LAYOUTS[name].load().natural == dataset.cases[0].is_picture
    other = next(one for one in LAYOUTS.own if one != name and not LAYOUTS[one].load()().recognises(root))
    with pytest.raises(DataError, match=f"looks like the layout '{name}', but '{other}' was asked for"):
        read_dataset(root, other)


@pytest.mark.parametrize("name", list(LAYOUTS.own))
def test_a_layout_that_is_asked_for_wins_over_those_before_it(name: str, tmp_path: Path) -> None:
    """Where a folder has two layouts, auto takes the first of the table."""
    if name == "csv":
        return
    for maker in EXAMPLES.values():
        if maker is not csv:
            maker(tmp_path)
    if LAYOUTS[name].load()().recognises(tmp_path):  # there is one dataset.json only
        assert find_dataset(tmp_path, name)[0].layout == name


@pytest.mark.parametrize("name", [AUTO, *LAYOUTS.own])
def test_every_layout_can_be_asked_for(name: str) -> None:
    assert load_config("hippocampus", [f"data.layout={name}"]).data.layout == name


def test_the_help_names_every_layout() -> None:
    text = CliRunner().invoke(app, ["check", "--help"], terminal_width=300).stdout
    assert ", ".join([AUTO, *LAYOUTS.own]) in " ".join(text.replace("│", " ").split())


def test_who_has_no_layout_is_told_of_every_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    for name, part in LAYOUTS.own.items():
        assert f"{name}: {part.load().expects}" in str(caught.value)


def test_a_layout_that_is_misspelt_is_guessed() -> None:
    with pytest.raises(ConfigError, match=r"unknown value 'nnunett'(?s:.*)did you mean 'nnunet'"):
        load_config("hippocampus", ["data.layout=nnunett"])
    with pytest.raises(ConfigError, match=r"unknown layout 'bidss'(?s:.*)did you mean 'bids'"):
        read_dataset(".", "bidss")


def test_every_card_has_a_layout_of_the_table() -> None:
    assert {load_card(name).layout for name in resource_names("datasets")} <= set(LAYOUTS)


def test_the_table_is_light() -> None:
    code = "import sys, medseg.data.cases.layouts as l; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "medseg.data.cases.layouts" in loaded
    assert not {"torch", "monai", "numpy", "nibabel", "SimpleITK"} & set(loaded)


class Flat(Layout):
    """A layout of another package: every text file names a scan."""

    expects = "text files"

    def recognises(self, root: Path) -> bool:
        return any(root.glob("*.txt"))

    def find(self, root: Path) -> Found:
        files = sorted(root.glob("*.txt"))
        return Found(cases=[Case(file.stem, (file.read_text(),), str(file)) for file in files], channels=("CT",))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("flat", f"{__name__}:Flat", LAYOUTS.group)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Flat.__module__])

    def entry_points(**wanted: Any) -> metadata.EntryPoints:
        return metadata.EntryPoints([entry]).select(**wanted)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr(LAYOUTS, "_found", {})


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_layout(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("scan.nii")
    assert load_config("hippocampus", ["data.layout=flat"]).data.layout == "flat"
    dataset = read_dataset(tmp_path, "flat")
    assert (dataset.layout, dataset.channels, dataset.natural) == ("flat", ("CT",), False)
    assert dataset.cases == (Case("one", ("scan.nii",), str(tmp_path / "one.txt")),)
    with pytest.raises(DataError, match=r"no dataset\.json"):  # only who names it asks it
        read_dataset(tmp_path)


@pytest.mark.usefixtures("plugin")
def test_a_layout_of_another_package_that_finds_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset\.json"):
        read_dataset(tmp_path, "flat")
    with pytest.raises(DataError, match="looks like the layout 'volumes', but 'flat' was asked for"):
        read_dataset(volumes(tmp_path), "flat")
