"""BIDS out: masks as a derivative data set, `sub-01[/ses-02]/anat/sub-01[_ses-02]..._dseg.nii.gz`.

A case that is named as BIDS has it (`sub-01_ses-02_acq-hires_T1w`, or a session of a BIDS data set) keeps the entities
that a segmentation may have. Any other name becomes the label of a subject: letters and digits stay, all else (and `Z`)
becomes `Z` and two hexadecimal digits a byte, so `case_7` is `sub-caseZ5F7` and no two names are one subject. What
the values mean is in `dseg.tsv`, who made the masks in `dataset_description.json`.

Source: BIDS 1.10, "Imaging data types (derivatives)", discrete segmentations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from medseg import __version__
from medseg.core.labels import Labels
from medseg.core.tables import tab_separated
from medseg.data.files.nifti import class_colour
from medseg.data.writers import OWN
from medseg.data.writers.base import About
from medseg.data.writers.single import FileWriter

VERSION = "1.10.0"  # of BIDS
IGNORE = ".bidsignore"
DESCRIPTION, TABLE = "dataset_description.json", "dseg.tsv"
DATATYPE = "anat"
SUBJECT, SESSION, SPACE = "sub", "ses", "space"
ENTITIES = (SESSION, "task", "acq", "ce", "rec", "run", "echo", "part", SPACE, "chunk", "desc")  # in the order of BIDS
NUMBERED = ("run", "echo", "chunk")
NAMED = re.compile(r"sub-[0-9A-Za-z]+(_[a-z]+-[0-9A-Za-z]+)*(_[A-Za-z][0-9A-Za-z]*)?")
ESCAPE = "Z"
BESIDE = (OWN, "/volumes.csv", "/*.nii.gz", "/*.nrrd", "/*.mha")  # what else `predict` writes there, which is not BIDS


def mask_name(case: str) -> str:
    """What the mask of a case is called, without ending."""
    return "_".join([*(f"{key}-{value}" for key, value in mask_entities(case).items()), "dseg"])


def mask_entities(case: str) -> dict[str, str]:
    """The entities of the mask of a case, in the order of BIDS."""
    pairs = [part.partition("-")[::2] for part in case.split("_") if "-" in part] if NAMED.fullmatch(case) else []
    found = dict(pairs)
    if not pairs or len(found) < len(pairs) or not all(found.get(key, "1").isdecimal() for key in NUMBERED):
        return {SUBJECT: subject_label(case)}
    return {key: found[key] for key in (SUBJECT, *ENTITIES) if key in found}


def subject_label(case: str) -> str:
    """Letters and digits that stand for a name, of which no two names have the same."""
    return "".join(char if _plain(char) else _escaped(char) for char in case)


def _plain(char: str) -> bool:
    return char.isascii() and char.isalnum() and char != ESCAPE


def _escaped(char: str) -> str:
    return "".join(f"{ESCAPE}{byte:02X}" for byte in char.encode())


class BIDSWriter(FileWriter):
    """NIfTI, in folders and by names of BIDS."""

    def __init__(self) -> None:
        super().__init__(ending=".nii.gz")

    def file(self, folder: Path, name: str) -> Path:
        found = mask_entities(name)
        who = [f"{key}-{found[key]}" for key in (SUBJECT, SESSION) if key in found]
        return super().file(folder.joinpath(*who, DATATYPE), mask_name(name))

    def about(self, cases: Collection[str], labels: Labels) -> list[About]:
        made_by = {"Name": "medseg", "Version": __version__}
        description = {
            "Name": "Segmentations by medseg",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [made_by],
        }
        spaces = sorted({found[SPACE] for case in cases if SPACE in (found := mask_entities(case))})
        return [
            About(TABLE, class_table(labels), lasting=True),
            About(DESCRIPTION, _json(description)),
            About(IGNORE, "".join(f"{line}\n" for line in BESIDE)),
            *(About(f"{SPACE}-{space}_dseg.json", _json({"SpatialReference": space})) for space in spaces),
        ]


def class_table(labels: Labels) -> str:
    """The values of masks, their names and colours, as `dseg.tsv` has them."""
    names = {value: name for name, value in labels.classes.items()}
    names = {**{value: name for name, value in labels.mask_values.items()}, **names}
    colours = {value: labels.colours.get(name, class_colour(value)) for value, name in names.items()}
    rows = [
        {"index": value, "name": names[value], "color": "#{:02X}{:02X}{:02X}".format(*colours[value])}
        for value in sorted(names)
    ]
    return tab_separated(rows, ("index", "name", "color"))


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
