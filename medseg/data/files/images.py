"""Read images, write masks: arrays with their place in the patient (RAS+ millimetres), and pictures without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import local

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.files import replacing
from medseg.core.labels import Labels
from medseg.data.files.archives import ARCHIVE
from medseg.data.files.cause import cause
from medseg.data.files.dicom import read_series, study_folders
from medseg.data.files.formats import ENDINGS as MEDICAL
from medseg.data.files.formats import ITK, NIFTI, Image, data_files, is_nifti, read_itk, voxel_ml, write_itk
from medseg.data.files.nifti import read_nifti, write_nifti
from medseg.data.files.nifti_geometry import APART_VOXELS, apart
from medseg.data.files.others import not_read
from medseg.data.files.pictures import PICTURES, is_picture, read_picture, write_grey, write_picture
from medseg.data.files.seg_nrrd import is_segmentation, laid_on, read_segmentation
from medseg.data.files.spacing import respaced
from medseg.data.files.tiff import TIFF, read_tiff_volume, spacing_file

__all__ = [
    "ENDINGS",
    "Image",
    "among_channels",
    "as_volume",
    "case_name",
    "files_beside",
    "grid_difference",
    "is_nifti",
    "label_values",
    "laid_on",
    "read_image",
    "read_label",
    "read_once",
    "voxel_ml",
    "write_map",
    "write_mask",
]

ENDINGS = (*MEDICAL, *PICTURES)
GRID_TOLERANCE_VOXELS = APART_VOXELS
INTEGER_TOLERANCE = 1e-4  # floats come back as 1.0000001
SCALED_TOLERANCE = 0.01  # whole numbers that a header scales: 117 classes in 16 bits come back as 0.99977
RESAMPLE = "resample one onto the other's grid, or correct the header that is wrong"


def read_image(path: str | Path | Sequence[str | Path | None], *, channel_axis: bool = True) -> Image:
    """Read one file (2D, 3D, or 4D with the channel last), or one file a channel, as `(C, *spatial)`.

    The folder, or the zip, of a DICOM series counts as a file. In a list, None stands for a channel that is missing: it
    is 0 everywhere, and in `Image.missing`.

    Args:
        channel_axis: False (labels) refuses a file with more than one channel.

    Raises:
        DataError: a file is missing, unreadable, not a scalar image, or on another grid than the first channel.
    """
    if not isinstance(path, (str, Path)):
        places = [number for number, one in enumerate(path) if one is not None]
        images = [one_channel(_read_file(Path(one))) for one in path if one is not None]
        if not images:
            raise DataError("an image needs at least one file")
        for other in images[1:]:
            if difference := grid_difference(images[0], other):
                raise DataError(
                    Problem(
                        str(other.path), f"channels on different grids: {difference} of {images[0].path.name}", RESAMPLE
                    )
                )
        if len(path) == 1:
            return images[0]
        return among_channels(_joined(images), places, len(path))

    image = _read_file(Path(path), label=not channel_axis)
    return image if channel_axis else one_channel(image)


def read_label(path: str | Path, on: Image | None = None) -> Image:
    """A label map `(1, *spatial)`: one file, or a series.

    Args:
        on: the image that it belongs to: a segmentation of 3D Slicer may be cropped, and is laid on its grid.

    Raises:
        DataError: as `read_image`.
    """
    label = read_image(path, channel_axis=False)
    return label if on is None else laid_on(label, on)


def as_volume(image: Image) -> Image:
    """The image with a third axis, of one slice where it is flat: `(X, Y, 1)` among volumes."""
    return replace(image, array=image.array[..., None]) if len(image.shape) == 2 else image


def files_beside(path: Path) -> list[Path]:
    """What an image is read from besides the path itself, which need not change with it.

    These are the slices of a series, the voxels that a header leaves to other files, and the spacing of a TIFF volume.

    Raises:
        DataError: a header names a file that is not there; the name is repeated only where it is the header's own file
            name with another ending, as it is text of a header.
    """
    if path.is_dir():
        return [file for folder in study_folders(path) for file in sorted(folder.iterdir()) if not file.is_dir()]
    if path.name.lower().endswith(ITK):
        named = data_files(path)
        lacking = next((file for file in named if not file.is_file()), None)
        if lacking is not None and lacking.with_suffix("") == path.with_suffix(""):
            raise DataError(Problem(str(lacking), "no such file", f"{path.name} has its voxels there"))
        if lacking is not None:
            remedy = "put it where the header says, or replace the image"
            raise DataError(Problem(str(path), "names a file for its voxels that is not there", remedy))
        return named
    spacing = spacing_file(path)
    return [] if spacing is None else [spacing]


def among_channels(image: Image, places: Sequence[int], channels: int) -> Image:
    """The image `(len(places), *spatial)` as one of so many channels, its own in these places, the others missing."""
    if list(places) == list(range(channels)):
        return image
    array = np.zeros((channels, *image.shape), image.array.dtype)
    array[list(places)] = image.array
    own = dict(zip(places, image.kinds, strict=False))
    kinds = tuple(own.get(number) for number in range(channels)) if own else ()
    return replace(image, array=array, missing=tuple(sorted(set(range(channels)) - set(places))), kinds=kinds)


def _joined(images: Sequence[Image]) -> Image:
    """The channels, one an image, as one image: what was found in each of them is kept."""
    kinds = tuple(kind for one in images for kind in one.kinds or (None,))
    return replace(
        images[0],
        array=np.concatenate([one.array for one in images]),
        notes=tuple(dict.fromkeys(note for one in images for note in one.notes)),
        doubts=tuple(dict.fromkeys(doubt for one in images for doubt in one.doubts)),
        kinds=kinds if any(kinds) else (),
    )


@contextmanager
def read_once() -> Iterator[None]:
    """What this thread reads inside is decoded once, however often it is read; nobody may write into its array."""
    outer = getattr(_kept, "images", None)
    _kept.images = {} if outer is None else outer
    try:
        yield
    finally:
        _kept.images = outer


_kept = local()


def _read_file(path: Path, *, label: bool = False) -> Image:
    kept: dict[tuple[str, bool], Image] | None = getattr(_kept, "images", None)
    if kept is None:
        return _read(path, label=label)
    if (key := (str(path), label)) not in kept:
        kept[key] = _read(path, label=label)
    return kept[key]


def _read(path: Path, *, label: bool) -> Image:
    image = _as_its_file_says(path, label=label)
    return image if is_picture(path) else respaced(image)


def _as_its_file_says(path: Path, *, label: bool = False) -> Image:
    image = _decoded(path, label=label)
    if 0 in image.array.shape:  # a header may say so, and whatever comes behind would take it for an image
        what = f"image of {' x '.join(map(str, image.shape))} voxels, in which nothing is"
        raise DataError(Problem(str(path), what, "replace the file, or remove the case"))
    return image


def _decoded(path: Path, *, label: bool) -> Image:
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise DataError(Problem(str(path), "is no file but a pipe or a device", "give the file itself"))
        if path.is_dir() or (path.name.lower().endswith(ARCHIVE) and path.exists()):
            return read_series(path)
        if is_picture(path):
            return read_picture(path, label=label)
        if path.name.lower().endswith(TIFF):
            return read_tiff_volume(path)
        if other := not_read([path]):
            raise DataError(other)
        if is_segmentation(path):
            return read_segmentation(path)
        return read_nifti(path) if is_nifti(path) else read_itk(path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(Problem(str(path), "no such file")) from None
    except Exception as error:  # nibabel, zlib and ITK raise anything on a damaged file
        remedy = "replace the file, or remove the case"
        raise DataError(Problem(str(path), f"unreadable image: {cause(error)}", remedy)) from error


def one_channel(image: Image) -> Image:
    """The image itself; raises a DataError where it has more than one channel."""
    if len(image.array) != 1:
        what = f"has {len(image.array)} channels, expected one"
        grey = "a label map holds one number a pixel: save it as grey PNG, or with a palette"
        if image.path.name.lower().endswith(TIFF):
            grey += '; if it is a volume, say so beside it: case.json with {"spacing": [z, y, x]}'
        raise DataError(Problem(str(image.path), what, grey if is_picture(image.path) else "give one file a channel"))
    return image


def case_name(path: str | Path) -> str:
    """The file's name without folder and ending (`.nii.gz` is one ending; `.v1` of `case.v1` is none)."""
    name = Path(path).name
    for ending in (*ENDINGS, ARCHIVE):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def label_values(image: Image, counts_as: Mapping[int, int] | None = None) -> np.ndarray:
    """The label map `(1, *spatial)` as uint8; floats that hold integers are accepted.

    Args:
        counts_as: value -> the one in whose place it stands (`Labels.counts_as`).

    Raises:
        DataError: values that are not whole numbers, not finite, or outside 0 to 255.
    """
    array = image.array
    if array.dtype == np.uint8:
        return _merged(array, counts_as)
    if array.dtype.kind == "f":
        rounded = np.round(array)
        with np.errstate(invalid="ignore"):
            tolerance = INTEGER_TOLERANCE if image.slope is None else SCALED_TOLERANCE
            bad = ~(np.abs(array - rounded) <= tolerance)  # NaN and infinity are bad as well
        if bad.any():
            some = ", ".join(f"{value:g}" for value in np.unique(array[bad])[:3])
            what = f"label with {int(bad.sum())} non-integer voxels ({some})"
            remedy = "a label holds one whole number a voxel: was it resampled linearly, or is it a probability map?"
            if image.slope is not None:
                what += f": its header scales whole numbers by the slope {image.slope:.6g}"
                remedy = "save the label as whole numbers, without a slope (scl_slope), from the original"
            raise DataError(Problem(str(image.path), what, remedy))
        array = rounded
    low, high = array.min(initial=0), array.max(initial=0)
    if low < 0 or high > 255:
        raise DataError(Problem(str(image.path), f"label values from {low:g} to {high:g}, expected 0 to 255"))
    return _merged(array.astype(np.uint8), counts_as)


