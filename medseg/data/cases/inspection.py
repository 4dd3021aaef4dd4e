"""Look at one case before training: what it measures, and everything that is wrong with it, all at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from scipy import ndimage

from medseg.core.errors import DataError, Problem
from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.coarseness import LINE_VOXELS, coarseness, same_cubes
from medseg.data.cases.kinds import CT, TO_HU, extremes, kind_of, no_hounsfield
from medseg.data.cases.values import meanings, unknown_values
from medseg.data.files.cause import cause
from medseg.data.files.images import (
    GRID_TOLERANCE_VOXELS,
    Image,
    grid_difference,
    is_nifti,
    label_values,
    one_channel,
    read_image,
    read_label,
)
from medseg.data.files.nifti_geometry import BOTH_FORMS
from medseg.data.files.pictures import is_picture
from medseg.data.files.spacing import RESPACED, SAY_IT
from medseg.data.training.size import entry_bytes

COPY_HEADER = "if they overlay voxel by voxel, copy the image's header to it; if not, resample it onto the image's grid"
LEAST_MM, MOST_MM = 0.001, 20.0  # of a voxel's side: less is no scan of a patient, nor is more
IMPOSSIBLE = "spacing that cannot be true"
UNEXPECTED = "unexpected label values"
RESAMPLE_LABEL = "resample it onto the image's grid (labels: nearest neighbour)"

OTHER_SPACING = "spacing that is not the file's own"
NOT_ALL = "image that is not all that is there"
SOME = 10  # voxels along each axis that are looked at first
NOTED = "look at it: is this the scan that is meant?"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`) or odd (`warning`). Findings of one `kind` are shown together."""

    level: Literal["error", "warning"]
    kind: str
    case: str
    file: str
    detail: str
    remedy: str = ""

    def problem(self) -> Problem:
        """The same, as an error shows it."""
        where = ": ".join(part for part in (self.case, self.file) if part)
        return Problem(where, f"{self.kind}: {self.detail}" if self.detail else self.kind, self.remedy)


@dataclass
class CaseFacts:
    """What one case measures; what could not be read stays empty.

    `coarseness` is that of `data.cases.coarseness`, along the axes of the file. `voxels` and `components` go from the
    name of a class or region to the number of its voxels and of its connected components (face neighbours); both are
    None without a readable label.
    """

    case: str
    labelled: bool
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    orientation: str = ""
    channels: int = 0
    coarseness: tuple[float, ...] = ()
    voxels: dict[str, int] | None = None
    components: dict[str, int] | None = None
    digest: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def memory_bytes(self) -> int:
        """Size as float32 image and uint8 label on the file's own grid: what the cache stores and a loader holds."""
        voxels = math.prod(self.shape) if self.shape else 0
        return entry_bytes(voxels, self.channels, labelled=self.labelled)


def counted(labels: Labels) -> dict[str, tuple[int, ...]]:
    """What is counted: name -> label values, every class but the background, then every region."""
    classes = {name: (value,) for name, value in labels.classes.items() if value != labels.background}
    return {**classes, **labels.regions}


def inspect_case(
    case: Case,
    channels: Sequence[str],
    labels: Labels,
    *,
    loaded: Mapping[str, Any] | None = None,
    line_voxels: int = 0,
) -> CaseFacts:
    """Read the files of one case and judge them. Never raises for what is wrong with a file.

    Files that do not exist are passed over in silence: whoever listed the case has reported them.

    Args:
        loaded: what `LoadCased` found in this case when it read it (`measured`, `counts`), and so need not be
            looked for again, nor what it refuses; nor are parts counted, or the image measured. None: all is.
        line_voxels: with `loaded`, measure the first channel's coarseness by so many voxels, if the spacing is
            isotropic; 0: do not.
    """
    facts = CaseFacts(case.name, labelled=case.label is not None)
    try:
        image = _inspect_image(facts, case, channels, loaded, line_voxels)
        if case.label is not None and Path(case.label).is_file():
            _inspect_label(facts, Path(case.label), image, labels, loaded)
    except Exception as error:  # one strange case must not hide the findings in all the others
        what = f"{type(error).__name__}: {cause(error)}"
        facts.findings.append(Finding("error", "case that could not be checked", facts.case, "", what))
    return facts


