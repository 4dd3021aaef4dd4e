"""The report of a run: one HTML file that opens anywhere, needs no network and no script, and prints to PDF."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.metrics.table import MetricsTable
from medseg.review.charts import agreement, curves
from medseg.review.colours import target_colours

STATE_WORDS = {"missed": "missed", "false_positive_only": "not in the truth", "absent": "absent"}


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    table: MetricsTable,
    history: Sequence[Mapping[str, float | None]] = (),
    overlays: Sequence[tuple[str, bytes]] = (),
    config_text: str = "",
    environment: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
) -> None:
    """Write the report of an evaluation.

    Args:
        path: of the HTML file; it appears whole or not at all.
        title: usually the config's name.
        summary: of `MetricsTable.summary()`.
        table: every case's scores.
        history: one row an epoch, see `charts.curves`; empty: no curves.
        overlays: (caption, PNG) of the cases to look at first; empty: none.
        config_text: the resolved config, as YAML.
        environment: versions and devices; plain data, shown as it is.
        labels: for the data set's own colours.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment_text = json.dumps(environment, indent=2, default=str) if environment else ""
    colours = target_colours(table.targets, labels)
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"number": number, "interval": _interval, "sentence": sentence, "lines": _lines}
    template = jinja.from_string(files("medseg.review").joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        style=Markup(stylesheet()),
        title=title,
        summary=summary,
        columns=table.columns,
        fewer_cases=table.fewer_cases(summary),
        colours={name: "#" + "".join(f"{round(255 * part):02x}" for part in rgb) for name, rgb in colours.items()},
        curves=Markup(curves(history, colours)) if history else None,
        agreement=Markup(agreement(table, colours)) if table.scores else None,
        training=history[-1] if history else None,
        overlays=[(caption, base64.b64encode(png).decode()) for caption, png in overlays],
        cases=_cases(table),
        state_words=STATE_WORDS,
        config_text=config_text,
        environment_text=environment_text,
        version=__version__,
    )
    replace_file(path, page)


def stylesheet() -> str:
    """The CSS of a report, to be written into it."""
    return files("medseg.review").joinpath("report.css").read_text(encoding="utf-8").rstrip()


def _cases(table: MetricsTable) -> list[tuple[str, list[Any]]]:
    """Every case with its scores, the worst first; those in which every target is absent at the end."""
    rows: dict[str, list[Any]] = {case: [] for case in table.ranking()}
    rows |= {case: [] for case in table.cases if case not in rows}
    for score in table.scores:
        rows[score.case].append(score)
    return list(rows.items())


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _lines(text: str) -> Any:
    """A heading as narrow as its longest word."""
    from markupsafe import Markup, escape

    return Markup("<br>").join(escape(word) for word in text.split())


def _interval(interval: Sequence[float] | None, digits: int = 3) -> str:
    return "" if interval is None else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"
