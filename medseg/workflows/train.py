"""`medseg train`: a config to a trained, evaluated, reviewable run."""

from __future__ import annotations

import time
from pathlib import Path

from medseg.bundle.run import run_bundle
from medseg.config.schema import Config
from medseg.config.weights import absolute_weights
from medseg.core.errors import ConfigError
from medseg.engine.device import first_process_first, process_group, rank
from medseg.planning.rehearse import rehearse
from medseg.runs.folder import open_run
from medseg.runs.official import check_official
from medseg.workflows.evaluate import evaluate


def train(config: Config, *, run: Path, restart: bool = False, dry_run: bool = False) -> Path:
    """Train (or continue) the experiment, evaluate its best weights and write the report.

    The same call on the same folder resumes a run that was interrupted, and trains a finished one longer when its
    budget was raised.

    Args:
        config: the experiment; `data.root` must be given.
        run: the folder of the run.
        restart: start anew, removing the results of an earlier run in the folder.
        dry_run: only list the cases, build the network and time one step; nothing is written.

    Returns:
        The run folder.

    Raises:
        MedsegError: the config, the data or the folder do not fit, before anything expensive begins.
    """
    if config.data.root is None:
        raise ConfigError("data.root: the folder of the data set is not given", "add --set data.root=DIR")
    config = _with_weights(with_root(config, Path(config.data.root).resolve()))
    check_official(config)
    if dry_run:
        rehearse(config)
        return run
    with process_group():
        started = time.perf_counter()
        first_process_first(lambda: open_run(config, run, restart=restart) if rank() == 0 else None)
        run_bundle(run, "train")
        evaluate(run)
        if rank() == 0:
            print(f"finished in {(time.perf_counter() - started) / 60:.1f} min: {run}")
    return run


def with_root(config: Config, root: Path) -> Config:
    """The config with another `data.root`."""
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(root)})})


def _with_weights(config: Config) -> Config:
    """The config with the absolute path of its pretrained weights."""
    source = absolute_weights(config.network.pretrained)
    return config.model_copy(update={"network": config.network.model_copy(update={"pretrained": source})})
