"""Deterministic preprocessing: from files to `(C, *spatial)` tensors on a common grid, as MONAI dict transforms.

Every step is a class with plain keyword arguments, so a bundle can name it by `_target_`. After each step the `affine`
of a tensor describes the grid it lies on, which is all that the way back to the native grid needs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, MapTransform, Orientationd, Spacingd, SpatialCrop

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import LACKING
from medseg.data.cases.kinds import measured
from medseg.data.cases.values import check_values
from medseg.data.files.images import RESAMPLE, Image, case_name, grid_difference, label_values, read_image, read_label
from medseg.data.training.grids import LongestSided, SlicesFirstd, in_plane, plain
from medseg.data.training.moments import moments
from medseg.inference.colour import COLOUR_SCALES

Step = tuple[type, dict[str, Any]]
MODES = ("zscore", "zscore_nonzero", "zscore_bright", "ct", "none")
AXES = (("L", "R"), ("P", "A"), ("I", "S"))  # MONAI's names of the ends of each axis, said aloud: its default changes


def preprocessing(
    *,
    keys: Sequence[str] = ("image", "label"),
    orientation: str = "RAS",
    spacing_mm: Sequence[float | None] | None = None,
    longest_side: int | None = None,
    crop_to_foreground: bool = False,
    normalization: str | Sequence[str] = "zscore",
    window_hu: Sequence[float] = (-160.0, 240.0),
    ct_mean_std: Sequence[float] | None = None,
    spatial_dims: int = 3,
    slices_first: bool = False,
    channels: int | None = None,
    values: Mapping[int, str] | None = None,
    counts_as: Mapping[int, int] | None = None,
    missing: bool = False,
) -> Compose:
    """Load, orient, crop, normalise, resample: `{"image": path(s)[, "label": path]}` -> tensors with their affine.

    Args:
        spatial_dims: of the images.
        slices_first: the last axis becomes the first one, for a network that sees a volume slice by slice.
    """
    arguments = dict(locals())
    return Compose([step(**options) for step, options in preprocessing_steps(**arguments)])


def preprocessing_steps(
    *,
    keys: Sequence[str],
    orientation: str,
    spacing_mm: Sequence[float | None] | None,
    longest_side: int | None = None,
    crop_to_foreground: bool,
    normalization: str | Sequence[str],
    window_hu: Sequence[float],
    ct_mean_std: Sequence[float] | None = None,
    spatial_dims: int,
    slices_first: bool = False,
    channels: int | None = None,
    values: Mapping[int, str] | None = None,
    counts_as: Mapping[int, int] | None = None,
    missing: bool = False,
    region: Step | None = None,
) -> list[Step]:
    """The steps of `preprocessing` as (class, keyword arguments); `region` crops a normalised volume to its targets."""
    keys = list(keys)
    axcodes = orientation[:spatial_dims]
    loading: dict[str, Any] = {"keys": keys, "spatial_dims": spatial_dims, "channels": channels}
    if values is not None:
        loading["values"] = dict(values)
    if counts_as:
        loading["counts_as"] = dict(counts_as)
    if missing:
        loading["missing"] = True
    # bytes stay bytes, in the cache and on the way to the device
    sized: list[Step] = [] if longest_side is None else [(LongestSided, {"keys": keys, "longest_side": longest_side})]
    if isinstance(normalization, str) and normalization in COLOUR_SCALES:
        return [(LoadCased, loading | {"keep_bytes": True}), *sized]
    steps: list[Step] = [
        (LoadCased, loading),
        (
            Orientationd,
            {"keys": keys, "axcodes": axcodes, "labels": [list(ends) for ends in AXES], "allow_missing_keys": True},
        ),
    ]
    if crop_to_foreground:
        steps.append((CropToForegroundd, {"keys": keys, "source_key": "image"}))
    # normalise before resampling, as nnU-Net: interpolation must not blur the background into the statistics
    mode = normalization if isinstance(normalization, str) else list(normalization)
    scaling: dict[str, Any] = {"keys": ["image"], "mode": mode, "window_hu": list(window_hu)}
    if ct_mean_std is not None:
        scaling["ct_mean_std"] = list(ct_mean_std)
    steps.append((Normalized, scaling))
    if region is not None:  # behind it, so that no intensity depends on the region; before it is resampled
        steps.append(region)
    if spacing_mm is not None:
        modes = ["nearest" if key == "label" else "bilinear" for key in keys]
        pixdim = [side or 0.0 for side in spacing_mm]  # MONAI's 0 keeps an axis as it is
        options = {"keys": keys, "pixdim": pixdim, "mode": modes, "padding_mode": "border"}
        steps.append((Spacingd, options | {"dtype": "float32", "allow_missing_keys": True}))
    steps += sized
    if slices_first:
        steps.append((SlicesFirstd, {"keys": keys}))
    dtypes = ["uint8" if key == "label" else "float32" for key in keys]
    steps.append((EnsureTyped, {"keys": keys, "dtype": dtypes, "allow_missing_keys": True}))
    return steps


class LoadCased(MapTransform):
    """Read a case's files into `MetaTensor`s: image `(C, *spatial)` float32, label `(1, *spatial)` uint8.

    In the place of the image's path an `Image` may stand. Adds `case` (the file's name, unless given), `native_affine`
    (4x4 float64) and `native_shape`: the grid of the file; `measured`, `doubts` and `kinds`, by which a prediction is
    warned of (`data.cases.kinds`); `counts` (256,), voxels of each value of the label, where `values` are given;
    and, where channels are missing, their numbers as `missing`.
    A two-dimensional image lies in its own plane: where that is not axial, its affine is made of the spacing alone.

    Args:
        channels: the number that an image must have.
        counts_as: value of a label -> the one in whose place it stands.
        values: all that a label may hold, after that, by what each is called (an ignored one: ""); None: anything, and
            what is no class counts as background.
        missing: channels of an image may be missing.
        keep_bytes: images of 8 bits a channel stay uint8, for an inferer that normalises (`inference.colour`); grey
            ones, of which ADE20K has some, become red, green and blue, and transparency is dropped.

    Raises:
        DataError: unreadable files, voxels that are not finite, a label on another grid, wrong dimensions or channels.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("image", "label"),
        spatial_dims: int = 3,
        channels: int | None = None,
        values: Mapping[int, str] | None = None,
        keep_bytes: bool = False,
        counts_as: Mapping[int, int] | None = None,
        missing: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.missing = missing
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.values = None if values is None else {int(value): str(name) for value, name in dict(values).items()}
        self.keep_bytes = keep_bytes
        self.counts_as = dict(counts_as or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        given = case["image"]
        image = given if isinstance(given, Image) else read_image(given)
        if image.missing and not self.missing:
            what = f"lacks {len(image.missing)} of its {len(image.array)} channels"
            raise DataError(Problem(str(image.path), what, LACKING))
        array, affine = self._on_grid(image)
        if self.keep_bytes and self.channels == 3:
            array = as_rgb(array)
        if self.channels is not None and len(array) != self.channels:
            what = f"image of {len(array)} channels, expected {self.channels}"
            raise DataError(Problem(str(image.path), what, "the channels must be those the network was trained on"))
        if self.keep_bytes and array.dtype != np.uint8:
            what = f"image of type {array.dtype}, expected 8 bits a channel"
            raise DataError(Problem(str(image.path), what, "normalise them by zscore, which takes numbers of any type"))
        array = np.ascontiguousarray(array, dtype=np.uint8 if self.keep_bytes else np.float32)
        if not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise DataError(
                Problem(str(image.path), f"{count} voxels are NaN or infinite", "repair or remove the image")
            )
        case.setdefault("case", case_name(image.path))
        if len(image.shape) == 3:
            case["measured"] = measured(image.array)
        if image.doubts:
            case["doubts"] = image.doubts
        if image.kinds:
            case["kinds"] = image.kinds
        case["native_affine"] = torch.from_numpy(affine.copy())
        case["native_shape"] = tuple(array.shape[1:])
        if image.missing:
            case["missing"] = image.missing
        if image.notes:
            case["notes"] = image.notes
        case["image"] = _tensor(array, affine, image)
        if "label" in self.keys and "label" in case:
            label = read_label(case["label"], image)
            if difference := grid_difference(image, label):
                raise DataError(
                    Problem(str(label.path), f"label on another grid than its image: {difference}", RESAMPLE)
                )
            values = label_values(label, self.counts_as).reshape(1, *array.shape[1:])
            if self.values is not None:
                case["counts"] = check_values(values, self.values, label.path)
            case["label"] = _tensor(np.ascontiguousarray(values), affine, label)  # the image's affine: one grid a case
        return case

    def _on_grid(self, image: Image) -> tuple[np.ndarray, np.ndarray]:
        if self.spatial_dims == len(image.shape):
            return image.array, in_plane(image) if self.spatial_dims == 2 else image.affine
        if self.spatial_dims == 3:
            return image.array[..., None], image.affine  # one slice is a volume of depth one
        what = f"image of shape {image.shape}, expected two dimensions"
        raise DataError(
            Problem(str(image.path), what, "take a network of 3 spatial dimensions, or cut the volume into slices")
        )


class CropToForegroundd(MapTransform):
    """Crop to the box of voxels that differ from the background in any channel of `source_key`.

    The background of a channel is the value that at least half of its corners share; without one nothing is cropped.
    """

    def __init__(self, keys: Sequence[str], source_key: str = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.source_key = source_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        foreground = torch.zeros(case[self.source_key].shape[1:], dtype=torch.bool)
        for channel in plain(case[self.source_key]):
            background = background_value(channel)
            foreground |= torch.ones_like(foreground) if background is None else channel != background
        if not foreground.any():
            return case
        start, end = [], []
        for axis in range(foreground.ndim):
            others = [other for other in range(foreground.ndim) if other != axis]
            used = foreground.amax(dim=others).nonzero()
            start.append(int(used[0]))
            end.append(int(used[-1]) + 1)
        crop = SpatialCrop(roi_start=start, roi_end=end)
        return case | {key: crop(case[key]) for key in self.key_iterator(case)}


class Normalized(MapTransform):
    """Scale intensities, each channel alone.

    Args:
        mode: "zscore" (mean 0, standard deviation 1 of all voxels); "zscore_nonzero" (of the voxels that are not
            background, see `CropToForegroundd`; the background becomes 0); "zscore_bright" (of the voxels above the
            mean of all: the tissue, whatever lies around it; as TorchIO's masking by the mean); "ct" (clip to
            `window_hu`, then z-score); "none". Or a list, one of these for each channel.
        window_hu: lowest and highest Hounsfield unit that is kept.
        ct_mean_std: what "ct" takes out after clipping; None: the mean and deviation of the case.

    The mean and standard deviation of each channel are left in `meta["normalised"]`, for whoever wants to undo it.
    A channel that is missing (see `LoadCased`) stays 0 in every mode.
    """

    def __init__(
        self,
        keys: Sequence[str],
        mode: str | Sequence[str] = "zscore",
        window_hu: Sequence[float] = (-160.0, 240.0),
        ct_mean_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        for one in [mode] if isinstance(mode, str) else mode:
            if one not in MODES:
                raise ValueError(f"normalization {one!r}: expected {', '.join(MODES[:-1])} or {MODES[-1]}")
        self.mode = mode if isinstance(mode, str) else tuple(mode)
        self.window_hu = tuple(window_hu)
        self.ct_mean_std = None if ct_mean_std is None else tuple(ct_mean_std)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            if self.mode != "none":
                image = case[key].clone()
                channels = plain(image)
                modes = [self.mode] * len(channels) if isinstance(self.mode, str) else list(self.mode)
                for number in case.get("missing", ()):
                    modes[number] = "none"
                scales = [self._normalise(*pair) for pair in zip(channels, modes, strict=True)]
                if isinstance(image, MetaTensor):
                    image.meta["normalised"] = scales
                case[key] = image
        return case

    def _normalise(self, channel: torch.Tensor, mode: str) -> tuple[float, float]:
        """In place; the mean and standard deviation that were taken out."""
        foreground = None
        counted = channel
        if mode == "none":
            return 0.0, 1.0
        if mode == "ct":
            channel.clamp_(*self.window_hu)
            if self.ct_mean_std is not None:
                mean, std = self.ct_mean_std
                channel.sub_(mean).div_(std)
                return mean, std
        elif mode == "zscore_nonzero" and (background := background_value(channel)) is not None:
            foreground = channel != background
            counted = channel[foreground]
        elif mode == "zscore_bright":
            counted = channel[channel > channel.mean(dtype=torch.float64)]
        voxels = counted.numpy()
        if not voxels.size:
            voxels = np.zeros(1, np.float32)
        mean, std = moments(voxels)
        std = max(std, 1e-8)
        channel.sub_(mean).div_(std)
        if foreground is not None:
            channel.mul_(foreground)
        return mean, std


def as_rgb(array: np.ndarray) -> np.ndarray:
    """`(C, *spatial)` of grey (1), grey and transparency (2) or four channels, the last a transparency, as three."""
    if len(array) in (1, 2):
        return np.repeat(array[:1], 3, axis=0)
    return array[:3] if len(array) == 4 else array


def background_value(channel: torch.Tensor) -> float | None:
    """The value that at least half of a channel's corners `(*spatial)` share, or None."""
    corners = channel[tuple(slice(None, None, max(size - 1, 1)) for size in channel.shape)].flatten()
    values, counts = corners.unique(return_counts=True)
    most = int(counts.argmax())
    return float(values[most]) if 2 * int(counts[most]) >= len(corners) and len(corners) > 1 else None


def _tensor(array: np.ndarray, affine: np.ndarray, image: Image) -> MetaTensor:
    meta = {"filename_or_obj": str(image.path), "spatial_shape": array.shape[1:], "original_affine": affine.copy()}
    return MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(affine.copy()), meta=meta)
