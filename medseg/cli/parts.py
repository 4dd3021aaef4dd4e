"""What there is to choose from, whether a choice is valid, and what this machine makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.options import Json, Overrides, json_errors, json_result
from medseg.core.errors import ConfigError, Problem, below

app = typer.Typer()


@app.command()
def configs(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The config to show.", show_default=False)] = "",
    copy: Annotated[bool, typer.Option("--copy", metavar="", help="Copy it to ./NAME.yaml, to change it.")] = False,
) -> None:
    """List the shipped configs, show one, or copy one."""
    from medseg.core.resources import resource_file, resource_names

    if not name:
        names = resource_names("configs")
        width = max(map(len, names)) + 2
        for known in names:
            title = resource_file("configs", known).read_text(encoding="utf-8").splitlines()[0]
            typer.echo(f"{known:{width}}{title.lstrip('# ')}")
        return
    file = resource_file("configs", name)
    if not copy:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)
        return
    target = Path(f"{name}.yaml")
    if target.exists():
        raise ConfigError(f"{target} exists already", "rename or remove it first")
    shutil.copyfile(file, target)
    typer.echo(f"copied to {target}; train with: medseg train --config {target}")


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
    from medseg.config.editor import config_schema
    from medseg.config.load import find_config, load_config
    from medseg.networks.weights import weights_file

    if schema:
        return typer.echo(json.dumps(config_schema(), indent=2))
    if not config:
        raise ConfigError("validate needs a CONFIG", "for example: medseg validate demo")
    with json_errors(as_json):
        valid = load_config(config, overrides)
        if valid.network.pretrained is not None:
            with below("network"):
                weights_file(valid.network.pretrained)
        if as_json:
            typer.echo(json.dumps({"valid": True, "config": valid.model_dump(mode="json")}, indent=2))
        else:
            typer.echo(f"{find_config(config)}: valid")


@app.command()
def networks(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The network to show.", show_default=False)] = "",
    dims: Annotated[int, typer.Option("--dims", metavar="2|3", min=2, max=3, help="Spatial dimensions.")] = 2,
    size: Annotated[
        str, typer.Option("--size", metavar="N[,N,N]", help="Size of the image; default 512 in 2D, 96 in 3D.")
    ] = "",
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, help="Channels of the image; default 3 in 2D, 1 in 3D.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="Classes, background too; default 21 in 2D, 4 in 3D.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="NAME", help="Encoder in place of its own.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    measure: Annotated[
        bool, typer.Option("--measure", metavar="", help="Measure effective field and speed; with NAME it always does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what each network costs and how far it sees, or show one with its stages."""
    lengths = size.split(",") if size else []
    if not all(length.strip().isdecimal() for length in lengths):
        raise ConfigError(Problem("--size", f"{size!r} is not a size", "for example --size 512, or --size 96,96,64"))
    from medseg.review.networks_text import as_text
    from medseg.workflows.networks import networks

    with json_result(as_json) as result:
        result |= networks(
            name or None,
            spatial_dims=dims,
            size=[int(length) for length in lengths],
            channels=channels,
            classes=classes,
            encoder=encoder,
            overrides=overrides,
            measure=measure or bool(name),
        )
    if not as_json:
        typer.echo(as_text(result))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine and this installation can do, and what is missing."""
    from medseg.workflows.doctor import as_text, doctor

    facts = doctor()
    typer.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))
    raise typer.Exit(2 if facts["problems"] else 0)
