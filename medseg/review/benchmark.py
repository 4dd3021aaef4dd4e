"""The report of a run on natural images: one HTML file that opens anywhere, as that of `review.html`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.files import replace_file
from medseg.metrics.summary import NAMES, BenchmarkTable
from medseg.review.charts import curves
from medseg.review.html import STATE_WORDS, number, sentence, stylesheet
from medseg.review.picture import label_palette


def write_benchmark_report(
    path: Path,
    *,
    title: str,
    table: BenchmarkTable,
    cases: Mapping[str, float],
    history: Sequence[Mapping[str, float | None]] = (),
    overlays: Sequence[tuple[str, bytes]] = (),
    config_text: str = "",
    environment: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of an evaluation by the rules of a benchmark.

    Args:
        path: of the HTML file; it appears whole or not at all.
        title: usually the config's name.
        table: the figures.
        cases: name of a picture -> mean IoU, the worst first.
        history: one row an epoch, see `charts.curves`; empty: no curves.
        overlays: (caption, PNG) of the pictures to look at first.
        config_text: the resolved config, as YAML.
        environment: versions and devices; plain data, shown as it is.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    summary = table.summary()
    labels = table.benchmark.labels
    rgb = {name: label_palette(labels)[value] for name, value in labels.classes.items()}
    drawn = {name: (int(r) / 255, int(g) / 255, int(b) / 255) for name, (r, g, b) in rgb.items()}
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["number"] = number
    template = jinja.from_string(files("medseg.review").joinpath("benchmark.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        style=Markup(stylesheet()),
        title=title,
        summary=summary,
        means=[(sentence(name), summary[key]) for key, name in NAMES.items() if key in summary],
        with_objects="mean_iiou" in summary,
        colours={name: "#" + "".join(f"{part:02x}" for part in value) for name, value in rgb.items()},
        curves=Markup(curves(history, drawn)) if history else None,
        training=history[-1] if history else None,
        overlays=[(caption, base64.b64encode(png).decode()) for caption, png in overlays],
        cases=dict(cases),
        state_words=STATE_WORDS,
        config_text=config_text,
        environment_text=json.dumps(environment, indent=2, default=str) if environment else "",
        version=__version__,
    )
    replace_file(path, page)
