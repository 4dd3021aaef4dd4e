"""What an image is, for all file formats under `images.py`; and NRRD and MetaImage, through SimpleITK."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.headers import itk_reader
from medseg.data.files.limits import check_bytes

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".mha", ".mhd")
ENDINGS = (*NIFTI, ".seg.nrrd", *ITK)  # the longest first: it is the one that a name ends in

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point left and posterior, NIfTI's right and anterior


@dataclass(frozen=True)
class Image:
    """One image and where its voxels are.

    Args:
        array: `(C, *spatial)`, float32, or the integer type of the file.
        affine: 4x4 float64, voxel index -> RAS+ millimetres (a 2D file: the plane z = 0 of it).
        path: the (first) file.
        sform_code, qform_code: NIfTI codes of the header; 0 for other formats.
        missing: the numbers of channels that nobody measured; the array is 0 there.
        notes: what was decided when it was read, for whoever looks at the result.
        doubts: a sentence for each thing in which the header contradicts itself, which says how it was decided.
        segments: (name, value) of each segment of a segmentation (`seg_nrrd`) that has a name.
        kinds: of scan, CT, MR or PT, of each channel, None where no DICOM header says it; empty where none says any.
        slope: what the whole numbers of the file were multiplied by; None where they are as they were.
        affine_of_file: as the file says it, where somebody says another spacing (`spacing`); None: `affine`.
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path
    sform_code: int = 0
    qform_code: int = 0
    missing: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()
    slope: float | None = None
    kinds: tuple[str | None, ...] = ()
    affine_of_file: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape."""
        return self.array.shape[1:]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each axis."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, : len(self.shape)], axis=0))


def voxel_ml(grid: np.ndarray | Sequence[float], dims: int) -> float | None:
    """Volume of a voxel in millilitres; None where there is none: in two dimensions, or on a grid that is not finite.

    Args:
        grid: affine (4, 4) in millimetres, or the spacing of each axis in millimetres.
        dims: spatial dimensions.
    """
    if dims != 3:
        return None
    numbers = np.asarray(grid, dtype=np.float64)
    axes = numbers[:3, :3] if numbers.ndim == 2 else np.diag(numbers)
    return abs(float(np.linalg.det(axes))) / 1000 if np.isfinite(axes).all() else None


def is_nifti(path: str | Path) -> bool:
    """Whether the file name says NIfTI."""
    return str(path).lower().endswith(NIFTI)


def spatial_part(shape: Sequence[int]) -> tuple[int, ...]:
    """The spatial part of a file's shape: the first three axes, without trailing ones in a 2D file."""
    spatial = tuple(shape[:3])
    return spatial[:2] if len(spatial) == 3 and spatial[2] == 1 else spatial


# --- NRRD, MetaImage -----------------------------------------------------------------------------------------------


def read_itk(path: Path) -> Image:
    """One NRRD or MetaImage file."""
    return from_itk(open_itk(path).Execute(), path)


def open_itk(path: Path) -> Any:
    """SimpleITK's reader of an NRRD or MetaImage file, whose header it has read.

    Raises:
        DataError: another ending, a header that ITK would not survive, or an image too large.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(Problem(str(path), "unknown file ending", f"known: {', '.join(ENDINGS)}"))
    import SimpleITK

    reader: Any = SimpleITK.ImageFileReader()
    reader.SetImageIO(itk_reader(path))
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    bits = re.search(r"(\d+)-bit", SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
    voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    check_bytes(path, voxels * (int(bits[1]) / 8 if bits else 1))
    return reader


DATA_FILE = re.compile(rb"(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.IGNORECASE)
NUMBERED = re.compile(r"(.*)%\d*d(\S*)(?:\s+-?\d+)*")  # one file a slice: a pattern, and from where to where it counts


def data_files(path: Path) -> list[Path]:
    """The files that the header of a MetaImage or an NRRD names for its voxels; empty where they follow it."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():  # the end of an NRRD's header
                break
            if (found := DATA_FILE.match(line)) is None:
                continue
            name = found[1].decode(errors="surrogateescape")
            if name.upper() == "LOCAL":
                break
            if (several := NUMBERED.fullmatch(name)) is not None:
                pattern = f"{glob.escape(several[1])}*{glob.escape(several[2])}"
                return sorted(map(Path, glob.glob(str(Path(glob.escape(str(path.parent))) / pattern))))
            if name.upper().startswith("LIST"):
                lines = [one.decode(errors="surrogateescape").strip() for one in file]
                return [path.parent / one for one in lines if one]
            return [path.parent / name]
    return []


def from_itk(image: Any, path: Path) -> Image:
    """A SimpleITK image that was read from `path`."""
    import SimpleITK

    dims, channels = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    data = SimpleITK.GetArrayViewFromImage(image)  # (z, y, x[, C]), or (t, z, y, x)
    if dims == 4 and channels == 1:
        data, dims = data.transpose(0, 3, 2, 1), 3
    elif channels == 1:
        data = data.T[None]
    else:
        data = data.T if dims == 3 else data.transpose(2, 1, 0)
    if dims not in (2, 3):
        raise DataError(Problem(str(path), f"image with {dims} dimensions, expected 2, 3, or 4 with channels last"))
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:dims, :dims]
    affine = np.eye(4)
    affine[:dims, :dims] = direction * np.array(image.GetSpacing()[:dims])
    affine[:dims, 3] = image.GetOrigin()[:dims]
    if dims == 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return Image(plain(data), checked(LPS @ affine, data.ndim - 1, path), path)


def write_itk(
    path: Path, mask: np.ndarray, like: Path | Image, labels: Labels | None, read: Callable[[Path], Image]
) -> None:
    """An NRRD or MetaImage mask on the grid of `like`, as `write_nifti`."""
    import SimpleITK

    grid = like if isinstance(like, Image) else read(like)
    mask = shaped(mask, grid.shape)
    dims = mask.ndim
    affine = LPS @ grid.affine
    spacing = np.array(grid.spacing_mm)
    if dims == 2:
        mask, dims, spacing = mask[..., None], 3, np.append(spacing, np.linalg.norm(grid.affine[:3, 2]))
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    if labels is not None:
        for label, value in labels.classes.items():
            image.SetMetaData(f"label_{value}", label)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


# --- both ----------------------------------------------------------------------------------------------------------


def plain(data: np.ndarray) -> np.ndarray:
    """Contiguous; float32, or the file's own integers in this machine's byte order."""
    if data.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(data, dtype=np.float32)
    return np.ascontiguousarray(data, dtype=np.uint8 if data.dtype == bool else data.dtype.newbyteorder("="))


def checked(affine: np.ndarray, dims: int, path: Path) -> np.ndarray:
    columns = affine[:3, :dims]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(columns) < dims:
        remedy = "write the header anew from the original scan"
        raise DataError(Problem(str(path), f"header without a usable affine: {affine[:3].tolist()}", remedy))
    if dims == 2 and np.linalg.matrix_rank(affine[:3, :3]) < 3:  # a 2D file need not say how thick it is
        affine = affine.copy()
        affine[:3, 2] = np.cross(columns[:, 0], columns[:, 1]) / np.prod(np.linalg.norm(columns, axis=0))
    return affine


def shaped(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask in the file's own shape (a 2D file may be stored with a third axis of one)."""
    if spatial_part(shape) != spatial_part(mask.shape):
        raise ValueError(f"mask of shape {mask.shape} for an image of shape {shape}")
    return mask.reshape(shape)
