"""What a whole data set measures: the facts from which `medseg plan` derives a config (nnU-Net's "fingerprint").

Isensee et al. 2021, Nature Methods 18, 203-211. Everything is measured on the axes that preprocessing will have:
volumes on R-A-S, pictures as they lie. Every case is read once, by as many threads as there are cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from medseg.core.boxes import bounding_box
from medseg.core.errors import DataError, Problem
from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.coarseness import Slices, coarseness, spacing_doubt, thick_slices
from medseg.data.cases.dataset import Dataset
from medseg.data.cases.values import class_values
from medseg.data.files.images import RESAMPLE, Image, as_volume, grid_difference
from medseg.data.training.grids import in_plane
from medseg.data.training.transforms import background_value
from medseg.planning.evidence import mirror_likeness, thumbnail

Measured: TypeAlias = "tuple[CasePrint, np.ndarray, np.ndarray]"
SAMPLES_A_CASE = 10_000  # foreground voxels of which intensities are kept, evenly spaced
LEAST_CASES = 10  # with fewer, an order of classes along an axis may be chance
DIRECTIONS = {2: ("up-down", "left-right"), 3: ("left-right", "front-back", "up-down")}
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


@dataclass(frozen=True)
class CasePrint:
    """What one labelled case measures, its axes in the order of the preprocessed image.

    Args:
        orientation: axis codes of the file.
        shape: voxels of the file.
        cropped_shape: of the box of voxels that are not background in some channel.
        voxels: class -> how many it has.
        components: target (class or region) -> connected parts (face neighbours).
        centres_mm: class -> its centre along the axes, from the image's left posterior inferior corner.
        coarseness: of each axis, against the others, by the voxels (`data.cases.coarseness`).
        target_box: voxels of the box around all targets; empty where there are none.
    """

    case: str
    orientation: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    cropped_shape: tuple[int, ...]
    voxels: Mapping[str, int]
    components: Mapping[str, int]
    centres_mm: Mapping[str, tuple[float, ...]]
    coarseness: tuple[float, ...]
    target_box: tuple[int, ...] = ()


@dataclass(frozen=True)
class Intensities:
    """Intensities of one channel inside the foreground (every class but the background), over all cases."""

    channel: str
    mean: float
    std: float
    minimum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    maximum: float


@dataclass(frozen=True)
class Fingerprint:
    """A data set, measured.

    Args:
        modality: CT, MR, or RGB or image where they are pictures.
        classes: without the background.
        mirror_likeness: of each axis, how like its mirror image is what the images have in common, from 1 to -1
            (`evidence.mirror_likeness`).
    """

    name: str
    modality: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    intensities: tuple[Intensities, ...]
    cases: tuple[CasePrint, ...]
    mirror_likeness: tuple[float, ...]

    @property
    def spatial_dims(self) -> int:
        return len(self.cases[0].shape)

    @property
    def image(self) -> str:
        """What a person calls an image of it."""
        return "picture" if self.spatial_dims == 2 else "volume"

    @property
    def point(self) -> str:
        """What a person calls a point of its grid."""
        return "pixel" if self.spatial_dims == 2 else "voxel"

    def directions(self, axes: Sequence[int]) -> str:
        """What a person calls axes of the preprocessed image (R-A-S, or rows and columns): "left-right and up-down"."""
        return " and ".join(DIRECTIONS[self.spatial_dims][axis] for axis in axes)

    @property
    def has_spacing(self) -> bool:
        """Whether the files say how far apart their points are; of pictures most do not, and have 1."""
        return self.spatial_dims == 3 or bool((self.spacings_mm() != 1).any())

    @property
    def of_what(self) -> str:
        """Its cases and channels, for a sentence: "82 labelled cases of FLAIR", "585 labelled cases: grey pictures"."""
        counted, channels = f"{len(self.cases)} labelled cases", len(self.channels)
        if any(map(channel_said, self.channels)):
            return f"{counted} of {', '.join(self.channels)}"
        grey = "grey " * (self.spatial_dims == 2 and channels == 1)
        return f"{counted}: {grey}{self.image}s" + f" of {channels} channels" * (channels > 1)

    def spacings_mm(self) -> np.ndarray:
        """(cases, axes)."""
        return np.array([case.spacing_mm for case in self.cases])

    def shapes(self, *, cropped: bool) -> np.ndarray:
        """Voxels (cases, axes) of the files, or of the boxes that are not background."""
        return np.array([case.cropped_shape if cropped else case.shape for case in self.cases])

    def cropped_share(self) -> float:
        """The median share of a volume that lies in the box of voxels that are not background."""
        return float(np.median(self.shapes(cropped=True).prod(1) / self.shapes(cropped=False).prod(1)))

    def target_share(self, *, cropped: bool) -> float:
        """The median share that the box of a case's targets has of the volume, or of the box that is not background."""
        pairs = [(c.target_box, c.cropped_shape if cropped else c.shape) for c in self.cases if c.target_box]
        return float(np.median([np.prod(box) / np.prod(shape) for box, shape in pairs])) if pairs else 1.0

    def frequency(self, name: str) -> float:
        """Share of a class in all voxels of the boxes."""
        voxels = sum(case.voxels[name] for case in self.cases)
        return voxels / int(self.shapes(cropped=True).prod(1, dtype=np.int64).sum())

    def presence(self) -> dict[str, frozenset[str]]:
        """Case -> the classes that it has."""
        return {case.case: frozenset(name for name, count in case.voxels.items() if count) for case in self.cases}

    def slices(self) -> Slices:
        """The coarsest axis of volumes, by the voxels and by the headers."""
        return thick_slices(self.spacings_mm(), self._coarseness())

    def spacing_doubt(self) -> str:
        """Why the spacing in the headers cannot be true; empty where it may be."""
        return spacing_doubt(self.spacings_mm(), self.shapes(cropped=False), self._coarseness())

    def _coarseness(self) -> np.ndarray:
        """(cases, axes)."""
        return np.array([case.coarseness for case in self.cases])

    def one_sided_axes(self, consistency: float = 0.9) -> list[int]:
        """Axes along which two classes lie the same way round in nearly all cases: mirrored, they would be impossible.

        Args:
            consistency: share of the cases with both classes in which one of them lies on the same side.
        """
        found = set()
        for one in self.classes:
            for other in self.classes:
                pairs = [c.centres_mm for c in self.cases if one in c.centres_mm and other in c.centres_mm]
                if one < other and len(pairs) >= LEAST_CASES:
                    offsets = np.array([np.subtract(pair[one], pair[other]) for pair in pairs])
                    found |= set(np.flatnonzero((offsets > 0).mean(0) >= consistency).tolist())
                    found |= set(np.flatnonzero((offsets < 0).mean(0) >= consistency).tolist())
        return sorted(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def channel_said(name: str) -> str:
    """The name of a channel for a person; none of one that has only a number (`data/cases/unnamed.py`)."""
    return "" if name.isdigit() else name


def fingerprint(
    dataset: Dataset,
    modality: str,
    *,
    labels: Labels | None = None,
    channels: Sequence[str] | None = None,
    progress: bool = True,
) -> Fingerprint:
    """Measure every labelled case of a data set.

    Args:
        modality: as in the fingerprint; kept as it is.
        labels, channels: in the place of the data set's own (a card's).
        progress: show a bar (in a terminal).

    Raises:
        DataError: no labelled case, or every problem of all the cases that cannot be measured, at once.
    """
    if not dataset.cases:
        raise DataError(Problem(str(dataset.root), "has no labelled case", "a plan needs labels to learn from"))

    meaning, names = labels or dataset.labels, tuple(channels or dataset.channels)

    work = partial(_measure, labels=meaning, channels=len(names))
    measured = every_result(work, dataset.cases, bar="measure" if progress else None)
    if len({len(case.shape) for case, _, _ in measured}) > 1 and not any(case.is_picture for case in dataset.cases):
        each = zip(dataset.cases, measured, strict=True)  # a slice among volumes is a volume of one
        measured = [one if len(one[0].shape) == 3 else work(case, volume=True) for case, one in each]
    cases = tuple(case for case, _, _ in measured)
    if len({len(case.shape) for case in cases}) > 1:
        raise DataError(Problem(str(dataset.root), "mixes pictures and volumes", "train on one kind at a time"))
    samples = np.concatenate([sample for _, sample, _ in measured], axis=1)
    if not samples.size:
        raise DataError(Problem(str(dataset.root), "no label has a voxel of any class", "look at the labels"))
    return Fingerprint(
        name=dataset.name,
        modality=modality,
        channels=names,
        classes=tuple(name for name, value in meaning.classes.items() if value != meaning.background),
        targets=tuple(meaning.targets),
        intensities=tuple(_intensities(*pair) for pair in zip(names, samples, strict=True)),
        cases=cases,
        mirror_likeness=mirror_likeness(np.stack([small for _, _, small in measured])),
    )


def _measure(case: Case, labels: Labels, channels: int, volume: bool = False) -> Measured:
    """The case, intensities of its foreground (channels, at most `SAMPLES_A_CASE`), and its thumbnail.

    A single slice is an image of two dimensions, unless a `volume` is asked for.
    """
    image = case.read_image()
    label = case.read_label(image)
    if volume:
        image, label = as_volume(image), as_volume(label)
    if len(image.array) != channels:
        raise DataError(Problem(str(image.path), f"image of {len(image.array)} channels, expected {channels}"))
    if difference := grid_difference(image, label):
        raise DataError(Problem(str(label.path), f"label on another grid than its image: {difference}", RESAMPLE))
    values = class_values(label, labels)[0]
    order, orientation = _axes(image)
    spacing = tuple(round(float(image.spacing_mm[axis]), 6) for axis in order)
    flat = values.reshape(-1)
    counts_as_foreground = np.ones(256, bool)
    counts_as_foreground[[value for value in (labels.background, *labels.ignored) if value is not None]] = False
    found = flat[where := np.flatnonzero(counts_as_foreground[flat])]
    counts, centres = {}, {}
    for name, value in labels.classes.items():
        if value != labels.background:
            own = where[found == value]
            counts[name] = len(own)
            if len(own):
                middle = [float(index.mean()) for index in np.unravel_index(own, values.shape)]
                turned = [values.shape[a] - 1 - m if orientation[a] in "LPI" else m for a, m in enumerate(middle)]
                centres[name] = tuple(turned[axis] * image.spacing_mm[axis] for axis in order)
    chosen = where
    if len(where) > SAMPLES_A_CASE:
        chosen = where[np.linspace(0, len(where) - 1, SAMPLES_A_CASE).astype(np.int64)]
    sample = image.array.reshape(channels, -1)[:, chosen].astype(np.float64)
    if not np.isfinite(sample).all():
        raise DataError(Problem(str(image.path), "voxels that are NaN or infinite", "repair or remove the image"))
    sample[list(image.missing)] = np.nan
    measured = np.delete(image.array, image.missing, axis=0)
    box = bounding_box(foreground := _foreground(measured))
    coarse = coarseness(measured[:, *box], foreground[box])
    small = thumbnail(measured)
    if len(image.shape) == 3:  # pictures lie as they do
        small = np.flip(small, tuple(axis for axis, code in enumerate(orientation) if code in "LPI")).transpose(order)
    return (
        CasePrint(
            case=case.name,
            orientation=orientation,
            shape=tuple(int(image.shape[axis]) for axis in order),
            spacing_mm=spacing,
            cropped_shape=tuple(box[axis].stop - box[axis].start for axis in order),
            voxels=counts,
            components={name: _parts(values, group) for name, group in labels.targets.items()},
            centres_mm=centres,
            coarseness=tuple(coarse[axis] for axis in order),
            target_box=_target_box(values, labels, order),
        ),
        sample,
        small,
    )


def _axes(image: Image) -> tuple[list[int], str]:
    """The axes in the order left-right, posterior-anterior, inferior-superior (pictures: as is), and the codes."""
    if len(image.shape) == 2:
        return [0, 1], "".join(str(code) for code in nib.aff2axcodes(in_plane(image))[:2])
    codes = "".join(str(code) for code in nib.aff2axcodes(image.affine))
    return [next(i for i, code in enumerate(codes) if code in pair) for pair in ("LR", "PA", "IS")], codes


def _foreground(array: np.ndarray) -> np.ndarray:
    """Voxels (*spatial) of an image (C, *spatial) that differ from their channel's background, as `CropToForegroundd`.

    All, where there is no background or nothing else.
    """
    foreground = np.zeros(array.shape[1:], bool)
    for channel in array:
        corners = channel[tuple(slice(None, None, max(size - 1, 1)) for size in channel.shape)]
        background = background_value(torch.from_numpy(corners.astype(np.float32)))
        if background is None:
            return np.ones_like(foreground)
        foreground |= channel != background
    return foreground if foreground.any() else ~foreground


def _target_box(values: np.ndarray, labels: Labels, order: Sequence[int]) -> tuple[int, ...]:
    box = bounding_box(np.isin(np.arange(256), labels.target_values)[values])
    lengths = tuple(box[axis].stop - box[axis].start for axis in order)
    return lengths if all(lengths) else ()


def _parts(values: np.ndarray, members: Sequence[int]) -> int:
    mask = np.isin(values, members)
    if not mask.any():
        return 0
    return int(components(mask[ndimage.find_objects(mask.view(np.uint8))[0]])[1])


def _intensities(channel: str, values: np.ndarray) -> Intensities:
    values = values[~np.isnan(values)]
    if not values.size:
        raise DataError(Problem(channel, "no labelled case has this channel", "add it, or leave it out of all cases"))
    middle = {name: float(np.percentile(values, share)) for name, share in PERCENTILES.items()}
    extremes = {"minimum": float(values.min()), "maximum": float(values.max())}
    return Intensities(channel, mean=float(values.mean()), std=float(values.std()), **middle, **extremes)
