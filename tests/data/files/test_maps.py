"""Maps that are written beside masks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.data.cases.masks import find_masks
from medseg.data.files.images import write_map


def test_a_map_of_a_picture_is_grey(tmp_path: Path) -> None:
    Pillow.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "a.png")
    levels = np.array([[0, 100], [40, 20]], np.int16)
    write_map(tmp_path / "a_entropy.png", levels, 100, like=tmp_path / "a.png")
    with Pillow.open(tmp_path / "a_entropy.png") as written:
        assert written.mode == "L"
        assert np.array_equal(np.asarray(written), [[0, 255], [102, 51]])
    with pytest.raises(ValueError, match="a map is written as"):
        write_map(tmp_path / "a.mha", levels, 100, like=tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b_entropy.png")
    assert set(find_masks(tmp_path, "volumes")) == {"a", "b_entropy"}, "a map only beside its mask"
