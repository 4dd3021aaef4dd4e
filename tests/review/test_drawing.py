"""Names in drawings stand there as they are written: no mathematics, no TeX, and none is left out."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from medseg.core.labels import Labels
from medseg.data.files.images import Image
from medseg.metrics.score import CaseScore
from medseg.metrics.table import MetricsTable
from medseg.review.charts import agreement, curves
from medseg.review.drawing import name_legend, plain_text
from medseg.review.overlay import overlay_figure
from medseg.review.picture import picture_figure

NAMES = (r"a $\nothing{$", "a $x_1$", "_hidden", "a_b^c")  # Matplotlib refuses the first as mathematics


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("usetex", [False, True])
def test_every_drawing_shows_a_name_as_it_is(name: str, usetex: bool) -> None:
    labels = Labels({"background": 0, name: 1})
    volume, flat = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    volume[2:4, 2:4, 2:4] = flat[2:4, 2:4] = 1
    with matplotlib.rc_context({"text.usetex": usetex}):  # as a matplotlibrc in the folder may say
        image = Image(np.random.default_rng(0).normal(size=(1, 6, 6, 6)).astype(np.float32), np.eye(4), None)  # type: ignore[arg-type]
        assert overlay_figure(image, volume, volume, labels=labels, title=name)
        assert picture_figure(np.zeros((3, 6, 6), np.uint8), flat, flat, labels=labels, title=name, note=name)
        history = [{"epoch": 1, "train/loss": 0.5, "val/mean_dice": 0.5, f"val/dice/{name}": 0.5}]
        assert f">{name}<" in curves(history, {})
        scores = [CaseScore("a", name, "scored", {"dice": 0.5}, 1.0, 1.0, 2.0, 1, 1, 1)]
        assert agreement(MetricsTable(scores), {}).count(f">{name}<") == 2, "below the axis and in the legend"


def test_a_legend_has_every_name() -> None:
    axes = Figure().subplots()
    with plain_text():
        handles = [axes.plot([0, 1])[0] for _ in NAMES]
        name_legend(axes, handles, NAMES)
    texts = axes.get_legend().get_texts()
    assert [text.get_text() for text in texts] == list(NAMES)
    assert not any(text.get_parse_math() for text in texts)
