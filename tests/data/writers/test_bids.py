"""Masks by names of BIDS: every name a subject of its own, entities kept in their order, tables that are read back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.labels import Labels
from medseg.data.cases.dataset import read_dataset
from medseg.data.cases.masks import match_masks
from medseg.data.writers.base import about_masks, writer_of
from medseg.data.writers.bids import BIDSWriter, class_table, mask_name, subject_label
from tests.corpus.bids import COUNT, bids
from tests.corpus.labels import ball, save

CLASSES = Labels({"background": 0, "tumour": 3, "+core": 7, "-left": 8, "a, b": 9}, colours={"tumour": (1, 2, 255)})
REGIONS = Labels({"background": 0, "oedema": 1, "core": 2}, {"whole": (1, 2), "inner": (2,)}, (1, 2))


@pytest.mark.parametrize(
    ("case", "file"),
    [
        ("sub-01", "sub-01/anat/sub-01_dseg.nii.gz"),
        ("sub-01_T1w", "sub-01/anat/sub-01_dseg.nii.gz"),
        ("sub-01_ses-02", "sub-01/ses-02/anat/sub-01_ses-02_dseg.nii.gz"),
        ("sub-01_ses-02_run-1", "sub-01/ses-02/anat/sub-01_ses-02_run-1_dseg.nii.gz"),
        ("sub-01_run-1_acq-x_T2w", "sub-01/anat/sub-01_acq-x_run-1_dseg.nii.gz"),
        ("sub-01_dir-AP_dwi", "sub-01/anat/sub-01_dseg.nii.gz"),
        ("sub-01_space-MNI_desc-preproc_T1w", "sub-01/anat/sub-01_space-MNI_desc-preproc_dseg.nii.gz"),
        ("hippocampus", "sub-hippocampus/anat/sub-hippocampus_dseg.nii.gz"),
        ("case_7", "sub-caseZ5F7/anat/sub-caseZ5F7_dseg.nii.gz"),
        ("caseZ5F7", "sub-caseZ5A5F7/anat/sub-caseZ5A5F7_dseg.nii.gz"),
        ("sub-01_run-b_T1w", "sub-subZ2D01Z5FrunZ2DbZ5FT1w/anat/sub-subZ2D01Z5FrunZ2DbZ5FT1w_dseg.nii.gz"),
        ("sub-01_acq-a_acq-b", "sub-subZ2D01Z5FacqZ2DaZ5FacqZ2Db/anat/sub-subZ2D01Z5FacqZ2DaZ5FacqZ2Db_dseg.nii.gz"),
    ],
)
def test_a_mask_is_named_after_its_case(case: str, file: str) -> None:
    assert BIDSWriter().file(Path("out"), case) == Path("out") / file


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_name_can_be_told_from_its_subject(name: str) -> None:
    label = subject_label(name)
    assert re.fullmatch("[0-9A-Za-z]+", label)
    back = re.sub(b"Z(..)", lambda found: bytes.fromhex(found[1].decode()), label.encode())
    assert back.decode() == name


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
def test_the_table_says_what_masks_hold_and_is_read_back(labels: Labels, tmp_path: Path) -> None:
    root = bids(tmp_path, "derivatives/medseg/{1}/anat/{0}_dseg")
    for about in about_masks(["bids"], [], labels):
        (root / "derivatives/medseg" / about.name).write_text(about.text)
    found = read_dataset(root)
    assert len(found.cases) == COUNT
    assert dict(found.labels.classes) == dict(labels.classes)
    first = class_table(CLASSES).splitlines()[:3]
    assert first == ["index\tname\tcolor", "0\tbackground\t#000000", "3\ttumour\t#0102FF"]


def test_what_else_stands_in_the_data_set_is_said_not_to_be_of_it(tmp_path: Path) -> None:
    """Maps and sidecars in `medseg/` are no labels, whatever a class is called."""
    root = bids(tmp_path, "derivatives/ours/{1}/anat/{0}_dseg")
    texts = {about.name: about.text for about in about_masks(["auto", "bids"], ["sub-00_space-MNI_T1w"], CLASSES)}
    assert texts.keys() == {"dseg.tsv", "dataset_description.json", ".bidsignore", "space-MNI_dseg.json"}
    assert "medseg" in texts[".bidsignore"].splitlines()
    assert json.loads(texts["dataset_description.json"])["DatasetType"] == "derivative"
    for name, text in texts.items():
        (root / "derivatives/ours" / name).write_text(text)
    save(root / "derivatives/ours/medseg/sub-00_probability_mask.nii.gz", ball())
    found = read_dataset(root)
    assert len(found.cases) == COUNT


@pytest.mark.parametrize(
    ("label", "mask", "layout"),
    [
        ("case_7", "sub-caseZ5F7/anat/sub-caseZ5F7_dseg", "nnunet"),
        ("sub-01_T1w", "sub-01/anat/sub-01_dseg", "nnunet"),
        ("sub-01/anat/sub-01_desc-manual_mask", "sub-01/anat/sub-01_dseg", "nnunet"),
        ("sub-01/anat/sub-01_desc-manual_mask", "sub-01/anat/sub-01_dseg", "bids"),
        ("sub-01/anat/sub-01_run-1_label-x_mask", "sub-01/anat/sub-01_dseg", "bids"),
        ("sub-01/anat/sub-01_T2w_seg-manual", "sub-01", "bids"),
    ],
)
def test_masks_are_scored_by_names_of_bids(label: str, mask: str, layout: str, tmp_path: Path) -> None:
    save(tmp_path / f"truth/{label}.nii.gz", ball())
    save(tmp_path / f"masks/{mask}.nii.gz", ball())
    save(tmp_path / "masks/medseg/sub-01_entropy.nii.gz", ball())
    found = match_masks(tmp_path / "masks", tmp_path / "truth", layout)
    assert [(pair.case, pair.prediction) for pair in found.pairs] == [
        (Path(label).name, tmp_path / f"masks/{mask}.nii.gz")
    ]
    assert (found.problems, found.without_truth) == ((), ())


def test_no_mask_is_taken_for_one_of_two_labels(tmp_path: Path) -> None:
    for name in ("sub-01_T1w", "sub-01_T2w", "sub-02"):
        save(tmp_path / f"truth/{name}.nii.gz", ball())
    for name in ("sub-01", "sub-02"):
        save(tmp_path / f"masks/{name}/anat/{name}_dseg.nii.gz", ball())
    found = match_masks(tmp_path / "masks", tmp_path / "truth", "nnunet")
    assert [pair.case for pair in found.pairs] == ["sub-02"]
    assert [problem.where for problem in found.problems] == ["sub-01_T1w", "sub-01_T2w"]
    assert found.without_truth == ("sub-01_dseg",)


def test_values_and_grid_are_those_of_the_mask(tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), affine), tmp_path / "scan.nii.gz")
    mask = (3 * (np.arange(120).reshape(6, 5, 4) % 2)).astype(np.uint8)
    file = writer_of("bids").file(tmp_path, mask_name("scan"))
    writer_of("bids").write_mask(file, mask, like=tmp_path / "scan.nii.gz", labels=CLASSES)
    written = nib.load(file)
    assert np.array_equal(np.asarray(written.dataobj), mask)
    assert np.array_equal(written.affine, affine)
