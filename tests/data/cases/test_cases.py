from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import list_inputs, read_dataset


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def describe(root: Path, **description: Any) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(description))


def msd(root: Path, **changes: Any) -> Path:
    names = ["b", "a", "c"]
    touch(root, *(f"{folder}/{name}.nii.gz" for name in names for folder in ("imagesTr", "labelsTr")))
    touch(root, "imagesTs/t.nii.gz", "imagesTr/._a.nii.gz")
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    labels = {"0": "background", "2": "posterior", "1": "anterior"}
    description = {"name": "Test", "modality": {"0": "T1", "1": "T2"}, "labels": labels, "training": training}
    describe(root, **(description | {"test": ["./imagesTs/t.nii.gz"]} | changes))
    return root


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def nnunet(root: Path, **changes: Any) -> Path:
    for name in ("b", "a"):
        touch(root, f"imagesTr/{name}_0000.nii.gz", f"imagesTr/{name}_0001.nii.gz", f"labelsTr/{name}.nii.gz")
    touch(root, "imagesTs/t_0000.nii.gz", "imagesTs/t_0001.nii.gz")
    description = {"channel_names": {"0": "FLAIR", "1": "T1Gd"}, "labels": REGIONS, "regions_class_order": [1, 2, 3]}
    describe(root, **(description | {"numTraining": 2, "file_ending": ".nii.gz"} | changes))
    return root


def test_msd(tmp_path: Path) -> None:
    dataset = read_dataset(msd(tmp_path))
    assert (dataset.layout, dataset.name, dataset.channels) == ("msd", "Test", ("T1", "T2"))
    assert dict(dataset.labels.classes) == {"background": 0, "anterior": 1, "posterior": 2}
    assert list(dataset.labels.classes.values()) == [0, 1, 2]
    assert [case.name for case in dataset.cases] == ["a", "b", "c"]
    assert dataset.cases[0].label == str(tmp_path / "labelsTr/a.nii.gz")
    assert dataset.unlabelled == (Case("t", (str(tmp_path / "imagesTs/t.nii.gz"),)),)


def test_nnunet_with_regions(tmp_path: Path) -> None:
    dataset = read_dataset(nnunet(tmp_path))
    assert (dataset.layout, dataset.name, dataset.channels) == ("nnunet", tmp_path.name, ("FLAIR", "T1Gd"))
    assert dataset.labels.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert dataset.labels.region_values == (1, 2, 3)
    assert dataset.labels.values == (0, 1, 2, 3)
    assert dataset.labels.classes["enhancing"] == 3
    assert dataset.cases[0].images == tuple(str(tmp_path / f"imagesTr/a_000{i}.nii.gz") for i in (0, 1))
    assert [case.name for case in dataset.unlabelled] == ["t"]


def test_nnunet_with_classes_and_an_ignore_label(tmp_path: Path) -> None:
    nnunet(tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text())
    del description["regions_class_order"]
    describe(tmp_path, **(description | {"labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}}))
    labels = read_dataset(tmp_path).labels
    assert dict(labels.classes) == {"background": 0, "liver": 1, "tumour": 2}
    assert labels.ignore_index == 3
    assert not labels.regions


def test_nnunet_first_version_and_listed_files(tmp_path: Path) -> None:
    old = tmp_path / "old"
    msd(old)
    for name in ("a", "b", "c"):
        (old / f"imagesTr/{name}.nii.gz").unlink()
        touch(old, f"imagesTr/{name}_0000.nii.gz", f"imagesTr/{name}_0001.nii.gz")
    assert read_dataset(old).cases[2].images == tuple(str(old / f"imagesTr/c_000{i}.nii.gz") for i in (0, 1))
    listed = nnunet(tmp_path / "new", dataset={"x": {"images": ["../i0.nii", "../i1.nii"], "label": "../l.nii"}})
    touch(tmp_path, "i0.nii", "i1.nii", "l.nii")
    assert [case.name for case in read_dataset(listed).cases] == ["x"]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    nnunet(tmp_path, regions_class_order=[1, 2])
    (tmp_path / "imagesTr/a_0001.nii.gz").unlink()
    (tmp_path / "labelsTr/b.nii.gz").unlink()
    touch(tmp_path, "imagesTr/b_0002.nii.gz")
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    text = str(caught.value)
    assert all(part in text for part in ("regions_class_order", "a_0001.nii.gz", "labelsTr/b.nii.gz", "b_0002.nii.gz"))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"1": "a"}}, "no background"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "twice"),
        ({"labels": {"0": "background", "300": "a"}}, "300"),
        ({"modality": None}, "channels"),
        ({"training": [{"image": "./imagesTr/a.nii.gz"}]}, "training"),
        ({"training": [], "test": []}, "no case"),
        ({"training": [{"image": f"imagesTr/{i}/a.nii", "label": "labelsTr/a.nii.gz"} for i in (1, 2)]}, "named 'a'"),
    ],
)
def test_contradictions_in_the_description(tmp_path: Path, changes: dict, message: str) -> None:
    msd(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


def test_no_data_set_there(tmp_path: Path) -> None:
    for root, message in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "no dataset.json")):
        with pytest.raises(DataError, match=message):
            read_dataset(root)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match="looks like the layout 'msd'"):
        read_dataset(msd(tmp_path), layout="nnunet")


