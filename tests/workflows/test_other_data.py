"""Another data set than a run's own: its channels and its classes are found by their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset, list_inputs, read_dataset, with_channels
from medseg.data.cases.values import class_values
from medseg.data.files.images import Image
from medseg.runs.folder import read_run
from medseg.runs.other_data import read_other, understood

CLASSES = {"background": 0, "organ": 1, "lesion": 2}
KNOWN = Labels(CLASSES)
MERGED = Labels({"background": 0, "organ": 1}, merged={"organ": (2,)})
UNIONS = {"whole": (1, 2), "core": (2,)}
REGIONS = Labels({"background": 0, "edema": 1, "core": 2}, regions=UNIONS, region_values=(1, 2))


def described(labels: Labels) -> Dataset:
    return Dataset(Path("there"), "msd", "there", ("T1",), labels, (), ())


@pytest.mark.parametrize(
    ("known", "there", "values"),
    [
        (KNOWN, {"background": 0, "lesion": 1, "organ": 2}, {0: 0, 1: 2, 2: 1}),
        (KNOWN, {"background": 1, "organ": 0, "lesion": 2}, {0: 1, 1: 0, 2: 2}),
        (KNOWN, {"background": 0, "lesion": 3, "organ": 1}, {0: 0, 1: 1, 3: 2}),
        (KNOWN, {"background": 0, "lesion": 1, "vein": 2}, {0: 0, 1: 2, 2: 0}),
        (KNOWN, {"bg": 0, "lesion": 1, "organ": 2}, {0: 0, 1: 2, 2: 1}),
        (MERGED, {"background": 2, "organ": 1}, {2: 0, 1: 1}),
        (REGIONS, {"background": 0, "edema": 2, "core": 1}, {0: 0, 1: 2, 2: 1}),
    ],
)
def test_classes_are_found_by_their_names(
    known: Labels, there: dict[str, int], values: dict[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = understood(described(Labels(there, background=there.get("background", 0))), known)
    image = Image(np.array([*values], np.uint8)[None], np.eye(4), Path("a.nii"))
    assert class_values(image, labels).ravel().tolist() == [*values.values()]
    assert replace(labels, recoded={}, undeclared=()) == known
    assert "labels are compared by their names" in capsys.readouterr().out


def test_what_is_ignored_there_is_ignored() -> None:
    there = Labels({"background": 0, "lesion": 1, "organ": 3}, ignore_index=2, also_ignored=(9,))
    for known, kept in ((KNOWN, 255), (replace(KNOWN, ignore_index=7), 7)):
        labels = understood(described(there), known)
        image = Image(np.array([0, 1, 2, 3, 9], np.uint8)[None], np.eye(4), Path("a.nii"))
        assert class_values(image, labels).ravel().tolist() == [0, 2, kept, 1, 9]
        assert {kept, 9} <= set(labels.ignored)
        assert Labels.from_plain(labels.to_plain()) == labels
    assert "recoded" not in KNOWN.to_plain(), "an older version reads the file of a run"


@pytest.mark.parametrize(
    ("known", "there", "undeclared"),
    [
        (Labels({"background": 0, "tumour": 1, "cyst": 2}), Labels({"background": 0, "tumour": 2}), {1}),
        (KNOWN, Labels({"background": 0, "lesion": 3, "organ": 1}), {2}),
        (KNOWN, Labels({"background": 0, "liver": 1}), {2}),
        (replace(KNOWN, ignore_index=255), Labels(CLASSES), {255}),
        (KNOWN, Labels({"background": 0, "lesion": 1, "organ": 3}, ignore_index=2), {255}),
        (MERGED, Labels({"background": 0, "organ": 2}), {1}),
        (REGIONS, Labels({"background": 0, "core": 2}), {1}),
        (KNOWN, Labels(CLASSES), set()),
        (KNOWN, Labels({"organ": 1, "lesion": 2}), set()),
        (KNOWN, Labels({"background": 0, "lesion": 5}, merged={"lesion": (1, 2)}), set()),
        (KNOWN, Labels({}), set()),
    ],
)
def test_a_value_that_is_not_declared_there_means_nothing(known: Labels, there: Labels, undeclared: set[int]) -> None:
    labels = understood(described(there), known)
    assert set(labels.undeclared) == undeclared
    assert Labels.from_plain(json.loads(json.dumps(labels.to_plain()))) == labels
    for value in {*there.known, 0}:
        class_values(Image(np.full((1, 2, 2), value, np.uint8), np.eye(4), Path("a.nii")), labels)
    for value in undeclared:
        voxels = np.array([[[value, 0], [0, value]]], np.uint8)
        with pytest.raises(DataError, match=rf"no classes here: {value} \(2 voxels\)"):
            class_values(Image(voxels, np.eye(4), Path("a.nii")), labels)


def test_a_background_alone_is_not_found_by_its_name() -> None:
    with pytest.raises(DataError, match="class 'background' is 1, in the run 0") as refused:
        understood(described(Labels({"background": 1, "liver": 0}, background=1)), KNOWN)
    assert all(problem.remedy for problem in refused.value.problems)


def test_regions_of_other_values_are_refused() -> None:
    understood(described(replace(REGIONS, regions={"core": (2,), "whole": (2, 1)})), REGIONS)
    swapped = {"background": 0, "edema": 2, "core": 1}
    unions = {"whole": (1, 2), "core": (1,)}
    assert understood(described(Labels(swapped, unions, (2, 1))), REGIONS).recoded == {2: 1, 1: 2}
    with pytest.raises(DataError, match="region 'whole' has the values 1, in the run 1, 2"):
        understood(described(replace(REGIONS, regions={"whole": (1,), "core": (2,)})), REGIONS)


@pytest.mark.parametrize(
    ("known", "there", "said"),
    [
        (KNOWN, CLASSES, ""),
        (KNOWN, {}, ""),
        (MERGED, CLASSES, ""),
        (MERGED, {"background": 0, "organ": 2}, ""),
        (KNOWN, {"background": 0, "liver": 1, "tumour": 2}, "1 is 'liver' there and 'organ' in the run; 2 is 'tumour'"),
        (KNOWN, {**CLASSES, "vein": 3}, "'vein' (3) there is no class of the run, and counts as background"),
        (KNOWN, {"background": 0, "lesion": 1, "organ": 2}, "'lesion' is 1 there and 2 in the run"),
    ],
)
def test_other_words_are_said(
    known: Labels, there: dict[str, int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    understood(described(Labels(there)), known)
    out = capsys.readouterr().out
    assert said in out
    assert bool(out) == bool(said)


def nnunet(root: Path, names: list[str]) -> Path:
    """One case whose files are called by the channels that they hold."""
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
    channels = {str(number): name for number, name in enumerate(names)}
    description = {"labels": CLASSES, "file_ending": ".nii.gz", "numTraining": 1, "channel_names": channels}
    for number, name in enumerate(names):
        (root / "imagesTr" / f"a_{number:04d}.nii.gz").write_text(name)
    (root / "labelsTr" / "a.nii.gz").touch()
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def content(case: Case) -> list[str]:
    return [Path(path).read_text() for path in case.there]


Read = Callable[[Path], list[Case]]
WAYS: dict[str, Read] = {
    "--data": lambda root: list(with_channels(read_dataset(root), ("T1", "T2"), missing=False).cases),
    "--input": lambda root: list_inputs(root, 2, None, ("T1", "T2")),
}


@pytest.mark.parametrize("way", WAYS)
def test_channels_are_found_by_their_names(way: str, tmp_path: Path) -> None:
    read = WAYS[way]
    for number, names in enumerate((["T1", "T2"], ["T2", "T1"], ["t2", "t1"])):
        (case,) = read(nnunet(tmp_path / str(number), names))
        assert [name.upper() for name in content(case)] == ["T1", "T2"]
    (case,) = read(nnunet(tmp_path / "words", ["mprage", "flair"]))
    assert content(case) == ["mprage", "flair"], "other words for the same, in their order"
    for number, names in enumerate((["T1", "FLAIR"], ["T1"], ["T1", "T2", "PD"])):
        with pytest.raises(DataError, match="but expected are T1, T2"):
            read(nnunet(tmp_path / f"wrong{number}", names))


def test_a_single_file_in_another_order_is_refused() -> None:
    case = Case("a", ("a.nii.gz",), "label.nii.gz")
    one = Dataset(Path("there"), "msd", "there", ("T2", "T1"), KNOWN, (case,), ())
    with pytest.raises(DataError, match="has the channels T2, T1 in one file, but expected are T1, T2: a"):
        with_channels(one, ("T1", "T2"))
    assert with_channels(replace(one, channels=("T1", "T2")), ("T1", "T2")).cases == (case,)
    assert with_channels(replace(one, channels=()), ("T1", "T2")).cases == (case,)


@pytest.mark.slow
def test_a_run_reads_another_data_set_so(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = read_run(trained[0])
    assert [run.facts.channels, dict(run.facts.labels.classes)] == [("T1", "T2"), CLASSES]
    dataset, _ = read_other([run], nnunet(tmp_path / "swapped", ["T2", "T1"]))
    assert content(dataset.cases[0]) == ["T1", "T2"]
    other = json.loads((nnunet(tmp_path / "classes", ["T1", "T2"]) / "dataset.json").read_text())
    other["labels"] = {"background": 0, "lesion": 1, "organ": 2}
    (tmp_path / "classes" / "dataset.json").write_text(json.dumps(other))
    _, (read,) = read_other([run], tmp_path / "classes")
    assert read.facts.labels.counts_as == {1: 2, 2: 1}
