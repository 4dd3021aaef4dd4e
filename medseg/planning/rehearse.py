"""`medseg train --dry-run`: what a training would do, after one real step on random voxels; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.bundle.facts import DataFacts, describe_data
from medseg.bundle.preprocessing import loading
from medseg.bundle.trained import Trained
from medseg.config.schema import Config
from medseg.config.stages import second_stage
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.cases.inspection import CaseFacts
from medseg.data.cases.judge import Judge, sampled, say
from medseg.data.files.images import read_once
from medseg.data.training.apply import apply
from medseg.planning.step import measure_step
from medseg.runs.disk import cache_disk, run_cache
from medseg.runs.folder import read_start
from medseg.runs.split import run_split


def rehearse(config: Config, dataset: Dataset, run: Path) -> None:
    """Print cases, channels, targets, network and the cost of one training step of the config.

    Args:
        config: the experiment.
        dataset: that at its `data.root`.
        run: the folder that the run would have.

    Raises:
        DataError: the official lists share images.
        RunError: the disk has no room for the preprocessed cases; everything else is printed first.
    """
    training, facts = config.training, describe_data(config, dataset)
    split = run_split(Trained(run, config, facts), dataset)
    split.check_apart(dataset)
    start = read_start(Trained(run, config, facts), dataset, split)
    cases = [*split.cases(dataset, "training"), *split.cases(dataset, "validation")]
    disk = cache_disk(run_cache(config, facts, cases, run))
    _look(config, facts, cases)
    step = measure_step(config, facts)
    print(
        f"""\
data         {config.data.root}: {len(split.training)} cases to train on, {len(split.validation)} held out
channels     {", ".join(facts.channels)}
targets      {", ".join(facts.labels.targets)}
network      {config.network.name} {config.network.spatial_dims}D, {step.parameters / 1e6:.2f} M parameters
one step     {step.seconds:.2f} s for {training.batch_size} x {" x ".join(map(str, training.patch_size))}, \
{step.gmac:.1f} GMAC a patch, {step.precision} on {step.device}
peak memory  {step.peak_gib:.1f} GiB
disk         {disk.text()}
budget       {_budget(second_stage(config), step.seconds)}{_found(config)}"""
    )
    if start is not None:
        print(start)
    disk.check()


def _look(config: Config, facts: DataFacts, cases: Sequence[Case]) -> None:
    """Read all cases as the training would; what `check` warns of is printed.

    Raises:
        DataError: of all cases that would be refused, at once.
    """
    load, judge = loading(config, facts), Judge(facts.channels, facts.labels)
    coarse = {cases[number].name for number in sampled(len(cases))}

    def look(case: Case) -> CaseFacts:
        with read_once():
            return judge(case, apply(load, case.entry()), coarse=case.name in coarse)

    say(every_result(look, cases, bar="look at"))


def _found(config: Config) -> str:
    return "" if config.finder is None else f"; before it the finder has {config.finder.share:.0%} of the whole"


def _budget(config: Config, seconds: float) -> str:
    if config.training.max_minutes is not None:
        steps = int(config.training.max_minutes * 60 / seconds)
        return f"{config.training.max_minutes:g} minutes, about {steps} steps"
    if config.training.max_iterations is not None:
        hours = config.training.max_iterations * seconds / 3600
        return f"{config.training.max_iterations} steps, about {hours:.1f} hours"
    return f"{config.training.max_epochs} epochs"
