"""The TensorBoard log of a run: named scalars, pictures of cases, and a page that says how to read them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from medseg.core.errors import MedsegError
from medseg.metrics.metric import Column, load_metrics

HOW_TO_READ = """
# How to read this board

| tag | what it is |
|---|---|
| `train/loss` | mean loss of an epoch (Dice + cross-entropy): falls, steeply at first |
| `train/learning_rate` | rises in the warm-up, then falls to zero at the end of the budget |
| `val/mean_dice` | **the key metric**: Dice of each target, averaged over held-out cases, then over targets; \
which weights are kept follows from it |
| `val/dice/<target>` | Dice of one target: 1 is perfect overlap with the expert, 0 none |
| `val/iou/<target>` | intersection over union of one target, stricter than Dice |
| `val/mean_iou` | natural images: **the key metric**, the mean over classes of their IoU in one confusion matrix of \
all held-out pictures |
{final}
| `cases/...` (Images) | worst, median and best case: expert solid, prediction dashed; natural images in the data \
set's own colours |

The horizontal axis is the epoch; *Wall* or *Relative* on the left shows time instead. A training loss that falls while
`val/mean_dice` falls too is over-fitting; both flat from the start is a learning rate (or a label) that is wrong.

A target that is in neither truth nor prediction of a case counts in no mean; a missed one counts {charges}.
Pictures follow the radiological convention: the patient's right is on the left.
"""


def how_to_read(columns: Mapping[str, Column]) -> str:
    """The page, with a line for each metric."""
    final = [
        f"| `final/{name}/<target>` | {one.heading()} of the finished model, on the images' own grid: {one.meaning} |"
        for name, one in columns.items()
    ]
    charges = [f"with {one.charge} as {one.title}" for one in columns.values() if one.charge != "0"]
    return HOW_TO_READ.format(final="\n".join(final), charges=" and ".join(["as 0", *charges]))


class Board:
    """Writes to the TensorBoard log in `folder`.

    Args:
        folder: of the log; made if missing.
        purge_step: hide what an earlier, killed run logged at this step and later.
    """

    def __init__(self, folder: Path | str, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Log `{"train/loss": ..., "val/dice/<target>": ...}`; None (no case counts) is left out.

        Raises:
            MedsegError: a tag without a namespace: bare tags of two metrics would collide.
        """
        bare = [tag for tag in values if "/" not in tag]
        if bare:
            raise MedsegError(
                f"TensorBoard tags without a namespace: {', '.join(bare)}", "name them train/... or val/..."
            )
        for tag, value in values.items():
            if value is not None:
                self._writer.add_scalar(tag, value, step)

    def overlay(self, tag: str, png: bytes, step: int) -> None:
        """Log a picture of `overlay_figure`."""
        from PIL import Image as Picture

        with Picture.open(BytesIO(png)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._writer.add_image(tag, pixels, step, dataformats="HWC")

    def explain(self) -> None:
        """Put the page "How to read this board" into the Text tab."""
        columns = {name: metric.column for name, metric in load_metrics().items()}
        self._writer.add_text("How to read this board", how_to_read(columns), 0)

    def flush(self) -> None:
        """Wait until all that was logged is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close; nothing is lost that was logged before."""
        self._writer.close()
