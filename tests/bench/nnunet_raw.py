"""A data set of any layout that medseg reads, as nnU-Net wants it: a part of `nnunet.py`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from medseg.bundle.facts import DataFacts
from medseg.data.cases.case import Case
from medseg.data.files.images import case_name
from medseg.data.files.pictures import read_picture

PNG = ".png"


def lay_out(root: Path, cases: Iterable[Case], facts: DataFacts, raw: Path) -> str:
    """Write `raw` (imagesTr, labelsTr, dataset.json): volumes as links, pictures as PNG files for its natural reader.

    Returns:
        The ending of its files.
    """
    cases = list(cases)
    if not cases[0].is_picture and len(cases[0].images) != len(facts.channels):
        raise SystemExit(f"{cases[0].first} holds several channels: nnU-Net wants a file for each")
    shutil.rmtree(raw, ignore_errors=True)
    pictures = cases[0].is_picture
    end = PNG if pictures else _ending(cases[0])
    for case in cases:
        for channel, image in enumerate(case.images):
            place = raw / "imagesTr" / f"{case.name}_{channel:04d}{end}"
            _pixels(Path(image), place) if pictures else link(Path(image), place)
        label, place = Path(str(case.label)), raw / "labelsTr" / f"{case.name}{end}"
        _pixels(label, place, label=True) if pictures else link(label, place)
    description = _description(root, facts) | {"numTraining": len(cases), "file_ending": end}
    (raw / "dataset.json").write_text(json.dumps(description))
    return end


def link(target: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def _description(root: Path, facts: DataFacts) -> dict[str, Any]:
    """Its own dataset.json where the data set is in nnU-Net's layout, else from what medseg knows of it."""
    own = root / "dataset.json"
    if own.is_file() and "channel_names" in (known := json.loads(own.read_text())):
        return known
    labels = facts.labels
    names = {"background" if value == 0 else name: value for name, value in labels.classes.items()}
    if labels.ignore_index is not None:
        names["ignore"] = labels.ignore_index
    return {"channel_names": {str(n): name for n, name in enumerate(facts.channels)}, "labels": names}


def _ending(case: Case) -> str:
    name = Path(case.first).name
    return name[len(case_name(case.first)) :]


def _pixels(source: Path, place: Path, *, label: bool = False) -> None:
    """The pixels as they are, without loss; of a label with a palette its values."""
    place.parent.mkdir(parents=True, exist_ok=True)
    array = read_picture(source, label=label).array
    Pillow.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)).save(place)
