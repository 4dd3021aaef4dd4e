"""One case: what it is called, the files of its image, and its label where it has one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.files import check_name
from medseg.data.files.digests import CaseState, ImageState
from medseg.data.files.images import Image, case_name, read_image, read_label
from medseg.data.files.pictures import is_picture

CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")  # nnU-Net: {case}_0000.nii.gz is channel 0
ENTRY = 'expected {"image": path, or [path of each channel], "label": path, "case": name}'
LACKING = "cases may lack channels where a network is trained for it, with channel_dropout"
UNSAFE_NAME = "masks get its name: leave out slashes"


@dataclass(frozen=True)
class Case:
    """An image with what is known of it; its files need not exist.

    Args:
        name: identifier, different from that of every other case; its mask gets this name.
        images: one path a channel, or one path that holds all channels: of a file, or of the folder of a DICOM series.
            None stands in the place of a channel that the case lacks; at least one is there.
        label: path of its label map.
        patient: who it is of, where the data set says so.
    """

    name: str
    images: tuple[str | None, ...]
    label: str | None = None
    patient: str | None = None

    def __post_init__(self) -> None:
        for text in (self.name, *self.files):
            check_name(text)

    @classmethod
    def from_entry(cls, entry: Case | Mapping[str, Any]) -> Case:
        """A case as MONAI lists it: `{"image": path or [path of each channel]}`, perhaps with label, case and patient.

        Without `case`, it is called as its (first) image is. In a list, None is a channel that the case lacks.

        Raises:
            DataError: the entry has no image, something else than paths, or a name that no file can have.
        """
        if isinstance(entry, Case):
            return entry
        image, label = entry.get("image"), entry.get("label")
        images = tuple(image) if isinstance(image, list | tuple) else (image,)
        there = [path for path in images if path is not None]
        if not there or not all(isinstance(path, str | Path) and str(path) for path in there):
            raise DataError(Problem(f"the case {dict(entry)}", f"has the image {image!r}", ENTRY))
        if label is not None and not isinstance(label, str | Path):
            raise DataError(Problem(f"the case {dict(entry)}", f"has the label {label!r}", ENTRY))
        name, patient = entry.get("case"), entry.get("patient")
        name = name_of_channels(images) if name is None else str(name)
        if not is_name(name):
            raise DataError(Problem(f"the case {dict(entry)}", f"is called {name!r}", UNSAFE_NAME))
        paths = tuple(None if path is None else str(path) for path in images)
        return cls(name, paths, None if label is None else str(label), None if patient is None else str(patient))

    def entry(self) -> dict[str, Any]:
        """The case as MONAI's transforms get it; the inverse of `from_entry` but for the patient, whom none needs."""
        image = self.first if len(self.images) == 1 else list(self.images)
        entry = {"case": self.name, "image": image}
        return entry if self.label is None else entry | {"label": self.label}

    @property
    def first(self) -> str:
        """The file that stands for the image where only its format or its grid is asked for."""
        return next(path for path in self.images if path is not None)

    @property
    def there(self) -> tuple[str, ...]:
        """The paths of its image, without the channels that it lacks."""
        return tuple(path for path in self.images if path is not None)

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the channels that it lacks."""
        return tuple(number for number, path in enumerate(self.images) if path is None)

    @property
    def files(self) -> tuple[str, ...]:
        """All its paths, the label last."""
        return self.there if self.label is None else (*self.there, self.label)

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture, which has no place in a patient."""
        return is_picture(self.first)

    def state(self) -> CaseState:
        """Its files as they are on disk now, without their digests; raises DataError where one is missing."""
        images = tuple(None if path is None else ImageState.of(path) for path in self.images)
        return CaseState(images, None if self.label is None else ImageState.of(self.label))

    def read_image(self) -> Image:
        """The image `(C, *spatial)`, 0 in a channel that it lacks; raises DataError as `files.images.read_image`."""
        return read_image(self.first if len(self.images) == 1 else self.images)

    def read_label(self, on: Image | None = None) -> Image:
        """The label map `(1, *spatial)`, on the grid of its image `on` where it was cropped from that.

        Raises:
            DataError: there is none; as `read_image`.
        """
        if self.label is None:
            raise DataError(Problem(self.name, "has no label", "give it one, or leave the case out"))
        return read_label(self.label, on)


def as_cases(entries: Iterable[Case | Mapping[str, Any]]) -> list[Case]:
    """Cases of a data list, whose entries may be MONAI's dictionaries.

    Raises:
        DataError: what is wrong with every entry, at once.
    """
    cases: list[Case] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            cases.append(Case.from_entry(entry))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return cases


def by_name(cases: Iterable[Case]) -> list[Case]:
    """The cases in the order of their names."""
    return sorted(cases, key=lambda case: case.name)


def name_in_split(name: str, split: str) -> str:
    """What a case is called where its name stands in another split too, for another image."""
    return f"{split}_{name}"


def is_name(text: str) -> bool:
    """Whether a case can be called so: a file of this name lies in the folder that it is written to."""
    return bool(text) and not {"/", "\\", "\0"} & set(text) and text not in (".", "..")


def stem(path: Path) -> str:
    """The name of a file without its ending, or of a folder (a DICOM series) as it is."""
    return path.name if path.is_dir() else case_name(path)


def channel_of(path: Path) -> tuple[str, int] | None:
    """(case, channel) of a name such as `case_0001`; whether that is meant says `are_channels`, or who has a list."""
    match = CHANNEL.match(stem(path))
    return (match["case"], int(match["channel"])) if match else None


def are_channels(files: Iterable[Path]) -> int:
    """How many channels the numbers at the ends of the names count; 0 where they are parts of the names.

    They are channels where every case has exactly 0000 to n - 1, or some do and the others lack some of them:
    `pancreas_0042` and `TCGA_CS_4941` are names.
    """
    groups: dict[str, set[int]] = {}
    for file in files:
        if (found := channel_of(file)) is None:
            return 0
        groups.setdefault(found[0], set()).add(found[1])
    most = max((max(numbers) + 1 for numbers in groups.values()), default=0)
    return most if any(len(numbers) == most for numbers in groups.values()) else 0


def name_of_channels(images: Sequence[str | Path | None]) -> str:
    """What a case is called whose image is listed: by its first file, without the channel's number if it counts those.

    Args:
        images: a file a channel, None where the case lacks it, or one file.
    """
    there = [Path(path) for path in images if path is not None]
    found = [channel_of(path) for path in there]
    counted = all(one is not None and one[1] < len(images) for one in found)
    cases = {one[0] for one in found if one is not None}
    return cases.pop() if counted and len(cases) == 1 else stem(there[0])
