"""CSV lists, BIDS and folders of volumes: real files, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from medseg.core.errors import DataError
from medseg.data.cases.dataset import find_dataset, list_inputs, read_dataset
from medseg.data.cases.unnamed import channel_names, found_classes
from medseg.data.files.images import read_image
from medseg.data.files.pictures import is_picture
from medseg.data.splits.split import decide_split
from tests.dicom import write_series

VOXELS = np.arange(64, dtype=np.int16).reshape(4, 4, 4)


def save(*paths: Path, voxels: np.ndarray = VOXELS) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


# --- lists ---------------------------------------------------------------------------------------------------------


def listed(folder: Path, text: str, name: str = "cases.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_list_names_cases_patients_channels_and_labels(tmp_path: Path) -> None:
    for visit in ("a1", "a2", "b1"):
        save(tmp_path / f"scans/{visit}_t1.nii.gz", tmp_path / f"scans/{visit}_t2.nii.gz", tmp_path / f"{visit}.nii.gz")
    text = "case;patient;age;image_T1;image_T2;label\n" + "\n".join(
        f"{v};{v[0]};33;scans/{v}_t1.nii.gz;{tmp_path}/scans/{v}_t2.nii.gz;{v + '.nii.gz' if v != 'b1' else ''}"
        for v in ("a1", "a2", "b1")
    )
    dataset = read_dataset(listed(tmp_path, "\ufeff" + text + "\n\n"))
    assert (dataset.layout, dataset.channels) == ("csv", ("T1", "T2"))
    assert [case.name for case in dataset.cases] == ["a1", "a2"]
    assert dataset.cases[0].images == tuple(str(tmp_path / f"scans/a1_t{n}.nii.gz") for n in (1, 2))
    assert [case.name for case in dataset.unlabelled] == ["b1"]
    assert dataset.patients == {"a1": "a", "a2": "a", "b1": "b"}
    with pytest.raises(DataError, match=r"2 labelled case\(s\) of 1 patient"):  # a patient is not divided
        decide_split(dataset, labels=dataset.labels)


def test_every_wrong_line_of_a_list_is_told_with_its_number(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz")
    rows = ["case,patient,image,label", "a,p,a.nii.gz,a.nii.gz", "b,p,gone.nii.gz,a.nii.gz", "a,p,a.nii.gz,a.nii.gz"]
    rows += ["c,,a.nii.gz,a.nii.gz", "d,p,,a.nii.gz", "e,p,a.nii.gz", "../f,p,a.nii.gz,a.nii.gz"]
    path = listed(tmp_path, "\n".join(rows))
    _, problems = find_dataset(path)
    assert [problem.where.rpartition(":")[2] for problem in problems] == ["3", "4", "5", "6", "7", "8"]
    for problem, part in zip(problems, ["gone", "twice", "patient", "no image", "3 entries", "slashes"], strict=True):
        assert part in str(problem)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("case,scan,label", "columns case, scan, label"),
        ("image,image_T2,label", "expected image"),
        ("image,lable", "did you mean 'lable'"),
        ("", "expected image"),
    ],
)
def test_columns_that_are_missing_are_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(listed(tmp_path, header + "\n" * bool(header)))


# --- BIDS ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Three subjects, one with two sessions; a mask of a lesion for each but the last."""
    for session in ("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1", "sub-03/ses-1"):
        name = session.replace("/", "_")
        save(*(tmp_path / session / "anat" / f"{name}_{suffix}.nii.gz" for suffix in ("T1w", "FLAIR")))
        if "03" not in session:
            label = f"derivatives/manual/{session}/anat/{name}_space-orig_label-lesion_mask.nii.gz"
            save(tmp_path / label, voxels=(VOXELS > 40).astype(np.uint8))
    return tmp_path


