"""The command line: one verb, one function; one family of verbs, one file.

A new verb is a function in the file of its family, or in a new file that `FAMILIES` names; `ORDER` gives it its place
in `--help`. Whatever is heavy is imported inside the verb, so `--help` is instant.

Exit codes: 0 fine; 1 finished, but some cases failed (they are listed); 2 bad usage, config or data, or a machine that
does not let medseg go on (disk, memory, rights); 70 a mistake of medseg's own; 130 and 143 stopped by
SIGINT or SIGTERM. Results go to stdout, progress and errors to stderr; with `--json`, stdout is one JSON document.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medseg import __version__
from medseg.cli import data, masks, parts, predict, runs, train
from medseg.cli.failure import tell, tell_stopped, threads_told
from medseg.core.files import check_name
from medseg.core.stopping import Interrupted, listening

FAMILIES = (train, runs, predict, data, masks, parts)
ORDER = (
    *("demo", "configs", "validate", "train", "evaluate", "predict", "postprocess", "score", "submission", "composite"),
    *("check", "plan", "bundle", "review", "clean", "networks", "doctor"),
)
"""The verbs as `--help` lists them; one that is not named here comes after these."""


class Ordered(TyperGroup):
    """Verbs in their order, whatever family they are of."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda verb: ORDER.index(verb) if verb in ORDER else len(ORDER))


app = typer.Typer(
    cls=Ordered,
    name="medseg",
    help="Semantic segmentation of medical images: train, evaluate, predict. Every run is a MONAI bundle.",
    epilog="Start with `medseg demo`, or `medseg configs`.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for family in FAMILIES:
    app.add_typer(family.app)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; whatever fails is one message, of which other processes beside this one say nothing."""
    with threads_told(sys.argv[1:]), listening():
        try:
            for argument in sys.argv[1:]:
                check_name(argument)
            app()
        except Interrupted as stopped:
            sys.exit(tell_stopped(stopped, sys.argv[1:]))
        except Exception as error:
            sys.exit(tell(error, sys.argv[1:]))
