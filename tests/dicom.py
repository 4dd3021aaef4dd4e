"""Real DICOM series, written slice by slice with SimpleITK's GDCM."""

from __future__ import annotations

import locale
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

SECRET = "DOE^JANE"


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    spacing: Sequence[float] = (1.5, 1.5, 3.0),
    origin: Sequence[float] = (-20.0, -30.0, 100.0),
    slide: float = 0.0,
    places: Sequence[float] | None = None,
    series: int = 1,
    modality: str = "CT",
    axes: Sequence[Sequence[float]] | np.ndarray = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
) -> Path:
    """Write `(z, y, x)` int16 as a series of files whose names say nothing of their order.

    Args:
        slide: millimetres by which each slice lies further along y than the one before (a tilted gantry).
        places: of the slices along their normal, in millimetres; default: evenly spaced.
        axes: (2, 3), along which the columns and the rows count up, LPS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [number * spacing[2] for number in range(len(volume))] if places is None else places
    for number, (slice_, place) in enumerate(zip(volume.astype(np.int16), places, strict=True)):
        image = SimpleITK.GetImageFromArray(slice_[None])
        position = tuple(np.add(origin, (0, number * slide, 0)) + place * np.cross(*axes))
        image.SetSpacing(tuple(spacing))
        image.SetOrigin(position)
        tags = {
            "0008|0060": modality,
            "0010|0010": SECRET,
            "0020|000d": "1.2.826.0.1.3680043.8.498.1",
            "0020|000e": f"1.2.826.0.1.3680043.8.498.2.{series}",
            "0008|0018": f"1.2.826.0.1.3680043.8.498.3.{series}.{number + 1}",
            "0020|0032": "\\".join(f"{number:.10g}" for number in position),
            "0020|0037": "\\".join(f"{number:.10g}" for number in np.ravel(axes)),
            "0020|0013": str(number),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / f"I{(number * 7 + 3) % 97:02d}_{series}"))
        before = locale.setlocale(locale.LC_ALL)
        writer.Execute(image)
        locale.setlocale(locale.LC_ALL, before)  # GDCM leaves "C", and text files of other tests would be ASCII
    return folder