def _inspect_image(
    facts: CaseFacts, case: Case, channels: Sequence[str], loaded: Mapping[str, Any] | None, line_voxels: int
) -> Image | None:
    """The first readable file of the image, for the label to be compared with."""
    images, one_each = [], len(case.images) > 1
    measured = None if loaded is None else loaded.get("measured")
    digest = hashlib.blake2b(digest_size=16)
    for number, file in enumerate(case.images):
        if file is None or (loaded is None and not Path(file).exists()):
            continue
        path = Path(file)
        try:
            one = one_channel(read_image(path)) if one_each else read_image(path)
        except DataError as error:
            _report(facts, "unreadable image", error, path)
            continue
        images.append(one)
        _doubt(facts, one)
        if loaded is None:
            digest.update(np.ascontiguousarray(one.array).data)
        own = measured[number : number + 1] if measured is not None and one_each else measured
        _inspect_voxels(facts, one, path, channels[number:] if one_each else channels, own)
        for note in one.notes:
            kind, remedy = (OTHER_SPACING, "") if note.startswith(RESPACED) else (NOT_ALL, NOTED)
            _add(facts, "warning", kind, path, note, remedy)
    if not images:
        return None
    first = images[0]
    facts.shape, facts.spacing_mm = first.shape, first.spacing_mm
    if any(not LEAST_MM <= side < MOST_MM for side in facts.spacing_mm) and not is_picture(first.path):
        what = f"{' x '.join(f'{side:.4g}' for side in facts.spacing_mm)} mm"
        _add(facts, "warning", IMPOSSIBLE, first.path, what, SAY_IT)
    facts.channels = len(case.images) if one_each else len(first.array)
    if is_nifti(first.path) and first.sform_code == first.qform_code == 0:
        what = "sform and qform codes are 0"
        remedy = "the orientation below is a guess: convert the scan again, or set the header's affine"
        _add(facts, "warning", "header that does not say how the patient lies", first.path, what, remedy)
    if loaded is not None:
        if line_voxels and same_cubes(np.array([facts.spacing_mm])):
            facts.coarseness = _coarseness(first.array[:1], line_voxels)
        return first
    for other in images[1:]:
        _compare(facts, "channels on different grids", first, other)
    facts.coarseness = _coarseness(first.array)
    facts.orientation = "".join(str(code) for code in nib.aff2axcodes(first.affine)[: len(first.shape)])
    facts.digest = digest.hexdigest()
    if not one_each and facts.channels != len(channels):
        what = f"{facts.channels} in the file of shape {first.shape}, {len(channels)} in dataset.json"
        turned = first.shape[0] == len(channels) > 1
        remedy = "the channels seem to come first: write them last" if turned else f"expected {', '.join(channels)}"
        _add(facts, "error", "wrong number of channels", first.path, what, remedy)
    return first


def _inspect_voxels(
    facts: CaseFacts, image: Image, path: Path, names: Sequence[str], measured: Sequence[Mapping[str, Any]] | None
) -> None:
    """`measured` as `data.cases.kinds.measured`, where somebody has done it."""
    for index, channel in enumerate(image.array):
        name = f"channel {index}: " if len(image.array) > 1 else ""
        ct = index < len(names) and kind_of(names[index]) == CT
        if measured is None and not ct and _differ(channel):
            continue
        one = extremes(channel) if measured is None else measured[index]
        low, high = one["low"], one["high"]  # not finite if any voxel is not
        if not (np.isfinite(low) and np.isfinite(high)):
            nans, infinite = int(np.isnan(channel).sum()), int(np.isinf(channel).sum())
            what = f"{name}{nans} NaN, {infinite} infinite of {channel.size}"
            remedy = (
                "find where they come from (a division in a preprocessing step?), or replace them by the background"
            )
            _add(facts, "error", "NaN or infinite voxels", path, what, remedy)
        elif low == high:
            what = f"{name}every voxel is {low:g}"
            _add(facts, "warning", "image without contrast", path, what, "look at it: is the export damaged?")
        elif ct and (why := no_hounsfield(low, high)):
            _add(facts, "warning", "CT that is not in HU", path, f"{name}{why}", TO_HU)


