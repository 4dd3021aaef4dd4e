"""A data set before anything is trained on it: the verbs that measure it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Json, Overrides, json_result
from medseg.data.cases.layouts import AUTO, LAYOUTS

app = typer.Typer()


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set.", show_default=False)],
    layout: Annotated[
        str, typer.Option("--layout", metavar="NAME", help=f"How it is organised: {', '.join([AUTO, *LAYOUTS.own])}.")
    ] = "auto",
    card: Annotated[
        str | None,
        typer.Option("--card", metavar="NAME", help="What its labels mean; else each value is a class."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a data set before it is trained on; count classes, estimate memory and disk."""
    from medseg.workflows.check import check

    report = check(data, layout=layout, card=card)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.text())
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    output: Annotated[Path, typer.Option("--output", metavar="CONFIG", help="The config to write.")],
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="Folder of a data set.", show_default=False)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="N", min=0.1, help="Of training, on this machine.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", metavar="N", min=0.1, help="That training may use.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    again: Annotated[
        Path | None,
        typer.Option("--from", metavar="JSON", help="Write the same config again, by what an earlier plan measured."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a config that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a data set and write a config for it and for this machine, every number with its reason."""
    from medseg.workflows.plan import plan, summary

    with json_result(as_json) as result:
        made = plan(
            data,
            output=output,
            minutes=minutes,
            memory_gib=memory_gib,
            overrides=overrides,
            again=again,
            overwrite=overwrite,
        )
        typer.echo(summary(made))
        result.update(config=str(made.path), fingerprint=made.fingerprint.as_dict())
        result["folds"] = json.loads(made.folds.to_json()) if made.folds else None