def _merged(array: np.ndarray, counts_as: Mapping[int, int] | None) -> np.ndarray:
    if not counts_as:
        return array
    table = np.arange(256, dtype=np.uint8)
    table[list(counts_as)] = list(counts_as.values())
    return table[array]


def grid_difference(one: Image, other: Image, tolerance_voxels: float = GRID_TOLERANCE_VOXELS) -> str | None:
    """What differs between two grids (shape, spacing, origin, direction), or None if they are the same.

    They are the same if no corner of the volume lies further apart than `tolerance_voxels` of the smallest voxel side.
    """
    if one.shape != other.shape:
        return f"shape {other.shape} against {one.shape}"
    far = apart(one.affine, other.affine, one.shape)
    if far <= tolerance_voxels * min(one.spacing_mm):
        return None
    spacing, other_spacing = np.array(one.spacing_mm), np.array(other.spacing_mm)
    found = []
    if not np.allclose(spacing, other_spacing, rtol=1e-3):
        found.append(f"spacing {_numbers(other_spacing)} against {_numbers(spacing)} mm")
    dims = len(spacing)
    direction, other_direction = one.affine[:3, :dims] / spacing, other.affine[:3, :dims] / other_spacing
    if not np.allclose(direction, other_direction, atol=1e-3):
        found.append(f"direction {_axes(other.affine)} against {_axes(one.affine)}")
    if not np.allclose(one.affine[:3, 3], other.affine[:3, 3], atol=tolerance_voxels * min(one.spacing_mm)):
        found.append(f"origin {_numbers(other.affine[:3, 3])} against {_numbers(one.affine[:3, 3])} mm")
    why = [f"; {image.path.name} contradicts itself: {doubt}" for image in (one, other) for doubt in image.doubts]
    return (", ".join(found) or "affine") + f" (corners up to {far:.3g} mm apart)" + "".join(dict.fromkeys(why))


