"""`medseg train --dry-run`: what a training would do, after one real step on random voxels; nothing is written."""

from __future__ import annotations

from typing import Any

from medseg.bundle.facts import describe_data
from medseg.config.schema import Config
from medseg.data.cases.dataset import load_cases
from medseg.planning.step import measure_step
from medseg.runs.folds import find_folds


def rehearse(config: Config) -> None:
    """Print cases, channels, targets, network and the cost of one training step of the config.

    Args:
        config: the experiment, `data.root` given.
    """
    data, training, facts = config.data, config.training, describe_data(config)
    cases = _count(config)
    step = measure_step(config, facts)
    print(
        f"""\
data         {data.root}: {cases["training"]} cases to train on, {cases["validation"]} held out
channels     {", ".join(facts.channels)}
targets      {", ".join(facts.labels.targets)}
network      {config.network.name} {config.network.spatial_dims}D, {step.parameters / 1e6:.2f} M parameters
one step     {step.seconds:.2f} s for {training.batch_size} x {" x ".join(map(str, training.patch_size))}, \
{step.gmac:.1f} GMAC a patch, {step.precision} on {step.device}
peak memory  {step.peak_gib:.1f} GiB
budget       {_budget(config, step.seconds)}"""
    )


def _count(config: Config) -> dict[str, int]:
    """Section -> number of its cases."""
    data = config.data
    if data.fold is not None:
        fold = find_folds(config).fold(data.fold)
        return {"training": len(fold.training), "validation": len(fold.validation)}
    listed: dict[str, Any] = {
        "layout": data.layout,
        "validation": data.validation,
        "seed": config.seed,
        "patient_pattern": data.patient_pattern,
        "patient_table": data.patient_table,
        "splits": {"training": data.training_split, "validation": data.validation_split},
    }
    return {section: len(load_cases(str(data.root), section, **listed)) for section in ("training", "validation")}


def _budget(config: Config, seconds: float) -> str:
    if config.training.max_minutes is not None:
        steps = int(config.training.max_minutes * 60 / seconds)
        return f"{config.training.max_minutes:g} minutes, about {steps} steps"
    if config.training.max_iterations is not None:
        hours = config.training.max_iterations * seconds / 3600
        return f"{config.training.max_iterations} steps, about {hours:.1f} hours"
    return f"{config.training.max_epochs} epochs"
