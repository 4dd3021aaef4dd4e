"""A picture beside its truth and its prediction in the data set's official colours, with a legend."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from medseg.core.labels import Labels
from medseg.data.files.pictures import palette
from medseg.review.drawing import name_legend, plain_text

SHOWN_SIDE = 640  # pixels of the longer side of a panel at most
OPACITY = 0.65
UNCOUNTED = (255, 255, 255)


@plain_text()
def picture_figure(
    image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, *, labels: Labels, title: str, note: str = ""
) -> bytes:
    """Draw one case as PNG: the picture; the truth over it; the prediction over it; and what each colour means.

    Args:
        image: `(C, rows, columns)`; three channels are red, green, blue, of others the first is shown in grey.
        truth, prediction: label values, `(1, rows, columns)` or `(rows, columns)`; what the truth ignores is left white
            in it, and drawn in the prediction all the same.
        labels: names, values and colours of the classes.
        title: printed on top.
        note: printed beside it.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    step = max(1, -(-max(image.shape[1:]) // SHOWN_SIDE))
    shown = _as_rgb(image[:, ::step, ::step])
    maps = [np.asarray(x).reshape(image.shape[1:])[::step, ::step] for x in (truth, prediction)]
    colours = label_palette(labels)
    rows, columns = shown.shape[:2]
    present = [name for name, value in labels.classes.items() if any((one == value).any() for one in maps)]
    lines = -(-len(present) // 6)
    width = 13.0
    panel = width / 3 * rows / columns
    foot, head = 0.26 * lines + 0.15, 0.5
    height = panel + foot + head
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.005, right=0.995, top=1 - head / height, bottom=foot / height, wspace=0.015)
    pictures = [shown, *(_blend(shown, one, colours, labels) for one in maps)]
    for axis, name, picture in zip(axes, ("picture", "truth", "prediction"), pictures, strict=True):
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(name, fontsize=9, color="#444444", pad=3)
    heading = f"{title}   {note}" if note else title
    figure.text(0.005, 1 - 0.05 / height, heading, fontsize=11, fontweight="bold", va="top")
    handles = [Patch(facecolor=colours[labels.classes[name]] / 255, edgecolor="#00000044") for name in present]
    name_legend(figure, handles, present, loc="lower left", ncols=6, frameon=False, fontsize=9, handlelength=1.4)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def label_palette(labels: Labels) -> np.ndarray:
    """`(256, 3)` uint8: the colour of every value, the data set's own where it has one."""
    return palette({value: labels.colours[name] for name, value in labels.classes.items() if name in labels.colours})


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """`(rows, columns, 3)` uint8."""
    if len(image) == 3 and image.dtype == np.uint8:
        return image.transpose(1, 2, 0)
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    low, high = np.percentile(channels, (0.5, 99.5))
    scaled = (channels.astype(np.float32) - low) * (255 / max(high - low, 1e-8))
    return scaled.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def _blend(picture: np.ndarray, label: np.ndarray, colours: np.ndarray, labels: Labels) -> np.ndarray:
    painted = colours[label.astype(np.uint8)].copy()
    painted[np.isin(label, labels.ignored)] = UNCOUNTED
    return (OPACITY * painted + (1 - OPACITY) * picture).astype(np.uint8)
