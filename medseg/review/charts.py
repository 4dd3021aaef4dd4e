"""The drawings of the report as inline SVG: learning curves, Dice of every case, volume agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.metrics.table import MetricsTable
from medseg.review.drawing import name_legend, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Colours = Mapping[str, tuple[float, float, float]]
GREY = "#444444"


def curves(history: Sequence[Mapping[str, float | None]], colours: Colours) -> str:
    """Training loss and validation Dice (or IoU) over the minutes (else epochs) of training.

    Args:
        history: one row an epoch: `epoch`, perhaps `minutes`, `train/loss`, `val/mean_dice`, `val/dice/<target>` (or
            `val/mean_iou`, `val/iou/<class>`); a value may be absent or None where an epoch was not validated.
        colours: of the targets.
    """
    metric, title = ("iou", "IoU") if any("val/mean_iou" in row for row in history) else ("dice", "Dice")
    clock = "minutes" if any(row.get("minutes") for row in history) else "epoch"

    def draw(loss: Axes, dice: Axes) -> None:
        loss.plot(*_series(history, clock, "train/loss"), color=GREY, linewidth=1.6)
        loss.set(title="Training loss", xlabel=clock)
        tags = dict.fromkeys(tag for row in history for tag in row if tag.startswith(f"val/{metric}/"))
        targets = [tag.removeprefix(f"val/{metric}/") for tag in tags]
        for tag, target in zip(tags, targets, strict=True):
            dice.plot(*_series(history, clock, tag), color=colours.get(target, GREY), **_marks(history))
        if any(f"val/mean_{metric}" in row for row in history):
            mean = _series(history, clock, f"val/mean_{metric}")
            dice.plot(*mean, color="black", linewidth=2, **_marks(history))
        dice.set(title=f"Validation {title}", xlabel=clock)
        dice.set_ylim(top=1.0)
        if dice.lines:
            lines = dice.get_lines()
            names = [*targets, "mean"][: len(lines)]
            name_legend(dice, lines, names, loc="lower right", frameon=False, fontsize=8)

    return _svg(draw, "curves")


def agreement(table: MetricsTable, colours: Colours) -> str:
    """Dice of every counted case by target, and (in 3D) predicted over true volume in ml with the line of equality."""

    def draw(dice: Axes, volume: Axes) -> None:
        values = table.matrix("dice")
        for column, target in enumerate(table.targets):
            counted = values[~np.isnan(values[:, column]), column]
            if not counted.size:
                continue
            spread = 0.28 * (np.argsort(np.argsort(counted)) * 0.618034 % 1 - 0.5)  # even, and the same every time
            dice.scatter(column + spread, counted, s=14, color=colours.get(target, GREY), alpha=0.75, linewidths=0)
            low, median, high = np.percentile(counted, (25, 50, 75))
            dice.plot([column - 0.3, column + 0.3], [median, median], color="black", linewidth=2)
            dice.plot([column + 0.3] * 2, [low, high], color="black", linewidth=1)
        dice.set_xticks(range(len(table.targets)), table.targets)
        dice.set_xlim(-0.6, len(table.targets) - 0.4)
        dice.set(title="Dice of each case (bars: median, quartiles)")
        dice.set_ylim(min(0.5, np.nanmin(values, initial=1.0)) - 0.02, 1.01)
        predicted, true = table.matrix("volume_ml"), table.matrix("truth_volume_ml")
        if np.isnan(true).all():
            volume.set_axis_off()
            return
        points = [
            volume.scatter(
                true[:, column], predicted[:, column], s=14, color=colours.get(target, GREY), alpha=0.75, linewidths=0
            )
            for column, target in enumerate(table.targets)
        ]
        top = max(np.nanmax(true), np.nanmax(predicted)) * 1.05 or 1.0
        volume.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--")
        volume.set(title="Volume in ml: prediction over truth", xlabel="truth", xlim=(0, top), ylim=(0, top))
        name_legend(volume, points, table.targets, loc="upper left", frameon=False, fontsize=8)

    return _svg(draw, "agreement")


def _marks(history: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.5 if len(history) <= 40 else 0}


def _series(history: Sequence[Mapping[str, float | None]], clock: str, tag: str) -> tuple[list[float], list[float]]:
    points = [(row.get(clock), row.get(tag)) for row in history]
    known = [(x, y) for x, y in points if x is not None and y is not None and np.isfinite(y)]
    return [x for x, _ in known], [y for _, y in known]


def _svg(draw: Callable[[Axes, Axes], None], name: str) -> str:
    """Two panels side by side, as an `<svg>` element that is the same for the same data."""
    from matplotlib.figure import Figure

    # The salt makes the ids in the file repeatable, and those of two drawings in one page different.
    with plain_text(svg__hashsalt=name, svg__fonttype="none", font__family="sans-serif", font__size=9):
        figure = Figure(figsize=(10, 3.3), layout="constrained")
        panels = figure.subplots(1, 2)
        for panel in panels:
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(True, color="#e4e4e4", linewidth=0.7)
            panel.set_axisbelow(True)
        draw(*panels)
        for panel in panels:
            panel.title.set(fontsize=10, color="#222222")
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]
