"""The command line: one verb, one function. Whatever is heavy is imported inside the verb, so `--help` is instant.

Exit codes: 0 fine; 1 finished, but some cases failed (they are listed); 2 bad usage, config or data. Results go to
stdout, progress and errors to stderr; with `--json`, stdout is one JSON document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg import __version__
from medseg.cli.known import configs, doctor, networks
from medseg.cli.options import (
    Coding,
    ConfigFile,
    Formats,
    Json,
    NoPostprocess,
    Overrides,
    Probabilities,
    Runs,
    Uncertainty,
    json_errors,
    json_result,
)
from medseg.cli.pictures import composite, score, submission
from medseg.core.errors import ConfigError, MedsegError
from medseg.data.cases.layouts import AUTO, LAYOUTS

app = typer.Typer(
    name="medseg",
    help="Semantic segmentation of medical images: train, evaluate, predict. Every run is a MONAI bundle.",
    epilog="Start with `medseg demo`, or `medseg configs`.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for everything.")] = Path("runs/demo"),
) -> None:
    """Draw synthetic brain tumours, train on them, evaluate, predict and report: three minutes on a laptop."""
    from medseg.workflows.demo import demo

    demo(folder=output)


app.command()(configs)


@app.command()
def validate(
    config: Annotated[
        str, typer.Argument(metavar="[CONFIG]", help="YAML file or shipped name.", show_default=False)
    ] = "",
    overrides: Overrides = [],  # noqa: B006  (Typer copies it)
    schema: Annotated[
        bool, typer.Option("--schema", metavar="", help="Print the JSON schema of a config, for editors.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a config, and report every mistake at once. Touches no data and loads no torch."""
    from medseg.config.load import config_schema, find_config, load_config
    from medseg.config.weights import missing_weights

    if schema:
        return typer.echo(json.dumps(config_schema(), indent=2))
    if not config:
        raise ConfigError("validate needs a CONFIG", "for example: medseg validate demo")
    with json_errors(as_json):
        valid = load_config(config, overrides)
        if problem := missing_weights(valid.network.pretrained):
            raise ConfigError(problem)
        if as_json:
            typer.echo(json.dumps({"valid": True, "config": valid.model_dump(mode="json")}, indent=2))
        else:
            typer.echo(f"{find_config(config)}: valid")


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Folder of the run; default runs/<name of the config>.")
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
) -> None:
    """Train, evaluate and report. The same command again goes on where it stopped."""
    from medseg.config.load import load_config

    settings = load_config(config, overrides)
    from medseg.workflows.train import train

    train(settings, run=run, fold=fold, restart=restart, dry_run=dry_run)


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
    as_json: Json = False,
) -> None:
    """Score a run, or an ensemble, on the cases that it did not train on, and write the report."""
    from medseg.workflows.evaluate import evaluate

    with json_result(as_json) as result:
        result.update(evaluate(run, data=data, split=split, postprocess=not no_postprocess, output=output))


@app.command()
def predict(
    run: Runs,
    source: Annotated[Path, typer.Option("--input", metavar="PATH", help="An image, a folder of them, or a data set.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the masks.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Predict again what is there already.")
    ] = False,
    no_postprocess: NoPostprocess = False,
    coding: Coding = None,
    formats: Formats = "auto",
    probabilities: Probabilities = False,
    uncertainty: Uncertainty = False,
    as_json: Json = False,
) -> None:
    """Segment images: one mask each, on the grid of its image."""
    from medseg.workflows.predict import predict

    options: dict[str, Any] = {"overwrite": overwrite, "postprocess": not no_postprocess, "coding": coding}
    options |= {"formats": formats.split(","), "probabilities": probabilities, "uncertainty": uncertainty}
    with json_result(as_json) as result:
        masks = predict(run, input=source, output=output, **options)
        result["masks"] = [str(mask) for mask in masks]


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
    as_json: Json = False,
) -> None:
    """Find out on held-out masks which cleaning helps; predict and evaluate then do it."""
    from medseg.workflows.postprocess import postprocess

    with json_result(as_json) as result:
        result.update(postprocess(run, crf=crf, workers=workers))


for verb in (score, submission, composite):
    app.command()(verb)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set.", show_default=False)],
    layout: Annotated[
        str, typer.Option("--layout", metavar="NAME", help=f"How it is organised: {', '.join([AUTO, *LAYOUTS.own])}.")
    ] = "auto",
    card: Annotated[
        str | None, typer.Option("--card", metavar="NAME", help="What its labels mean; pictures need one.")
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
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of a data set.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", metavar="CONFIG", help="The config to write.")],
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="N", min=0.1, help="Of training, on this machine.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option("--memory-gib", metavar="N", min=0.1, help="That training may use.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a config that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a data set and write a config for it and for this machine, every number with its reason."""
    from medseg.workflows.plan import plan, summary

    with json_result(as_json) as result:
        made = plan(
            data, output=output, minutes=minutes, memory_gib=memory_gib, overrides=overrides, overwrite=overwrite
        )
        typer.echo(summary(made))
        result.update(config=str(made.path), fingerprint=made.fingerprint.as_dict())
        result["folds"] = json.loads(made.folds.to_json()) if made.folds else None


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


@app.command()
def review(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)],
    port: Annotated[int, typer.Option("--port", help="Port of the page.")] = 6006,
) -> None:
    """Open TensorBoard on a run."""
    from medseg.workflows.review import review

    review(run, port=port)


app.command()(networks)
app.command()(doctor)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a mistake of the user is printed without a traceback, any other error with it."""
    try:
        app()
    except MedsegError as error:
        typer.echo(
            f"error: {error}" if len(error.problems) == 1 else f"{len(error.problems)} problems\n{error}", err=True
        )
        sys.exit(error.exit_code)
