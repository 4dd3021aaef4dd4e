"""Where the voxels of a NIfTI file are: one rule, that of ITK (`itk::NiftiImageIO`, version 5.4).

A header may say it three times: the `sform`, an affine; the `qform`, a rotation; and `pixdim`, the lengths. Each form
has a code, 0 where it says nothing. Where they differ, ITK, and with it 3D Slicer, ITK-SNAP, ANTs and nnU-Net, decides:

1. *Lengths* are those of `pixdim`, whatever the sform says; 0, or no number, is 1.
2. *Axes and origin* are those of the sform where only it has a code; where its code is 1 (scanner); or where it says
   what the qform does. Otherwise they are those of the qform. An sform that is sheared counts for none.
3. Without a code, axes run right to left, front to back, upwards, from the origin.
4. A quaternion longer than 1 is brought to 1.
5. `xyzt_units` says what the lengths are in: metres, millimetres or micrometres; unknown is millimetres.

nibabel, FSL and SPM take the sform wherever it has a code, its lengths too; so a disagreement is named
(`Geometry.doubts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem

UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # codes of `xyzt_units` -> millimetres
UNIT_BITS = 7  # of them; the others are of time
SCANNER = 1  # code of a form
ITK_SKEW = 1e-4  # of the cosines between axes, up to which ITK takes them for perpendicular
SKEW = 1e-3  # up to which medseg does: 0.06 degrees are the rounding of some tool, no shear
ALIKE = 1e-4  # forms whose numbers differ by less are the same
LONG = 1e-3  # by how much the length of a quaternion may exceed 1 through rounding
APART_VOXELS = 0.05  # headers of one patient differ by float noise; a twentieth of a voxel is no shift

BOTH_FORMS = "find out which is right, and write both alike (nibabel: set_sform(affine, 1), set_qform(affine, 1))"


@dataclass(frozen=True)
class Geometry:
    """Where voxels are, and what the header contradicts itself in.

    Args:
        affine: 4x4, voxel index -> RAS+ millimetres.
        doubts: a sentence for each contradiction, which says how it was decided; empty for most files.
    """

    affine: np.ndarray
    doubts: tuple[str, ...] = ()


def nifti_geometry(header: Any, shape: Sequence[int], path: Path) -> Geometry:
    """Where the voxels of a file are.

    Args:
        header: nibabel's, as it stands in the file.
        shape: of the file's first three axes.

    Raises:
        DataError: lengths below 0, or no form that places voxels: not finite, flat, or sheared.
    """
    sizes = (*shape, 1, 1, 1)[:3]
    lengths = _lengths(header, path)
    sform, turn = _sform(header, sizes), qform(header)
    skew = math.inf if sform is None else _skew(sform)
    straight = None if sform is None or skew > SKEW else _scaled(sform, lengths)
    turned = None if turn is None else _scaled(turn, lengths)
    if straight is not None and turned is not None:
        by_sform = skew <= ITK_SKEW and (int(header["sform_code"]) == SCANNER or _alike(straight, turned, path))
        place = straight if by_sform else turned
    elif straight is not None:
        place = straight
    elif turned is not None:
        place = turned
    elif sform is None:
        place = np.diag([-lengths[0], -lengths[1], lengths[2], 1.0])
    else:
        raise DataError(_unusable(sform, path))

    doubts = []
    if any(sizes[axis] > 1 and _number(header["pixdim"][1 + axis]) == 0 for axis in range(3)):
        doubts.append(f"its pixdim says {_by(header['pixdim'][1:4])}: 1 is taken where it is 0 or no number")
    if sform is not None and straight is None and turned is not None:
        doubts.append("its sform is sheared or flat: read by the qform")
    if straight is not None and turned is not None and differ(straight, turned, sizes):
        codes = f"sform (code {int(header['sform_code'])}) and qform (code {int(header['qform_code'])})"
        far = f"up to {apart(straight, turned, sizes) * unit_mm(header):.3g} mm apart"
        doubts.append(f"its {codes} place it {far}: read by the {'sform' if place is straight else 'qform'}")
    if sform is not None and straight is not None and differ(sform, straight, sizes):
        said = f"pixdim says {_by(lengths)}, its sform {_by(np.linalg.norm(sform[:3, :3], axis=0))}"
        doubts.append(f"its {said}: the lengths are read from pixdim")
    if place is straight and skew > ITK_SKEW:
        degrees = math.degrees(skew)
        doubts.append(f"the axes of its sform are {degrees:.2g} degrees off a right angle: ITK does not read it")
    if turn is not None and (length := float(np.linalg.norm(_quaternion(header)))) > 1 + LONG:
        doubts.append(f"the quaternion of its qform is {length:.4g} long instead of 1")
    affine = place.copy()
    affine[:3] *= unit_mm(header)
    return Geometry(affine, tuple(doubts))


def unit_mm(header: Any) -> float:
    """What the header's unit of length is in millimetres."""
    return UNITS.get(int(header["xyzt_units"]) & UNIT_BITS, 1.0)


