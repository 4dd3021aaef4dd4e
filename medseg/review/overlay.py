"""Three orthogonal planes of a case with the contours of truth and prediction, as a radiologist reads them.

Radiological convention: the patient's right is on the left of the picture, anterior is on top of an axial plane and on
the left of a sagittal one; letters at the edges say so. Only the case's identifier is printed, no header text.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.boxes import bounding_box
from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.data.files.images import Image
from medseg.metrics.confusion import where_values
from medseg.metrics.score import CaseScore
from medseg.review.colours import target_colours
from medseg.review.drawing import name_legend, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Axis that a plane cuts, its name, and the letters at its left, right, top and bottom edge.
PLANES = ((2, "axial", "RLAP"), (1, "coronal", "RLSI"), (0, "sagittal", "APSI"))
NAMED = {"dice": "Dice {:.3f}", "hd95_mm": "HD95 {:.1f} mm"}  # a legend has room for an overlap and a distance
STATE_TEXT = {"missed": "missed", "false_positive_only": "not in the truth", "absent": "absent"}


@plain_text()
def overlay_figure(
    image: Image,
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    labels: Labels,
    title: str,
    scores: Sequence[CaseScore] = (),
    channel: int | None = None,
) -> bytes:
    """Draw one case as PNG: contours of the truth solid, of the prediction dashed, on the image's own grid.

    Args:
        image: array (C, *spatial), 2D (one panel) or 3D (three), with its affine to RAS+ mm; oblique volumes are shown
            along their nearest axes.
        truth, prediction: integer label values, (1, *spatial) or (*spatial).
        labels: what the values mean.
        title: printed on top; a case's identifier, nothing from a header.
        scores: of this case; Dice and HD95 go to the legend.
        channel: of the image, to draw the contours on; default: the first that is there.
    """
    from matplotlib.figure import Figure

    anatomical = len(image.shape) == 3 or image.sform_code > 0 or image.qform_code > 0
    affine = image.affine if anatomical else _as_picture(image)
    shown = next(n for n in range(len(image.array)) if n not in image.missing) if channel is None else channel
    grey, spacing_mm = _as_ras(image.array[shown], affine)
    targets = list(labels.targets.items())
    truths, predictions = ({name: where_values(x, values) for name, values in targets} for x in (truth, prediction))
    truths, predictions = (
        {name: _as_ras(x.reshape(image.shape), affine)[0] for name, x in masks.items()}
        for masks in (truths, predictions)
    )
    frame = _frame(grey)
    position = _position(list(truths.values()), list(predictions.values()))
    planes = [plane for plane in PLANES if grey.ndim == 3 and grey.shape[plane[0]] > 1]
    planes = planes if len(planes) == 3 else [next((p for p in PLANES if grey.shape[p[0]] == 1), PLANES[0])]
    lit = grey[grey != grey[0, 0, 0]]
    window = np.percentile((lit if lit.size else grey.ravel())[:: max(lit.size // 500_000, 1)], (0.5, 99.5))
    colours = target_colours([name for name, _ in targets], labels)

    extents = [_extent_mm(frame, spacing_mm, axis) for axis, *_ in planes]
    width = 11.0 if len(planes) == 3 else 5.5
    # All panels share one scale and one row: heights follow from the widths.
    ratio = max(high for _, high in extents) / sum(wide for wide, _ in extents)
    rows = (len(targets) + 2) // 2
    foot, head = 0.27 * rows + 0.15, 0.62
    height = float(np.clip(width * ratio, 1.5, 9.0)) + foot + head
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    panels = figure.subplots(1, len(planes), squeeze=False, width_ratios=[wide for wide, _ in extents])[0]
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - head / height, bottom=foot / height, wspace=0.02)
    for panel, (axis, name, letters) in zip(panels, planes, strict=True):
        high, wide = (spacing_mm[a] for a in reversed([a for a in range(3) if a != axis]))
        cut = (position[axis], axis, frame)
        panel.imshow(_slice(grey, *cut), cmap="gray", vmin=window[0], vmax=window[1], aspect=high / wide)
        panel.autoscale(False)
        for target, colour in colours.items():
            _contour(panel, _slice(truths[target], *cut), colour, "solid")
            _contour(panel, _slice(predictions[target], *cut), _lighter(colour), (0, (2.2, 1.6)))
        _annotate(panel, letters if anatomical else "", wide)
        if len(planes) == 3:
            place = f"{name}, slice {position[axis] + 1} of {grey.shape[axis]}"
            panel.set_title(place, fontsize=9, color="#444444", pad=4)
    figure.text(0.01, 1 - 0.12 / height, title, fontsize=12, fontweight="bold", va="top", color="#111111")
    _legend(figure, colours, {score.target: score for score in scores})
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _as_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(*spatial) -> three axes that run to the patient's right, anterior and superior; and the spacing in mm."""
    from nibabel.orientations import apply_orientation, io_orientation

    volume = array[..., None] if array.ndim == 2 else array
    orientation = io_orientation(affine)
    spacing_mm = np.empty(3)
    spacing_mm[orientation[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    return apply_orientation(volume, orientation), spacing_mm


def _as_picture(image: Image) -> np.ndarray:
    """An affine under which a picture without any place in a patient is shown as it is: rows down, columns right."""
    rows, columns = image.spacing_mm
    return np.array([[0, -columns, 0, 0], [-rows, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)


def _frame(grey: np.ndarray) -> tuple[slice, ...]:
    """The box around all that is not the constant background of a skull-stripped or padded image."""
    box = bounding_box(grey != grey[0, 0, 0])
    if any(side.stop == 0 for side in box):
        return tuple(slice(0, size) for size in grey.shape)
    margins = [max(2, (side.stop - side.start) // 20) for side in box]
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, margin, size in zip(box, margins, grey.shape, strict=True)
    )


def _position(truths: list[np.ndarray], predictions: list[np.ndarray]) -> list[int]:
    """For each axis the slice that shows most: every target's area there as a share of its largest, added up.

    It stays within the largest connected part of the truth (of the prediction, if the truth is empty).
    """
    masks = truths if any(mask.any() for mask in truths) else predictions
    union = np.logical_or.reduce(masks)
    if not union.any():
        return [size // 2 for size in union.shape]
    parts, _ = components(union)
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    position = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        areas = [np.count_nonzero(mask & largest, axis=others) for mask in masks]
        position.append(int(np.argmax(np.sum([area / max(area.max(), 1) for area in areas], axis=0))))
    return position


def _slice(volume: np.ndarray, index: int, axis: int, frame: tuple[slice, ...]) -> np.ndarray:
    """One plane, (rows, columns) as on a light box: for each pair of RAS axes, both run the other way."""
    where = tuple(index if a == axis else side for a, side in enumerate(frame))
    return volume[where][::-1, ::-1].T


def _extent_mm(frame: tuple[slice, ...], spacing_mm: np.ndarray, axis: int) -> tuple[float, float]:
    """Width and height of a plane in mm."""
    wide, high = ((frame[a].stop - frame[a].start) * spacing_mm[a] for a in range(3) if a != axis)
    return float(wide), float(high)


def _contour(panel: Axes, mask: np.ndarray, colour: tuple[float, float, float], style: Any) -> None:
    from matplotlib.patheffects import withStroke

    if mask.any():  # padded, so that a contour closes at the edge of the image
        rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
        lines = panel.contour(columns, rows, np.pad(mask, 1), levels=[0.5], colors=[colour], linewidths=1.6)
        lines.set(linestyle=style, path_effects=[withStroke(linewidth=2.8, foreground="#000000a0")])


def _annotate(panel: Axes, letters: str, step_mm: float) -> None:
    """Orientation letters, a scale bar, no ticks."""
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=2.5, foreground="black")]
    sides = (0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center")
    places = (*sides, (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))
    for letter, (x, y, horizontal, vertical) in zip(letters, places, strict=False):  # none where there is no patient
        panel.text(
            x, y, letter, transform=panel.transAxes, ha=horizontal, va=vertical, color="white", fontsize=12,
            fontweight="bold", path_effects=edge,
        )  # fmt: skip
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    length_mm = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= (right - left) * step_mm / 4), default=1)
    x, y = left + (right - left) * 0.03, bottom + (top - bottom) * 0.03
    panel.plot([x, x + length_mm / step_mm], [y, y], color="white", linewidth=2.5, path_effects=edge)
    panel.text(
        x, y + (top - bottom) * 0.015, f"{length_mm} mm", color="white", fontsize=8, va="bottom", path_effects=edge
    )
    panel.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="black")
    panel.spines[:].set_visible(False)


def _legend(figure: Any, colours: dict[str, tuple[float, float, float]], scores: dict[str, CaseScore]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=5) for colour in colours.values()]
    handles.append(Line2D([], [], color="#444444", linewidth=1.6))
    handles.append(Line2D([], [], color="#888888", linewidth=1.6, linestyle=(0, (2.2, 1.6))))
    names = [*(_describe(target, scores) for target in colours), "truth", "prediction"]
    name_legend(figure, handles, names, loc="lower left", ncols=2, frameon=False, fontsize=9, handlelength=2.2)


def _describe(target: str, scores: dict[str, CaseScore]) -> str:
    score = scores.get(target)
    if score is None:
        return target
    if score.state != "scored":
        return f"{target}: {STATE_TEXT[score.state]}"
    figures = [NAMED[name].format(value) for name in NAMED if (value := score.metrics.get(name)) is not None]
    return f"{target}: {', '.join(figures)}" if figures else target


def _lighter(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Dashes of the target's hue that still show where they run on top of its solid line."""
    red, green, blue = colour
    return 0.35 * red + 0.65, 0.35 * green + 0.65, 0.35 * blue + 0.65
