"""`medseg predict`: masks for images, on their own grids; one bad scan never stops a cohort."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.bundle.facts import DataFacts
from medseg.bundle.run import run_bundle
from medseg.bundle.write import write_bundle
from medseg.config.coding import recode
from medseg.core.errors import PartialFailure, Problem
from medseg.data.cases.dataset import list_inputs
from medseg.engine.cohort import CohortReport, mask_path
from medseg.engine.device import first_process_first, process_group, rank
from medseg.engine.memory import peak_memory_text
from medseg.runs.decision import read_decided, say_cleaning
from medseg.runs.volumes import read_volumes, volume_text, write_volumes


def predict(
    run: Path,
    *,
    input: Path,
    output: Path,
    overwrite: bool = False,
    postprocess: bool = True,
    coding: str | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> list[Path]:
    """Predict the masks of a file, a folder of images, or a data set.

    Args:
        run: the folder of a trained run; its bundle is compiled anew from `config.yaml`, its YAML is not executed.
        input: one image, a folder of images (`{case}_0000` for one channel a file), or an MSD / nnU-Net data set.
        output: folder of the masks `{case}.nii.gz` (of pictures: `{case}.png`) and their JSON sidecars; the volumes
            of all of them are in `volumes.csv`.
        overwrite: predict cases again that have a mask in `output`; default: skip them, unless a map is missing.
        postprocess: False leaves out what `medseg postprocess` decided.
        coding: values in the masks, see `config.coding`; default: `inference.coding` of the run.
        probabilities: also a map of each target's probability, `{case}_probability_{target}`, before the mask is
            cleaned; NIfTI that is read as 0 to 1, of pictures 8-bit grey PNG.
        uncertainty: also `{case}_entropy`, from 0 to 1, and of an ensemble `{case}_disagreement`, from 0 to 0.5
            (formulas: `medseg.inference.maps`).

    Returns:
        The masks of all cases that have one now.

    Raises:
        PartialFailure: some cases failed; they are listed in `output/failed.csv`.
        MedsegError: the folder is no trained run, there is no image at `input`, or its targets do not fit the coding.
    """
    config, facts = read_decided(run, postprocess)
    wishes = wished(facts, overwrite=overwrite, coding=coding, probabilities=probabilities, uncertainty=uncertainty)
    say_cleaning(config)
    with process_group():
        first_process_first(lambda: write_bundle(config, output=run, facts=facts) if rank() == 0 else None)
        return run_inference(run, len(facts.channels), input=input, output=output, wishes=wishes)


def wished(
    facts: DataFacts, *, overwrite: bool, coding: str | None, probabilities: bool, uncertainty: bool
) -> dict[str, Any]:
    """What `predict` is asked for beyond the config, as values of the bundle's ids."""
    wishes: dict[str, Any] = {"overwrite": overwrite, "probabilities": probabilities, "uncertainty": uncertainty}
    if coding is not None:
        wishes["recode"] = [list(pair) for pair in recode(facts.labels, coding).items()]
    return wishes


def run_inference(bundle: Path, channels: int, *, input: Path, output: Path, wishes: Mapping[str, Any]) -> list[Path]:
    """Run the inference of a bundle that was just written, see `predict`; inside a process group.

    Args:
        channels: of an image.
        wishes: see `wished`.
    """
    started = time.perf_counter()
    cases = list_inputs(input, channels)
    workflow = run_bundle(bundle, "inference", dataset_dir=str(input), output_dir=str(output), **wishes)
    cohort: CohortReport = workflow.parser.get_parsed_content("handlers#1")
    done = {case.name: path for case in cases if (path := mask_path(output, case.name, case.first)).exists()}
    masks = list(done.values())
    if rank() == 0:
        if volumes := read_volumes(output, list(done)):
            write_volumes(volumes, output)
            print(volume_text(volumes))
        if maps := workflow.parser.get_parsed_content("maps"):
            print(f"maps of each case: {', '.join(maps)}")
            if "entropy" in maps and "disagreement" not in maps:
                print("no map of disagreement: a single network has nobody to disagree with; give several --run")
        print(f"{len(cohort.finished)} cases predicted, {len(masks)} masks in {output}")
        print(f"{time.perf_counter() - started:.1f} s, {peak_memory_text()}")
    if cohort.failures:
        raise PartialFailure(
            [Problem(f.case, f.reason) for f in cohort.failures]
            + [Problem(str(output / "failed.csv"), f"{len(cohort.failures)} of {len(cases)} cases failed")],
            result={"masks": [str(mask) for mask in masks]},
        )
    return masks
