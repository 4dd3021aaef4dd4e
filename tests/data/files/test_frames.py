from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.data.files.frames import read_frame


def test_grey_of_16_bits_is_read_as_8(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Pillow.fromarray(grey.astype(np.uint16) * 256 + 99).save(tmp_path / "deep.png")
    Pillow.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    for name in ("deep.png", "palette.png"):
        assert (read_frame(tmp_path / name) == grey[..., None]).all()
    Pillow.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="32 bits"):
        read_frame(tmp_path / "float.tif")
