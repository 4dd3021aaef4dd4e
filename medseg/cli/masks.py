"""Masks of any method, beside their labels or on their way to a benchmark: the verbs that need no model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Json
from medseg.core.conventions import CONVENTIONS
from medseg.core.errors import PartialFailure

app = typer.Typer()
RULES = ", ".join(CONVENTIONS)


@app.command()
def score(
    prediction: Annotated[Path, typer.Option("--prediction", metavar="DIR", help="Folder of masks, of any method.")],
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="Folder of their labels.")],
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="CARD", help="What the values mean: a card, dataset.json, or a run.")
    ],
    convention: Annotated[
        str, typer.Option("--convention", metavar="NAME", help=f"Whose rules: {RULES}; default the card's.")
    ] = "",
    cases: Annotated[
        Path | None, typer.Option("--cases", metavar="FILE", help="Score only the cases that this text file lists.")
    ] = None,
    train_ids: Annotated[
        bool, typer.Option("--train-ids", metavar="", help="The masks hold trainIds instead of label values.")
    ] = False,
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", help="Tolerance of the surface Dice (medical).", min=0.0)
    ] = 1.0,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes; default one a core.", min=1, show_default=False)
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option("--nnunet-summary", metavar="FILE", help="Write nnU-Net's summary.json too (medical)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score any method's masks, 2D or 3D, by the rules of a benchmark. Needs no model."""
    from medseg.workflows.score import nnunet_file, score

    with nullcontext() if summary is None else nnunet_file(summary, dataset, convention or None) as write:
        report = score(
            prediction,
            truth,
            dataset=dataset,
            convention=convention or None,
            cases=cases,
            train_ids=train_ids,
            tolerance_mm=tolerance_mm,
            workers=workers,
        )
        if write is not None:
            write(report)
    typer.echo(json.dumps(report.as_dict(), indent=2, allow_nan=False) if as_json else report.text())
    if report.problems:
        raise PartialFailure(report.shown_problems())


@app.command()
def submission(
    prediction: Annotated[Path, typer.Option("--prediction", metavar="DIR", help="Folder of masks, of any method.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="CARD", help="cityscapes, voc2012 or ade20k.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of what is to be submitted.")],
    train_ids: Annotated[
        bool, typer.Option("--train-ids", metavar="", help="The masks hold trainIds instead of label values.")
    ] = False,
) -> None:
    """Write masks as a benchmark's server takes them: Cityscapes' labelIds, VOC's palette PNGs."""
    from medseg.workflows.submission import write_submission

    written = write_submission(prediction, dataset=dataset, output=output, train_ids=train_ids)
    typer.echo(f"{len(written)} masks: {output}")
