"""Cases that lack channels: listed with None in their place where they may, else refused with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import find_dataset, list_inputs, read_dataset, with_channels
from medseg.data.files.images import read_image
from medseg.workflows.check import check

REMEDY = "with channel_dropout"
NAMES = ("FLAIR", "T1", "T1gd")


def save(path: Path, seed: int = 0, shape: tuple[int, ...] = (4, 5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 2 if "label" in str(path) else 99, shape, np.uint8)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def described(root: Path, **content: object) -> Path:
    (root / "dataset.json").write_text(json.dumps({"channel_names": dict(zip("012", NAMES, strict=True)), **content}))
    return root


def nnunet(root: Path) -> Path:
    for name in (
        "imagesTr/a_0000",
        "imagesTr/a_0001",
        "imagesTr/a_0002",
        "imagesTr/b_0001",
        "labelsTr/a",
        "labelsTr/b",
    ):
        save(root / f"{name}.nii.gz")
    return described(root, labels={"background": 0, "tumour": 1}, file_ending=".nii.gz")


def msd(root: Path) -> Path:
    nnunet(root)
    training = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in "ab"]
    return described(root, labels={"0": "background", "1": "tumour"}, training=training, test=[])


def csv(root: Path) -> Path:
    nnunet(root)
    files = ["imagesTr/{0}_0000.nii.gz", "imagesTr/{0}_0001.nii.gz", "imagesTr/{0}_0002.nii.gz", "labelsTr/{0}.nii.gz"]
    rows = [[path.format(name) for path in files] for name in "ab"]
    rows[1][0] = rows[1][2] = ""
    header = ["case", *(f"image_{name}" for name in NAMES), "label"]
    lines = [header, *([name, *row] for name, row in zip("ab", rows, strict=True))]
    (root / "list.csv").write_text("\n".join(",".join(line) for line in lines))
    return root / "list.csv"


def bids(root: Path) -> Path:
    for name, channels in {"a": NAMES, "b": NAMES[1:2]}.items():
        for number, channel in enumerate(channels):
            save(root / f"sub-{name}/anat/sub-{name}_{channel}.nii.gz", number)
        save(root / f"derivatives/labels/sub-{name}/anat/sub-{name}_dseg.nii.gz")
    return root


def volumes(root: Path) -> Path:
    for name in ("a_0000", "a_0001", "a_0002", "b_0001"):
        save(root / f"images/{name}.nii.gz")
    save(root / "labels/a.nii.gz")
    save(root / "labels/b.nii.gz")
    return root


LAYOUTS: list[Callable[[Path], Path]] = [nnunet, msd, csv, bids, volumes]


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_lists_a_case_with_none_for_the_channel_that_it_lacks(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    root = write(tmp_path)
    with pytest.raises(DataError, match=REMEDY):
        read_dataset(root)
    _, problems = find_dataset(root)
    assert len(problems) in (1, 2), problems  # a line, a session or a case; or a file each
    dataset = read_dataset(root, missing=True)
    whole, lacking = dataset.cases
    assert (whole.missing, lacking.missing) == ((), (0, 2))
    assert lacking.images[0] is lacking.images[2] is None
    assert lacking.first == lacking.images[1] == lacking.there[0]
    assert lacking.files == (lacking.images[1], lacking.label)
    assert dataset.splits == {}
    assert lacking == Case.from_entry(lacking.entry() | {"patient": lacking.patient})
    if write is not csv:
        assert [finding.level for finding in check(root, progress=False).findings].count("error") == len(problems)


@pytest.mark.parametrize("write", [nnunet, csv, bids])
def test_a_case_without_any_channel_is_a_mistake_always(write: Callable[[Path], Path], tmp_path: Path) -> None:
    root = write(tmp_path)
    if write is csv:
        root.write_text(root.read_text().replace("imagesTr/b_0001.nii.gz", ""))
    for file in (*tmp_path.glob("imagesTr/b_*"), *tmp_path.glob("sub-b/anat/*")):
        file.unlink()
    with pytest.raises(DataError, match=r"has no image|no such file"):
        read_dataset(root, missing=True)


def test_a_folder_to_predict(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "a_0002", "b_0001", "c_0000", "c_0002"):
        save(tmp_path / f"{name}.nii.gz")
    with pytest.raises(DataError, match=REMEDY) as caught:
        list_inputs(tmp_path, 3)
    assert len(caught.value.problems) == 2
    cases = list_inputs(tmp_path, 3, NAMES)
    assert [case.missing for case in cases] == [(), (0, 2), (1,)]
    (alone,) = list_inputs(tmp_path / "c_0002.nii.gz", 3, NAMES)
    assert alone == cases[2]
    save(tmp_path / "d_0003.nii.gz")  # no channel that there is
    with pytest.raises(DataError, match="case 'd' has d_0003") as caught:
        list_inputs(tmp_path, 3, NAMES)
    assert len(caught.value.problems) == 1


def test_channels_of_a_data_set_are_found_by_their_names(tmp_path: Path) -> None:
    root = bids(tmp_path)
    for file in tmp_path.glob("sub-*/anat/*_FLAIR.nii.gz"):
        file.unlink()
    a, b = list_inputs(root, 4, ("t1GD", "T2", "T1", "FLAIR"))
    assert [None if path is None else Path(path).name for path in a.images] == [
        "sub-a_T1gd.nii.gz",
        None,
        "sub-a_T1.nii.gz",
        None,
    ]
    assert b.missing == (0, 1, 3)
    with pytest.raises(DataError, match="has the channels T1, T1gd, but expected are T1, T2, FLAIR"):
        list_inputs(root, 3, ("T1", "T2", "FLAIR"))
    dataset = read_dataset(root, missing=True)
    assert with_channels(dataset, ("one", "other")) is dataset  # other words for as many
    assert with_channels(dataset, dataset.channels) is dataset
    counted = read_dataset(volumes(tmp_path / "counted"), missing=True)
    assert with_channels(counted, ("a", "b", "c", "d")).cases[0].missing == (3,)


def test_a_missing_channel_is_zero_and_said(tmp_path: Path) -> None:
    case = read_dataset(nnunet(tmp_path), missing=True).cases[1]
    image = case.read_image()
    assert image.missing == (0, 2)
    assert image.array.shape == (3, 4, 5, 6)
    assert not image.array[[0, 2]].any()
    assert np.array_equal(image.array[1], read_image(case.first).array[0])
    save(tmp_path / "other.nii.gz", shape=(4, 5, 7))
    with pytest.raises(DataError, match="channels on different grids: shape"):
        read_image([None, case.first, str(tmp_path / "other.nii.gz")])
    for nothing in ([None, None], {"image": [None, None]}):
        with pytest.raises(DataError, match=r"at least one file|has the image"):
            read_image(nothing) if isinstance(nothing, list) else Case.from_entry(nothing)