def test_inputs_to_predict(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    touch(folder, "a.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "c.nrrd", "notes.txt", ".hidden.nii")
    two = {case.name: case.images for case in list_inputs(folder, 2)}
    assert set(two) == {"a", "b", "c"}
    assert two["b"] == (str(folder / "b_0000.nii.gz"), str(folder / "b_0001.nii.gz"))
    assert list_inputs(folder / "b_0001.nii.gz", 2) == [Case("b", two["b"])]
    assert list_inputs(folder / "a.nii.gz", 4) == [Case("a", (str(folder / "a.nii.gz"),))]
    (folder / "b_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="case 'b' has b_0000"):
        list_inputs(folder, 2)
    one = tmp_path / "one"
    touch(one, "s_0000.nii.gz", "t_0000.nii.gz")
    assert [case.name for case in list_inputs(one, 1)] == ["s", "t"]
    touch(one, "u.nii.gz", "study_2019.nii.gz")  # now the numbers are part of the names
    assert [case.name for case in list_inputs(one, 1)] == ["s_0000", "study_2019", "t_0000", "u"]
    assert [case.name for case in list_inputs(msd(tmp_path / "msd"), 2)] == ["t"]
    assert all(case.label is None for case in list_inputs(nnunet(tmp_path / "nn"), 2))
    for path, message in ((tmp_path / "nowhere", "no such"), (tmp_path / "one/u.nii.gz/x", "no such")):
        with pytest.raises(DataError, match=message):
            list_inputs(path, 1)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="no image"):
        list_inputs(tmp_path / "bare", 1)


def test_real_data_sets(test_data: Path) -> None:
    hippocampus = read_dataset(test_data / "Task04_Hippocampus")
    assert (hippocampus.layout, len(hippocampus.cases), hippocampus.channels) == ("msd", 208, ("MRI",))
    brats = read_dataset(test_data / "Dataset015_BraTS2modal")
    assert (brats.layout, len(brats.cases)) == ("nnunet", 4)
    assert brats.labels.targets == {"whole_tumour": (1, 2, 3), "tumour_core": (2, 3), "enhancing_tumour": (3,)}
    assert read_dataset(test_data / "Task01_BrainTumour_slabs").channels == ("FLAIR", "T1w", "t1gd", "T2w")


def test_nnunet_pictures_hold_their_colours_in_one_file(tmp_path: Path) -> None:
    root = tmp_path / "nnunet"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for name in ("imagesTr/a_0000.png", "labelsTr/a.png", "imagesTs/b_0000.png"):
        (root / name).touch()
    description = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "cell": 1}}
    (root / "dataset.json").write_text(json.dumps(description | {"numTraining": 1, "file_ending": ".png"}))
    dataset = read_dataset(root)
    assert [case.images for case in dataset.cases] == [(str(root / "imagesTr" / "a_0000.png"),)]
    assert [case.images for case in dataset.unlabelled] == [(str(root / "imagesTs" / "b_0000.png"),)]
    listed = [Case("b", (str(root / "imagesTs" / "b_0000.png"),))]
    assert list_inputs(root / "imagesTs", channels=3) == listed
    assert list_inputs(root / "imagesTs" / "b_0000.png", channels=3) == listed
