"""The folder of a run: what is in it, and whether a config may continue it.

runs/brain/  config.yaml  data.json  environment.json  history.csv  report.html  tensorboard/
             configs/{train,evaluate,inference}.yaml  models/{model,checkpoint}.pt  eval/  cache/
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from medseg.bundle.facts import DataFacts, describe_data
from medseg.bundle.write import write_bundle
from medseg.core.errors import Problem, RunError
from medseg.core.files import replace_file
from medseg.config.load import dump_config, load_config
from medseg.config.network import NetworkConfig
from medseg.config.schema import Config
from medseg.engine.resume import CHECKPOINT
from medseg.networks import build_network
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.pretrained import load_pretrained
from medseg.engine.machine import doctor
from medseg.runs.folds import keep_folds

RESULTS = ("models", "tensorboard", "eval", "history.csv", "report.html", "class_weights.json")

# A finished run can be trained longer, and validated, loaded or placed otherwise; anything else makes another run.
MAY_CHANGE = (
    "description",
    "data.root",
    "data.cache",
    "data.folds_file",
    "inference",
    "evaluation",
    "training.max_epochs",
    "training.max_minutes",
    "training.early_stop_epochs",
    "training.workers",
)


def open_run(config: Config, run: Path, *, restart: bool = False) -> None:
    """Make the folder of a new run, or continue the run that is there, and compile its bundle.

    Args:
        config: the experiment, `data.root` given.
        run: the folder.
        restart: remove an earlier run's results first; its cache stays.

    Raises:
        RunError: the folder is something else, or the run in it was made with another config.
    """
    saved = run / "config.yaml"
    if run.exists() and not saved.exists() and any(run.iterdir()):
        raise RunError(f"{run}: this folder exists and is no run of medseg", "choose another with --run DIR")
    if saved.exists() and not restart:
        _same_experiment(load_config(saved), config, run)
    facts = describe_data(config)  # before anything is removed: a mistake in the config loses nothing
    if restart or not (run / "models" / CHECKPOINT).exists():
        _try_network(config.network, facts)
    if restart:
        for name in RESULTS:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    if config.data.fold is not None:
        keep_folds(config, run, anew=restart).fold(config.data.fold)
    replace_file(saved, dump_config(config))
    replace_file(run / "data.json", facts.to_json())
    replace_file(run / "environment.json", json.dumps(doctor(), indent=2, default=str) + "\n")
    write_bundle(config, output=run, facts=facts)


def _try_network(options: NetworkConfig, facts: DataFacts) -> None:
    """Raise a ConfigError when the network's options do not fit together, or the weights to start from do not fit it.

    That is before a run is bound to them and its cases are cached.
    """
    channels: dict[str, Any] = {"in_channels": len(facts.channels), "out_channels": len(facts.labels.channels)}
    build = partial(build_network, options.name, **channels, **options.options())
    if options.pretrained is None:
        Pretended.built(build)
    else:
        load_pretrained(build(), options.pretrained, inflate=options.inflate)


def read_run(run: Path) -> tuple[Config, DataFacts]:
    """The config and the data facts of a run, both plain data; the bundle's YAML in the folder is never executed.

    Raises:
        RunError: the folder holds no run.
    """
    for name in ("config.yaml", "data.json"):
        if not (run / name).is_file():
            raise RunError(f"{run}: no run of medseg ({name} is missing)", "give the folder of a `medseg train`")
    return load_config(run / "config.yaml"), DataFacts.from_json((run / "data.json").read_text())


def _same_experiment(old: Config, new: Config, run: Path) -> None:
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    changed = [
        key
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not any(key == k or key.startswith(f"{k}.") for k in MAY_CHANGE)
    ]
    if changed:
        raise RunError(
            [
                Problem(f"{run}: {key}", f"is {after.get(key)!r}, but this run was begun with {before.get(key)!r}")
                for key in changed
            ]
            + [Problem("", "the run cannot go on with another config", "give --run DIR, or --restart to start anew")]
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