def _differ(channel: np.ndarray) -> bool:
    """Whether some voxels show already that whole numbers, which are finite, are not all the same."""
    if channel.dtype.kind not in "iu":
        return False
    some = channel[tuple(slice(None, None, max(1, size // SOME)) for size in channel.shape)]
    return bool((some != some.flat[0]).any())


def _inspect_label(
    facts: CaseFacts, path: Path, image: Image | None, labels: Labels, loaded: Mapping[str, Any] | None
) -> None:
    try:
        label = read_label(path, image if loaded is None else None)
    except DataError as error:
        _report(facts, "unreadable label", error, path)
        return
    _doubt(facts, label)
    if loaded is None and image is not None:
        _compare(facts, "label on another grid than its image", image, label)
    for name, value in label.segments:
        if labels.classes.get(name, value) != value:
            what = f"the segment {name!r} has the value {value}, but the class of this name {labels.classes[name]}"
            _add(facts, "error", "segment of another value", path, what, "give all segmentations the same label values")
    if loaded is not None and "counts" in loaded:
        facts.voxels = _voxels(loaded["counts"], labels)
        return
    try:
        values = label_values(label, labels.counts_as)[0]
    except DataError as error:
        _report(facts, "label values that are no classes", error, path)
        return
    counts = np.bincount(values.ravel(), minlength=256)
    if problem := unknown_values(counts, str(path), meanings(labels)):
        _add(facts, "error", UNEXPECTED, path, problem.what, problem.remedy)
    facts.voxels = _voxels(counts, labels)
    if loaded is None:
        facts.components = {name: _components(values, members) for name, members in counted(labels).items()}


def _voxels(counts: np.ndarray, labels: Labels) -> dict[str, int]:
    each = counts.tolist()
    return {name: sum(each[value] for value in members) for name, members in counted(labels).items()}


def _coarseness(array: np.ndarray, line_voxels: int = LINE_VOXELS) -> tuple[float, ...]:
    """Of a volume `(C, *spatial)`, where it is not background; of a picture nothing."""
    if array.ndim != 4:
        return ()
    corner = array[(slice(None), *[slice(1)] * 3)]
    return coarseness(array, (array != corner).any(0), line_voxels)


def _doubt(facts: CaseFacts, image: Image) -> None:
    for doubt in image.doubts:
        remedy = SAY_IT if "pixdim" in doubt else BOTH_FORMS
        _add(facts, "warning", "header that contradicts itself", image.path, doubt, remedy)


def _components(values: np.ndarray, members: Sequence[int]) -> int:
    mask = np.isin(values, members)
    if not mask.any():
        return 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return int(components(mask[box])[1])


def _compare(facts: CaseFacts, kind: str, image: Image, other: Image) -> None:
    if difference := grid_difference(image, other):
        remedy = COPY_HEADER if image.shape == other.shape else RESAMPLE_LABEL
        remedy += f" (tolerance: {GRID_TOLERANCE_VOXELS:g} voxel)"
        _add(facts, "error", kind, other.path, difference, remedy)


def _report(facts: CaseFacts, kind: str, error: DataError, path: Path) -> None:
    for problem in error.problems:
        what = problem.what.removeprefix("unreadable image: ")
        _add(facts, "error", kind, path, what, problem.remedy or "correct the file, or take the case out")


def _add(
    facts: CaseFacts, level: Literal["error", "warning"], kind: str, path: Path, detail: str, remedy: str = ""
) -> None:
    facts.findings.append(Finding(level, kind, facts.case, path.name, detail, remedy))
