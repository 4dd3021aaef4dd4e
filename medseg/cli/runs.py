"""A run that is there: the verbs that judge it, improve it, show it and tidy it up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import AcceptChanges, Json, NoPostprocess, Runs, Verify, json_result

app = typer.Typer()


@app.command()
def evaluate(
    run: Runs,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Score all of another data set.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="An official split of the data set, such as test.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Folder of the results; default RUN/eval.")
    ] = None,
    no_postprocess: NoPostprocess = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Predict every case again; default: score the masks that are there.")
    ] = False,
    accept_changes: AcceptChanges = False,
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Score a run, or an ensemble, on the cases that it did not train on, and write the report."""
    from medseg.workflows.evaluate import evaluate

    with json_result(as_json) as result:
        changes = {"accept_changes": accept_changes, "verify": verify}
        kept = {"postprocess": not no_postprocess, "anew": anew}
        result.update(evaluate(run, data=data, split=split, output=output, **kept, **changes))


@app.command()
def postprocess(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of a `medseg train --fold all`.")],
    crf: Annotated[
        str | None,
        typer.Option(
            "--crf", metavar="NAME", help="Try the dense CRF too (pydensecrf, deeplabv2, ...): predicts again."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes; default one a core.", min=1, show_default=False)
    ] = None,
    accept_changes: AcceptChanges = False,
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Find out on held-out masks which cleaning helps; predict and evaluate then do it."""
    from medseg.workflows.postprocess import postprocess

    with json_result(as_json) as result:
        result.update(postprocess(run, crf=crf, workers=workers, accept_changes=accept_changes, verify=verify))


@app.command()
def review(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    port: Annotated[int, typer.Option("--port", help="Port of the page.")] = 6006,
) -> None:
    """Open TensorBoard on a run."""
    from medseg.workflows.review import review

    review(run, port=port)


@app.command()
def clean(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of folds.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Remove it, without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Say what takes room in a run and can be made again (cache, raw masks, leftovers), and free it."""
    from medseg.workflows.clean import clean

    found = clean(run, free=yes)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.text())
    if yes or as_json or not found.found:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        typer.echo("nothing is removed: give --yes")
    elif typer.confirm("remove all of this?"):
        typer.echo(clean(run, free=True).text())
