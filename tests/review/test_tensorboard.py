"""The log, read back by TensorBoard's own reader."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medseg.core.errors import MedsegError
from medseg.review.tensorboard import Board


def read(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0})
    log.Reload()
    return log


def test_scalars_carry_names(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.scalars({"train/loss": 0.5, "val/dice/whole tumour": 0.8, "val/dice/enhancing": None}, step=3)
    board.close()
    log = read(tmp_path)
    assert sorted(log.Tags()["scalars"]) == ["train/loss", "val/dice/whole tumour"]
    event = log.Scalars("val/dice/whole tumour")[0]
    assert (event.step, event.value) == (3, pytest.approx(0.8))


def test_bare_tags_are_refused(tmp_path: Path) -> None:
    board = Board(tmp_path)
    with pytest.raises(MedsegError, match="enhancing"):
        board.scalars({"train/loss": 1.0, "enhancing": 0.5}, step=1)
    board.close()


def test_overlay_and_explanation(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    png = BytesIO()
    Picture.fromarray(colours).save(png, format="PNG")
    board = Board(tmp_path)
    board.overlay("cases/worst", png.getvalue(), step=7)
    board.explain()
    board.close()
    log = read(tmp_path)
    (image,) = log.Images("cases/worst")
    with Picture.open(BytesIO(image.encoded_image_string)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), colours)
    (tag,) = log.Tags()["tensors"]
    assert "How to read this board" in tag
    assert b"final/hd95_mm" in log.Tensors(tag)[0].tensor_proto.string_val[0]


def test_a_resumed_run_hides_what_a_killed_one_logged(tmp_path: Path) -> None:
    first = Board(tmp_path)
    for step in range(1, 6):
        first.scalars({"train/loss": 10.0 + step}, step)
    first.close()
    time.sleep(1.1)  # logs are read in the order of their names, which begin with the second
    second = Board(tmp_path, purge_step=4)
    for step in range(4, 7):
        second.scalars({"train/loss": 20.0 + step}, step)
    second.close()
    events = read(tmp_path).Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(1, 11), (2, 12), (3, 13), (4, 24), (5, 25), (6, 26)]