def test_bids_sessions_are_cases_and_subjects_patients(bids: Path) -> None:
    save(bids / "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    dataset = read_dataset(bids)
    assert (dataset.layout, dataset.channels) == ("bids", ("FLAIR", "T1w"))
    assert [case.name for case in dataset.cases] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    assert [Path(path).name for path in dataset.cases[0].images] == [
        "sub-01_ses-1_FLAIR.nii.gz",
        "sub-01_ses-1_T1w.nii.gz",
    ]
    assert dataset.labels.classes == {"background": 0, "lesion": 1}
    assert [case.name for case in dataset.unlabelled] == ["sub-03_ses-1"]
    split = decide_split(dataset, labels=dataset.labels)
    training, validation = ({name[:6] for name in part} for part in (split.training, split.validation))
    assert len(training | validation) == 2
    assert not training & validation


def test_bids_names_classes_by_the_nearest_table(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/anat/sub-1_acq-a_T1w.nii.gz", tmp_path / "sub-1/anat/sub-1_acq-b_T1w.nii.gz")
    save(tmp_path / "derivatives/m/sub-1/anat/sub-1_desc-x_dseg.nii.gz")
    (tmp_path / "derivatives/m/dseg.tsv").write_text("index\tname\n1\tfar\n")
    (tmp_path / "derivatives/m/desc-x_dseg.tsv").write_text("index\tname\tcolor\n2\tcore\t#f00\n1\toedema\t#0f0\n")
    dataset = read_dataset(tmp_path)
    assert dataset.labels.classes == {"background": 0, "oedema": 1, "core": 2}
    assert dataset.channels == ("acq-a_T1w", "acq-b_T1w")
    (tmp_path / "derivatives/m/desc-x_dseg.tsv").write_text("index\tname\none\toedema\n")
    with pytest.raises(DataError, match=r"dseg.tsv:2.*index 'one'"):
        read_dataset(tmp_path)


def remove_flair(root: Path) -> None:
    (root / "sub-02/ses-1/anat/sub-02_ses-1_FLAIR.nii.gz").unlink()


def second_rater(root: Path) -> None:
    save(root / "derivatives/second/sub-02/ses-1/anat/sub-02_ses-1_label-lesion_mask.nii.gz")


def label_alone(root: Path) -> None:
    save(root / "derivatives/manual/sub-09/anat/sub-09_label-lesion_mask.nii.gz")


def two_labels(root: Path) -> None:
    save(root / "derivatives/manual/sub-02/ses-1/anat/sub-02_ses-1_run-2_label-lesion_mask.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_flair, r"sub-02_ses-1 has no FLAIR \(FLAIR in 2 of 3\)"),
        (second_rater, "several kinds of labels: .*second"),
        (label_alone, "sub-09.*has no image among the raw data"),
        (two_labels, "sub-02_ses-1 has another label"),
    ],
)
def test_what_is_ambiguous_in_bids_is_never_chosen_in_silence(bids: Path, spoil: Callable, message: str) -> None:
    spoil(bids)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(bids)
    assert len(caught.value.problems) == 1


# --- folders -------------------------------------------------------------------------------------------------------


def test_folders_of_volumes_and_of_series(tmp_path: Path) -> None:
    save(tmp_path / "images/a.nii.gz", tmp_path / "labels/a_seg.nii.gz", voxels=VOXELS % 3)
    write_series(tmp_path / "images/b", VOXELS)
    save(tmp_path / "labels/b.nii.gz", voxels=VOXELS % 3)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "volumes"
    assert [(case.name, Path(case.label).name) for case in dataset.cases] == [
        ("a", "a_seg.nii.gz"),
        ("b", "b.nii.gz"),
    ]
    assert found_classes(dataset) == ({"background": 0, "class_1": 1, "class_2": 2}, None)
    assert channel_names(dataset) == ("0",)
    (tmp_path / "images/a.nii.gz").unlink()
    (tmp_path / "labels/a_seg.nii.gz").unlink()
    assert channel_names(read_dataset(tmp_path)) == ("CT",)


def test_channels_of_volumes_are_files(tmp_path: Path) -> None:
    save(*(tmp_path / f"images/{case}_000{n}.nii.gz" for case in "ab" for n in range(2)))
    save(tmp_path / "labels/a.nii.gz", tmp_path / "labels/b.nii.gz")
    assert read_dataset(tmp_path).channels == ("0", "1")
    (tmp_path / "images/b_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="case 'b' has b_0000"):
        read_dataset(tmp_path)


def test_volumes_and_labels_that_miss_each_other(tmp_path: Path) -> None:
    save(tmp_path / "images/a.nii.gz", tmp_path / "images/a.nii", tmp_path / "labels/z.nii.gz")
    _, problems = find_dataset(tmp_path)
    text = "\n".join(map(str, problems))
    assert "several images are named 'a'" in text
    assert "has no label" in text
    assert "z.nii.gz: has no image" in text


def test_values_that_are_void_foreground_or_too_many(tmp_path: Path) -> None:
    save(tmp_path / "images/a.nii.gz")
    for values, expected in (
        ([0, 255], ({"background": 0, "class_255": 255}, None)),
        ([0, 1, 255], ({"background": 0, "class_1": 1}, 255)),
    ):
        save(tmp_path / "labels/a.nii.gz", voxels=np.resize(np.array(values, np.uint8), (4, 4, 4)))
        assert found_classes(read_dataset(tmp_path)) == expected
    save(tmp_path / "labels/a.nii.gz", voxels=np.arange(125, dtype=np.uint8).reshape(5, 5, 5))
    with pytest.raises(DataError, match="124 different values"):
        found_classes(read_dataset(tmp_path))


# --- TIFF volumes --------------------------------------------------------------------------------------------------


def test_a_tiff_with_its_spacing_beside_it_is_a_volume(tmp_path: Path) -> None:
    """As nnU-Net's Tiff3DIO: the axes (z, y, x) on disk, as the spacing."""
    (tmp_path / "imagesTr").mkdir()
    file = tmp_path / "imagesTr/cell_0000.tif"
    tifffile.imwrite(file, np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
    assert is_picture(file)
    (tmp_path / "imagesTr/cell.json").write_text(json.dumps({"spacing": [4.0, 2.0, 1.0]}))
    assert not is_picture(file)
    image = read_image(file)
    assert image.shape == (4, 3, 2)
    assert image.spacing_mm == (1.0, 2.0, 4.0)
    assert image.array[0, 3, 2, 1] == 23
    assert list_inputs(tmp_path / "imagesTr", 1)[0].name == "cell"
    (tmp_path / "imagesTr/cell.json").write_text(json.dumps({"spacing": [4.0, 2.0]}))
    with pytest.raises(DataError, match="three spacings"):
        read_image(file)


def test_a_label_of_slices_without_its_spacing_says_what_to_add(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cell.tif", np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"case.json with \{.spacing"):
        read_image(tmp_path / "cell.tif", channel_axis=False)
