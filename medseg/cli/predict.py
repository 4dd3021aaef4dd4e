"""New images through a run: the verbs that need nothing but its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.options import Coding, Formats, Json, NoPostprocess, Probabilities, Runs, Uncertainty, json_result
from medseg.core.startup import monai_alone

app = typer.Typer()


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
    any_scan: Annotated[
        bool, typer.Option("--any-scan", metavar="", help="Also DICOM of another kind (CT, MR) than was trained on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Segment images: one mask each, on the grid of its image."""
    with monai_alone():
        from medseg.workflows.predict import predict

    options: dict[str, Any] = {"overwrite": overwrite, "postprocess": not no_postprocess, "coding": coding}
    options |= {"formats": formats.split(","), "probabilities": probabilities, "uncertainty": uncertainty}
    options["any_scan"] = any_scan
    with json_result(as_json) as result:
        masks = predict(run, input=source, output=output, **options)
        result["masks"] = [str(mask) for mask in masks]


@app.command()
def composite(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of a run on colour pictures.")],
    source: Annotated[Path, typer.Option("--input", metavar="PATH", help="A picture, or a folder of frames.")],
    background: Annotated[str, typer.Option("--background", metavar="PICTURE|COLOUR", help="What is put behind.")],
    output: Annotated[Path, typer.Option("--output", metavar="PATH", help="Folder of the results, or one PNG.")],
    target: Annotated[
        list[str], typer.Option("--target", metavar="CLASS", help="What is kept; may be repeated. Default: person.")
    ] = [],  # noqa: B006  (Typer copies it)
    size: Annotated[
        int | None,
        typer.Option("--size", min=16, help="Longer side at which the network sees a frame; default 192."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replace the background of pictures, soft at the border; say how many frames a second."""
    from medseg.workflows.composite import composite

    with json_result(as_json) as result:
        done = composite(run, input=source, background=background, output=output, target=target, size=size)
        typer.echo(done.text())
        result.update(done.as_dict())
