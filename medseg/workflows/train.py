"""`medseg train`: a config to a trained, evaluated, reviewable run."""

from __future__ import annotations

import time
from pathlib import Path

from medseg.bundle.run import run_compiled
from medseg.config.schema import Config
from medseg.config.weights import absolute_weights
from medseg.data.cases.dataset import Dataset
from medseg.engine.device import in_first_process, process_group, rank
from medseg.planning.rehearse import rehearse
from medseg.runs.folder import open_run, reopen_run
from medseg.runs.official import read_data
from medseg.runs.report import REPORT
from medseg.workflows.evaluate import evaluate_run


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
    config = with_paths(config)
    dataset = read_data(config)
    if dry_run:
        rehearse(config, dataset)
    else:
        train_on(config, dataset, run=run, restart=restart)
    return run


def train_on(config: Config, dataset: Dataset, *, run: Path, restart: bool = False) -> None:
    """As `train`, on a data set that is read already."""
    with process_group():
        started = time.perf_counter()
        opened = in_first_process(lambda: open_run(config, run, dataset, restart=restart)) or reopen_run(run, dataset)
        run_compiled(opened.contents["train"], data=dataset, split=opened.split)
        evaluate_run(run, opened=opened, report=run / REPORT, board=run / "tensorboard")
        if rank() == 0:
            print(f"finished in {(time.perf_counter() - started) / 60:.1f} min: {run}")


def with_paths(config: Config) -> Config:
    """The config with absolute paths of its data and of its pretrained weights, so that it holds from anywhere."""
    root, source = config.data.root, absolute_weights(config.network.pretrained)
    config = config.model_copy(update={"network": config.network.model_copy(update={"pretrained": source})})
    return config if root is None else with_root(config, Path(root).resolve())


def with_root(config: Config, root: Path) -> Config:
    """The config with another `data.root`."""
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(root)})})
