"""BIDS as data sets have it: labels of many names, data types, sessions, runs; what is ambiguous is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.core.labels import Labels
from medseg.data.cases.dataset import read_dataset
from medseg.data.writers.base import writer_of
from tests.corpus.labels import ball, image, save
from tests.corpus.nnunet import scored
from tests.corpus.situation import Subjects, read, refused, without

COUNT = 5
PREDICTED = Labels({"background": 0, "-left": 1})


def bids(root: Path, label: str, *, scans: tuple[str, ...] = ("anat/{0}_T2w",), sessions: str = "") -> Path:
    """`{0}` stands for subject and session in the names, `{1}` for their folders."""
    for number in range(COUNT):
        name = f"sub-{number:02d}" + (f"_{sessions}" if sessions else "")
        inner = name.replace("_", "/")
        for place, scan in enumerate(scans):
            save(root / inner / f"{scan.format(name)}.nii.gz", image(number + 10 * place))
        save(root / f"{label.format(name, inner)}.nii.gz", ball())
    return root


def labelled(root: Path, count: int = COUNT, classes: dict[str, int] | None = None, channels: tuple = ()) -> None:
    found = read_dataset(root)
    assert (found.layout, len(found.cases)) == ("bids", count), (found.layout, len(found.cases))
    assert classes is None or dict(found.labels.classes) == classes, found.labels.classes
    assert not channels or found.channels == channels, found.channels


@read(__name__)
def a_mask_with_a_description(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/manual/{1}/anat/{0}_desc-manual_mask")
    yield lambda: labelled(folder, classes={"background": 0, "manual": 1})


@read(__name__)
def seg_of_a_label(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/labels/{1}/anat/{0}_T2w_label-SC_seg")
    yield lambda: labelled(folder, classes={"background": 0, "SC": 1})


@read(__name__)
def seg_manual(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/labels/{1}/anat/{0}_T2w_seg-manual")
    yield lambda: labelled(folder)


@read(__name__)
def lesion_manual(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/labels/{1}/anat/{0}_T2w_lesion-manual")
    yield lambda: labelled(folder, classes={"background": 0, "lesion": 1})


@read(__name__)
def msk_of_three_scans(folder: Path) -> Subjects:
    scans = ("dwi/{0}_dwi", "dwi/{0}_adc", "anat/{0}_FLAIR")
    yield bids(folder, "derivatives/{1}/{0}_msk", scans=scans, sessions="ses-0001")
    yield lambda: labelled(folder, channels=("FLAIR", "adc", "dwi"))


@read(__name__)
def susceptibility(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/manual/{1}/swi/{0}_desc-bleed_mask", scans=("swi/{0}_part-mag_GRE",))
    yield lambda: labelled(folder, classes={"background": 0, "bleed": 1})


@read(__name__)
def runs_are_channels_of_one_label(folder: Path) -> Subjects:
    scans = ("anat/{0}_run-1_T1w", "anat/{0}_run-2_T1w")
    yield bids(folder, "derivatives/manual/{1}/anat/{0}_desc-lesion_mask", scans=scans, sessions="ses-a")
    yield lambda: labelled(folder, channels=("run-1_T1w", "run-2_T1w"))


@read(__name__)
def runs_with_a_label_each_are_cases(folder: Path) -> Subjects:
    bids(folder, "derivatives/manual/{1}/anat/{0}_run-1_desc-lesion_mask", scans=("anat/{0}_run-1_T1w",))
    for number in range(COUNT):
        save(folder / f"sub-{number:02d}/anat/sub-{number:02d}_run-2_T1w.nii.gz", image(number + 70))
        save(
            folder / f"derivatives/manual/sub-{number:02d}/anat/sub-{number:02d}_run-2_desc-lesion_mask.nii.gz", ball()
        )
    yield folder
    yield lambda: labelled(folder, 2 * COUNT, channels=("T1w",))


@read(__name__)
def labels_in_a_folder_beside(folder: Path) -> Subjects:
    yield bids(folder, "labels/{0}_space-orig_mask")
    yield lambda: labelled(folder)


@read(__name__)
def labels_beside_the_scans(folder: Path) -> Subjects:
    yield bids(folder, "{1}/anat/{0}_label-lesion_mask")
    yield lambda: labelled(folder, classes={"background": 0, "lesion": 1}, channels=("T2w",))


@read(__name__)
def classes_of_a_table(folder: Path) -> Subjects:
    bids(folder, "derivatives/m/{1}/anat/{0}_dseg")
    (folder / "derivatives/m/dseg.tsv").write_text("index\tname\n1\tcore\n")
    yield folder
    yield lambda: labelled(folder, classes={"background": 0, "core": 1})


@read(__name__)
def a_brain_mask_beside_the_annotation(folder: Path) -> Subjects:
    bids(folder, "derivatives/manual/{1}/anat/{0}_label-lesion_mask")
    for number in range(COUNT):
        save(folder / f"derivatives/prep/sub-{number:02d}/anat/sub-{number:02d}_desc-brain_mask.nii.gz", ball())
        save(folder / f"derivatives/prep/sub-{number:02d}/anat/sub-{number:02d}_label-GM_probseg.nii.gz", ball())
        save(folder / f"derivatives/prep/sub-{number:02d}/anat/sub-{number:02d}_desc-preproc_T1w.nii.gz", ball())
    yield folder
    yield lambda: labelled(folder, classes={"background": 0, "lesion": 1})


@refused(__name__, "several kinds of labels", "T2w_seg-manual", "T2w_lesion-manual", "choose by a list")
def two_structures_in_files_of_their_own(folder: Path) -> Subjects:
    bids(folder, "derivatives/labels/{1}/anat/{0}_T2w_seg-manual")
    yield bids(folder, "derivatives/labels/{1}/anat/{0}_T2w_lesion-manual")


@refused(__name__, "several kinds of labels", "desc-rater1", "desc-rater2")
def two_raters(folder: Path) -> Subjects:
    for rater in ("rater1", "rater2"):
        bids(folder, f"derivatives/manual/{{1}}/anat/{{0}}_label-lesion_desc-{rater}_mask")
    yield folder


@refused(__name__, "no file is named as a label", "tumour_outline")
def labels_of_unknown_names(folder: Path) -> Subjects:
    yield bids(folder, "derivatives/manual/{1}/anat/{0}_tumour_outline")


@read(__name__)
def scans_alone(folder: Path) -> Subjects:
    for number in range(COUNT):
        save(folder / f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz", image(number))
        save(
            folder / f"derivatives/prep/sub-{number:02d}/anat/sub-{number:02d}_desc-preproc_T1w.nii.gz",
            image(number).astype(np.float32),
        )
    yield folder
    yield lambda: labelled(folder, 0)


def predicted(root: Path, names: Sequence[str]) -> Path:
    """Masks as `predict --format bids` leaves them: in folders of subjects, with what speaks of all of them."""
    writer = writer_of("bids")
    for name in names:
        save(writer.file(root, name), ball())
    for about in writer.about(names, PREDICTED):
        (root / about.name).write_text(about.text)
    save(root / f"medseg/{names[0]}_probability_mask.nii.gz", ball())
    return root


@read(__name__)
def masks_by_medseg_beside_their_images(folder: Path) -> Subjects:
    for number in range(COUNT):
        save(folder / f"sub-{number:02d}/ses-1/anat/sub-{number:02d}_ses-1_T1w.nii.gz", image(number))
    predicted(folder / "derivatives/network", [f"sub-{number:02d}_ses-1" for number in range(COUNT)])
    yield folder
    yield lambda: labelled(folder, classes=dict(PREDICTED.classes), channels=("T1w",))


@read(__name__)
def masks_by_medseg_are_scored_by_their_own_labels(folder: Path) -> Subjects:
    names = ["case_7", "pat.1 left", "sub-01_acq-x_T1w", "Zed"]
    for name in names:
        save(folder / f"labels/{name}.nii.gz", ball())
    predicted(folder / "masks", names)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "-left": 1}}))
    yield lambda: scored(folder / "masks", folder / "labels", folder / "dataset.json", len(names))


@read(__name__)
def masks_by_medseg_are_scored_by_labels_of_bids(folder: Path) -> Subjects:
    for number in range(COUNT):
        save(folder / f"manual/sub-{number:02d}/anat/sub-{number:02d}_run-1_desc-manual_mask.nii.gz", ball())
    predicted(folder / "masks", [f"sub-{number:02d}" for number in range(COUNT)])
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "-left": 1}}))
    yield lambda: scored(folder / "masks", folder / "manual", folder / "dataset.json", COUNT)


@refused(__name__, "holds labels of BIDS, but no images", "in its derivatives/")
def masks_by_medseg_alone(folder: Path) -> Subjects:
    yield predicted(folder / "masks", ["sub-01", "case_7"])


without(__name__, "medseg.data.cases.layouts.bids_labels.as_it_was", lambda cell: cell)
without(__name__, "medseg.data.cases.layouts.bids_labels._is_own", lambda file: False)
without(__name__, "medseg.data.cases.masks._by_their_cases", lambda masks, labels: masks)
without(__name__, "medseg.data.cases.masks.mask_name", lambda case: case)
without(__name__, "medseg.data.cases.masks._session_of", lambda name, keys=(): "")
without(__name__, "medseg.data.cases.layouts.bids._masks", lambda root: iter(()))
without(__name__, "medseg.data.cases.layouts.bids_labels.rater", lambda file: "")
without(__name__, "medseg.data.cases.layouts.bids_labels.LABELS", ("mask", "dseg"))
without(__name__, "medseg.data.cases.layouts.bids.are_of_runs", lambda files, who: False)
without(__name__, "medseg.data.cases.layouts.bids.DATATYPES", ("anat", "ct", "pet"))
