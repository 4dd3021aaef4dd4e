"""From a data set to a run: the verbs that make one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import AcceptChanges, ConfigFile, Overrides, Verify

app = typer.Typer()


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for everything.")] = Path("runs/demo"),
) -> None:
    """Draw synthetic brain tumours, train on them, evaluate, predict and report: three minutes on a laptop."""
    from medseg.workflows.demo import demo

    demo(folder=output)


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Folder of the run; default runs/<name of the config>.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin with the weights of a finished run.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", metavar="", help="Begin anew, not where the run stopped.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Check all, time a few steps, train nothing.")
    ] = False,
    fold: Annotated[
        str | None, typer.Option("--fold", metavar="K|all", help="Hold out this part of data.folds, or each in turn.")
    ] = None,
    accept_changes: AcceptChanges = False,
    verify: Verify = False,
) -> None:
    """Train, evaluate and report. The same command again goes on where it stopped."""
    from medseg.config.load import load_config, start_override
    from medseg.workflows.train import train

    settings = load_config(config, [*overrides, *start_override(start)])
    train(
        settings,
        run=run,
        fold=fold,
        restart=restart,
        dry_run=dry_run,
        accept_changes=accept_changes,
        verify=verify,
    )


@app.command()
def bundle(
    config: ConfigFile,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of the bundle.")],
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Compile a config to a MONAI bundle, without training."""
    from medseg.config.load import load_config
    from medseg.workflows.bundle import bundle

    bundle(load_config(config, overrides), output=output)
    typer.echo(f"bundle: {output}")