def write_mask(path: str | Path, mask: np.ndarray, *, like: str | Path | Image, labels: Labels | None = None) -> None:
    """Write `(*spatial)` integers on the grid of `like`, a file or an image: same shape, affine and form codes.

    The smallest unsigned type is used; a NIfTI mask has the label intent and, with `labels`, a table of their names
    (Caret XML, as TotalSegmentator writes); a PNG has the labels' colours as its palette. Free text of `like`
    (description, names, extensions) is never copied, as it may name the patient. The file appears whole or not at all.

    Raises:
        DataError: no format of this ending is written, or none of a picture for what is no picture.
    """
    path, like = Path(path), Path(like) if isinstance(like, str) else like
    mask = np.asarray(mask)
    if mask.dtype.kind not in "bui" or mask.min(initial=0) < 0:
        raise ValueError(f"a mask holds whole numbers from 0, got {mask.dtype} from {mask.min(initial=0)}")
    mask = mask.astype(np.uint8 if mask.dtype == bool else np.min_scalar_type(int(mask.max(initial=0))))
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if ending is None or ending == ".mhd" or (ending in PICTURES and ending != ".png"):  # .mhd is two files
        what = "has an ending by which no mask is written"
        raise DataError(Problem(path.name, what, f"give {', '.join((*NIFTI, *ITK[:2]))}, of a picture .png"))
    if ending in PICTURES and (mask.ndim != 2 or (isinstance(like, Path) and not is_picture(like))):
        what = "is a picture, but the mask is of a volume" if mask.ndim != 2 else f"is a picture, but {like} is none"
        raise DataError(Problem(path.name, what, f"give {', '.join((*NIFTI, *ITK[:2]))}"))
    with replacing(path) as writing:
        if ending in PICTURES:
            write_picture(writing, mask, like, labels)
        else:
            (write_nifti if ending in NIFTI else write_itk)(writing, mask, like, labels, _as_its_file_says)


def write_map(path: str | Path, values: np.ndarray, levels: int, *, like: str | Path) -> None:
    """Write integers `(*spatial)` from 0 to `levels`, which mean 0 to 1, on the grid of the file `like`.

    A NIfTI keeps them and has the scale in its header, so that every program reads 0 to 1; a PNG is 8-bit grey, 255 for
    1. No free text of `like` is copied. The file appears whole or not at all.
    """
    path, like = Path(path), Path(like)
    with replacing(path) as writing:
        if is_nifti(path):
            write_nifti(writing, values, like, None, _as_its_file_says, levels)
        elif path.name.lower().endswith(".png"):
            write_grey(writing, np.rint(values * (255 / levels)).astype(np.uint8))
        else:
            raise ValueError(f"a map is written as {', '.join((*NIFTI, '.png'))}, not {path.name}")


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _axes(affine: np.ndarray) -> str:
    import nibabel

    codes = "".join(str(code) for code in nibabel.aff2axcodes(affine))
    return f"{codes} {np.round(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0), 3).tolist()}"
