"""`medseg bundle`: a config to a MONAI bundle, without training."""

from __future__ import annotations

from pathlib import Path

from medseg.bundle.facts import describe_data
from medseg.bundle.trained import Trained
from medseg.bundle.write import write_bundle
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, Problem, RunError
from medseg.core.files import replace_file
from medseg.data.splits.split import SPLIT_FILE
from medseg.runs.official import read_data
from medseg.runs.split import run_split


def bundle(config: Config, *, output: Path) -> None:
    """Compile the config into a folder; of a fold, with its split, which needs the data.

    Raises:
        MedsegError: neither a card nor a readable data set says what the labels mean, or there is no such fold.
    """
    fold = config.data.fold is not None
    if fold and config.data.root is None:
        raise ConfigError("data.root: folds are of a data set, whose folder is not given", "add --set data.root=DIR")
    dataset = read_data(config) if fold else None
    facts = describe_data(config, dataset)
    bundled = Trained(output, config, facts)
    split = run_split(bundled, dataset, anew=not bundled.weights.exists()) if fold else None
    if split is not None and split.parts != run_split(bundled, dataset, anew=True).parts:
        what = f"holds weights that were trained on another split ({split.why})"
        raise RunError(Problem(str(output), what, "give another --output DIR"))
    write_bundle(config, output=output, facts=facts)
    if split is not None:
        replace_file(output / SPLIT_FILE, split.to_json())
