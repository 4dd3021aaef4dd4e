"""`medseg bundle`: a config to a MONAI bundle, without training."""

from __future__ import annotations

from pathlib import Path

from medseg.bundle.facts import describe_data, reading_as
from medseg.bundle.trained import Trained
from medseg.bundle.write import write_bundle
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, Problem, RunError
from medseg.core.files import replace_file
from medseg.data.splits.split import SPLIT_FILE
from medseg.engine.places import door
from medseg.engine.resume import CHECKPOINT, MODEL, START
from medseg.runs.foreign import OF_BUNDLE, check_bundle
from medseg.runs.official import read_data
from medseg.runs.split import run_split

BEGUN = (START.name, CHECKPOINT, MODEL)  # in `models`: weights to begin with, to go on from, or to predict with


def bundle(config: Config, *, output: Path) -> None:
    """Compile the config into a folder; of a fold, with its split, which needs the data.

    Raises:
        MedsegError: neither a card nor a readable data set says what the labels mean, or there is no such fold, or the
            bundle would begin with weights that are not there.
    """
    if config.training.start is not None and not any((output / "models" / one).exists() for one in BEGUN):
        what = f"{output} has no {START.as_posix()}: the weights of {config.training.start} as this network has them"
        remedy = "`medseg train` makes them and the bundle, in the run's folder; or leave the key out"
        raise ConfigError(Problem("training.start", what, remedy))
    fold = config.data.fold is not None
    if fold and config.data.root is None:
        raise ConfigError("data.root: folds are of a data set, whose folder is not given", "add --set data.root=DIR")
    with reading_as(config):
        dataset = read_data(config) if fold else None
        facts = describe_data(config, dataset)
        bundled = Trained(output, config, facts)
        split = run_split(bundled, dataset, anew=not bundled.weights.exists()) if fold else None
        if split is not None and split.parts != run_split(bundled, dataset, anew=True).parts:
            what = f"holds weights that were trained on another split ({split.why})"
            raise RunError(Problem(str(output), what, "give another --output DIR"))
        with door(output, lambda: check_bundle(output), account=OF_BUNDLE):
            write_bundle(config, output=output, facts=facts)
            if split is not None:
                for stage in bundled.stages:
                    replace_file(stage.folder / SPLIT_FILE, split.to_json())