def qform(header: Any) -> np.ndarray | None:
    """The rotation (4, 4), in the header's unit, with the origin, its axes of length 1; None without a code."""
    if int(header["qform_code"]) <= 0:
        return None
    b, c, d = _quaternion(header)
    rest = 1.0 - (b * b + c * c + d * d)
    a = math.sqrt(max(rest, 0.0))
    if rest < 1e-7:  # too long: a half turn, of length 1, as NIfTI's own library has it
        length = math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    place = np.eye(4)
    place[:3, :3] = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    if float(header["pixdim"][0]) < 0:
        place[:3, 2] *= -1
    place[:3, 3] = [_number(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return place


def apart(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """How far apart two affines place a corner of a volume, at most."""
    ends = np.array([[0, size - 1] for size in (*shape, 1)[:3]])
    corners = np.stack([*(mesh.ravel() for mesh in np.meshgrid(*ends)), np.ones(8)])
    return float(np.linalg.norm(((other - one) @ corners)[:3], axis=0).max())


def differ(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether two affines of a volume place a corner further apart than a small share of the smallest voxel side."""
    side = min(np.linalg.norm(one[:3, axis]) for axis in range(3))
    return bool(apart(one, other, shape) > APART_VOXELS * side)


def _lengths(header: Any, path: Path) -> np.ndarray:
    """Of voxels along each axis, in the header's unit; 1 where it says 0, or no number."""
    lengths = np.array([_number(length) for length in header["pixdim"][1:4]])
    if lengths.min() < 0:
        what = f"its header says that voxels are {_by(lengths)} long: below 0, which programs take for different things"
        raise DataError(Problem(str(path), what, "convert the scan again, or correct pixdim and the affine"))
    return np.where(lengths == 0, 1.0, lengths)


def _sform(header: Any, sizes: Sequence[int]) -> np.ndarray | None:
    if int(header["sform_code"]) <= 0:
        return None
    place = np.eye(4)
    place[:3] = [[_number(value) for value in header[f"srow_{axis}"]] for axis in "xyz"]
    if sizes[2] == 1 and not place[:3, 2].any():  # a slice need not say how thick it is
        across = np.cross(place[:3, 0], place[:3, 1])
        place[:3, 2] = across / (np.linalg.norm(across) or 1.0)
    return place


def _skew(place: np.ndarray) -> float:
    """How far the axes are from perpendicular, as ITK measures it; infinite where they span no volume."""
    norms = np.linalg.norm(place[:3, :3], axis=0)
    if not norms.all() or np.linalg.matrix_rank(place[:3, :3] / norms) < 3:
        return math.inf
    axes = place[:3, :3] / norms
    return float(np.abs(axes @ axes.T - np.eye(3)).max())


def _scaled(place: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The same axes and origin, with these lengths."""
    scaled = place.copy()
    scaled[:3, :3] *= lengths / np.linalg.norm(place[:3, :3], axis=0)
    return scaled


def _alike(sform: np.ndarray, qform: np.ndarray, path: Path) -> bool:
    """Whether the forms are the same, of which the sform has more digits.

    Raises:
        DataError: they have one origin, and opposite or exchanged axes. ITK compares the singular vectors of both,
            whose signs and order are those of rounding, and takes the one or the other.
    """
    if np.allclose(sform, qform, rtol=0, atol=ALIKE):
        return True
    one, other = sform[:3, :3], qform[:3, :3]
    same_origin = np.allclose(sform[:3, 3], qform[:3, 3], rtol=0, atol=2 * ALIKE)
    longest = max(1.0, float(np.linalg.norm(one, axis=0).max()))  # a turn tells more of a long voxel
    if same_origin and np.allclose(one @ one.T, other @ other.T, rtol=0, atol=10 * ALIKE * longest**2):
        across, inside = one @ np.linalg.inv(other), np.linalg.inv(other) @ one
        if any(_is_exchange(turn) for turn in (across, inside)):
            what = "its sform and its qform have one origin, but opposite or exchanged axes: which is right?"
            raise DataError(Problem(str(path), what, BOTH_FORMS))
    return False


def _is_exchange(turn: np.ndarray) -> bool:
    """Whether a turn leads axes onto others, or their opposite, and not nearly onto themselves."""
    nearest = np.rint(turn)
    close = np.allclose(np.abs(turn), np.abs(nearest), rtol=0, atol=1e-2)
    return close and not np.array_equal(nearest, np.eye(3))


def _quaternion(header: Any) -> list[float]:
    return [_number(header[f"quatern_{part}"]) for part in "bcd"]


def _number(value: Any) -> float:
    """What is no number is 0, as NIfTI's own library reads it."""
    number = float(value)
    return number if math.isfinite(number) else 0.0


def _unusable(sform: np.ndarray, path: Path) -> Problem:
    skew = _skew(sform)
    if skew == math.inf:
        what = f"header without a usable affine: {sform[:3].tolist()}"
        return Problem(str(path), what, "write the header anew from the original scan")
    degrees = math.degrees(math.asin(min(skew, 1.0)))
    what = f"its axes are sheared, {degrees:.2g} degrees off a right angle, which no scan and no ITK reader has"
    return Problem(str(path), what, "resample it onto perpendicular axes (FSL: flirt -applyxfm; ANTs, SPM: reslice)")


def _by(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
