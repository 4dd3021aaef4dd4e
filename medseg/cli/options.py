"""What the verbs of the command line share: options that mean the same everywhere, and results as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.core.errors import MedsegError, PartialFailure
from medseg.data.writers import WRITERS

ConfigFile = Annotated[str, typer.Option("--config", metavar="CONFIG", help="YAML file, or the name of a shipped one.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key; may be repeated.")]
Runs = Annotated[
    list[Path],
    typer.Option("--run", metavar="DIR", help="Folder of a run; several are an ensemble.", show_default=False),
]
Coding = Annotated[
    str | None,
    typer.Option("--coding", metavar="WAY", help="Values in the masks: own, brats (0/1/2/4), or TARGET=VALUE,..."),
]
Formats = Annotated[
    str,
    typer.Option(
        "--format", metavar="NAME[,NAME]", help=f"Of the masks: {', '.join(WRITERS.own)}; auto: by the kind of image."
    ),
]
NoPostprocess = Annotated[
    bool, typer.Option("--no-postprocess", metavar="", help="Without the steps that `medseg postprocess` decided on.")
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", metavar="", help="Also a map of each target's probability.")
]
Uncertainty = Annotated[
    bool, typer.Option("--uncertainty", metavar="", help="Also maps of entropy and an ensemble's disagreement.")
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for machines.")]

AcceptChanges = Annotated[
    bool,
    typer.Option("--accept-changes", metavar="", help="Go on with changed data, without what was on the other side."),
]
Verify = Annotated[
    bool, typer.Option("--verify", metavar="", help="Compare the content of every file with the run's digests.")
]


@contextlib.contextmanager
def json_result(wanted: bool) -> Iterator[dict[str, Any]]:
    """A dict that is printed at the end; meanwhile what the workflow prints goes to stderr. Both only when wanted.

    Where only some cases failed it holds what there is of the others, and the `problems`.
    """
    result: dict[str, Any] = {}
    failure: PartialFailure | None = None
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        try:
            yield result
        except PartialFailure as error:
            failure = error
            result |= {**error.result, "problems": plain_problems(error)}
    if wanted:
        typer.echo(json.dumps(result, indent=2))
    if failure is not None:
        raise failure


@contextlib.contextmanager
def json_errors(wanted: bool) -> Iterator[None]:
    """Print a mistake as JSON when wanted, else leave it to `main`."""
    try:
        yield
    except MedsegError as error:
        if not wanted:
            raise
        typer.echo(json.dumps({"valid": False, "problems": plain_problems(error)}, indent=2))
        raise typer.Exit(error.exit_code) from None


def plain_problems(error: MedsegError) -> list[dict[str, str]]:
    return [asdict(problem) for problem in error.problems]
