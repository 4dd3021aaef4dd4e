"""The folder of a run: what is in it, and whether a config may continue it.

runs/brain/  config.yaml  data.json  split.json  files.json  environment.json  history.csv  time.json  report.html
             tensorboard/  configs/{train,evaluate,inference}.yaml  models/{model,checkpoint}.pt  eval/  cache/
             finder/ (where there are two stages: the first one, a run without eval/)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.bundle.compile import Kind
from medseg.bundle.facts import DataFacts, describe_data, network_channels
from medseg.bundle.foresight import check_step
from medseg.bundle.language import Component
from medseg.bundle.trained import Trained
from medseg.bundle.write import KINDS, write_bundle
from medseg.config.finder import FINDER
from medseg.config.load import RUN_CONFIG, dump_config, load_config
from medseg.config.schema import Config
from medseg.core.errors import Problem, RunError, below
from medseg.core.files import make_folder, readable, replace_file
from medseg.core.machine import size_text
from medseg.core.sealed import sealed
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import file_digest
from medseg.data.splits.folds import FOLDS_FILE, read_folds
from medseg.data.splits.split import SPLIT_FILE, Split
from medseg.data.training.entries import KEPT_DAYS
from medseg.engine.machine import environment
from medseg.engine.resume import CHECKPOINT, HISTORY, MODEL, START
from medseg.networks import build_network
from medseg.networks.pretrained import load_pretrained
from medseg.networks.weights import is_there, weights_file
from medseg.runs.changes import LEARNT, Asked, check_facts, resumed, say_added
from medseg.runs.disk import cache_disk, run_cache
from medseg.runs.files import files_of, read_files
from medseg.runs.foreign import check_run
from medseg.runs.plugins import check_installed, check_same, plugins_of
from medseg.runs.spent import TIME
from medseg.runs.split import FILES, run_split
from medseg.runs.start import START_FILE, Start, pretrained_from, run_of_weights, start_from

CONFIG, DATA = RUN_CONFIG, "data.json"
ENVIRONMENT = "environment.json"
PRETRAINED = "pretrained"
DECISION_FILE = "postprocessing.json"  # see runs/decision.py
RUNS = Path("runs")  # where the folders are by default, by the names of their configs
RESULTS = (
    *("models", "tensorboard", "eval", HISTORY, "report.html", "class_weights.json"),
    *(SPLIT_FILE, FILES, FOLDS_FILE, DECISION_FILE, TIME, START_FILE),
)

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


@dataclass(frozen=True)
class Opened:
    """A run that can be trained: what it is, its data set and split, and what is run."""

    run: Trained
    dataset: Dataset
    split: Split
    contents: Mapping[Kind, Component]


def open_run(
    config: Config, run: Path, dataset: Dataset, *, restart: bool = False, asked: Asked | None = None
) -> Opened:
    """Make the folder of a new run, or continue the run that is there, and compile its bundle.

    Args:
        config: the experiment, `data.root` given.
        run: the folder.
        dataset: that at `data.root`.
        restart: remove an earlier run's results first; its cache stays.
        asked: what to do where the data have changed.

    Raises:
        DataError: the official lists share images, or the data set does not fit the rules of the split.
        RunError: the folder is something else, the run in it was made with another config or on other data, or the disk
            has no room for the preprocessed cases.
    """
    saved = run / CONFIG
    check_run(run, CONFIG)
    if saved.exists() and not restart:
        _same_experiment(load_config(saved), config, run)
    facts = describe_data(config, dataset)  # before anything is removed: a mistake in the config loses nothing
    begins = restart or not (run / "models" / CHECKPOINT).exists()
    trained = Trained(run, config, facts)
    if not restart and _has_learnt(trained):
        check_facts(Trained(run, config, read_facts(run)), facts)
    parameters = _try_network(config, facts) if begins else None
    if begins and trained.finder is not None:
        check_step(trained.finder.config, trained.finder.facts)
    split = run_split(trained, dataset, anew=restart)  # this too may be a mistake
    if not split.decided_as(_split_of_file(config) or split):
        what = "other folds than those that this run was begun with"
        raise RunError(Problem(str(config.data.folds_file), what, "give --run DIR, or --restart to start anew"))
    if not restart and _has_learnt(trained):
        split, files = resumed(trained, dataset, split, asked or Asked())
    else:
        split.check_apart(dataset)
        earlier = None if restart else read_files(run)
        learnt = [case for part in LEARNT for case in split.cases(dataset, part)]
        files = files_of(dataset, [*learnt, *split.present(dataset, "test")])
        files = replace(files, trained_on=frozenset() if earlier is None else earlier.trained_on)
    say_added(dataset, split)
    kept = (run / START).is_file() and (run / START_FILE).is_file() and not restart
    start = read_start(trained, dataset, split) if begins and not kept else None
    files = files if start is None else replace(files, trained_on=files.trained_on | start.images)
    for stage in trained.stages:
        _open_cache(stage, dataset, split, begins=begins)
    make_folder(run, "choose another with --run DIR")
    if restart:
        _remove_results(trained)
    for stage in reversed(trained.stages):  # the run's own config first, without which the folder is no run
        make_folder(stage.folder, "choose another with --run DIR")
        _describe(stage, split)
    files.write(run)
    if start is not None:
        start.write(run)
        print(start)
    write_environment(run, config)
    return Opened(trained, dataset, split, write_bundle(config, output=run, facts=facts, parameters=parameters))


def _has_learnt(run: Trained) -> bool:
    """Whether weights of it are there, so that it cannot be another run any more."""
    return any((stage.folder / "models" / file).exists() for stage in run.stages for file in (CHECKPOINT, MODEL))


def _split_of_file(config: Config) -> Split | None:
    """The split that `data.folds_file` says, whether or not the data set still has the cases."""
    data = config.data
    if data.folds_file is None or data.fold is None:
        return None
    fold = read_folds(data.folds_file, None).fold(data.fold)
    return Split(fold.training, fold.validation)


def _remove_results(run: Trained) -> None:
    """Those of an earlier run in the folder, of both its stages; the caches stay."""
    of_finder = [FINDER] if run.finder is None else [f"{FINDER}/{name}" for name in RESULTS]
    for path in (run.folder / name for name in (*RESULTS, *of_finder)):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _describe(run: Trained, split: Split) -> None:
    """Write into the folder what the run is."""
    replace_file(run.folder / CONFIG, dump_config(run.config))
    replace_file(run.folder / DATA, sealed(json.loads(run.facts.to_json()), indent=2))
    replace_file(run.folder / SPLIT_FILE, split.to_json())


def read_start(run: Trained, dataset: Dataset, split: Split) -> Start | None:
    """The weights of another run that this one begins with, if its config names any; raises as `start_from`."""
    start, source = run.config.training.start, run.config.network.pretrained
    if start is not None:
        return start_from(read_run(Path(start)), run.config, run.facts, dataset, split)
    folder = None if source is None else run_of_weights(Path(source))
    return None if folder is None else pretrained_from(read_run(folder), Path(str(source)), run.config, dataset, split)


def check_beginning(config: Config, dataset: Dataset, run: Path) -> None:
    """Raise whatever speaks against beginning anew: a mistake in the config, or a disk without room for the cases.

    Args:
        run: the folder that has, or will have, the cache.
    """
    facts = describe_data(config, dataset)
    _try_network(config, facts)
    cache_disk(run_cache(config, facts, list(dataset.cases), run)).check()


def check_resumed(run: Path, config: Config, dataset: Dataset, asked: Asked) -> bool:
    """Raise where a fold that has learnt something cannot go on with the data; else whether it has learnt something."""
    if not (run / CONFIG).exists() or not _has_learnt(trained := read_run(run)):
        return False
    check_facts(trained, describe_data(config, dataset))
    resumed(trained, dataset, run_split(trained, dataset), asked)
    return True


def reopen_run(run: Path, dataset: Dataset) -> Opened:
    """The run that the first process has just opened, for the others."""
    trained = read_run(run)
    return Opened(trained, dataset, run_split(trained, dataset), {kind: trained.compiled(kind) for kind in KINDS})


def _open_cache(run: Trained, dataset: Dataset, split: Split, *, begins: bool) -> None:
    """Say what the cache needs, refuse what does not fit the disk, and remove what nobody has used for long.

    Args:
        begins: the training has no checkpoint yet.
    """
    cases = split.cases(dataset, "training")
    if begins or run.finder is None:  # else they are there, in the regions that were found, which are not known here
        cases = [*cases, *split.cases(dataset, "validation")]
    cache = run_cache(run.config, run.facts, cases, run.folder)
    if unused := cache.tidy():
        size = size_text(sum(entry.size for entry in unused))
        print(f"cache: removed {len(unused)} cases that nobody has used for {KEPT_DAYS} days ({size})")
    disk = cache_disk(cache)
    print(f"disk: {disk.text()}")
    disk.check()


def _try_network(config: Config, facts: DataFacts) -> int:
    """The parameters of the network, counted without memory, as is the first step.

    That is before a run is bound to it and its cases are cached.

    Raises:
        ConfigError: its options do not fit together, or the weights to start from do not fit it; a step cannot be done.
        OutOfMemory: a step does not fit the memory.
    """
    options = config.network
    if options.pretrained is not None:
        channels: dict[str, Any] = {
            "in_channels": network_channels(config, facts),
            "out_channels": len(facts.labels.channels),
        }
        with below("network"):
            network = build_network(options.name, **channels, **options.options())
            load_pretrained(network, options.pretrained, inflate=options.inflate)
    return check_step(config, facts)


def read_run(run: Path) -> Trained:
    """A run's config and data facts, both plain data; the bundle's YAML in the folder is never executed.

    Raises:
        RunError: the folder holds no run, or a part of it comes with a package that is not installed, or of which
            another now brings what has that name.
    """
    for name in (CONFIG, DATA):
        if not (run / name).is_file():
            raise RunError(f"{run}: no run of medseg ({name} is missing)", "give the folder of a `medseg train`")
    plugins = read_environment(run).get("plugins", ())
    check_installed(run, plugins)
    config = load_config(run / CONFIG)
    check_same(run, plugins, config)
    return Trained(run, config, read_facts(run))


def read_facts(run: Path) -> DataFacts:
    """What the run knows of its data."""
    text = readable(run / DATA).read_text(encoding="utf-8", errors="replace")
    return DataFacts.from_json(text, str(run / DATA))


def write_environment(folder: Path, config: Config) -> None:
    """`environment.json`: versions and hardware of this moment, the packages that parts of the config come with, and
    the pretrained weights that the run began with."""
    content = {**environment(), "plugins": plugins_of(config), **_pretrained(folder, config)}
    replace_file(folder / ENVIRONMENT, json.dumps(content, indent=2, default=str) + "\n")


def _pretrained(folder: Path, config: Config) -> dict[str, Any]:
    """Name and digest of the pretrained weights; of a run that goes on, those that it began with, which may be gone."""
    source, known = config.network.pretrained, read_environment(folder).get(PRETRAINED)
    if source is None:
        return {}
    goes_on = known is not None and known.get("source") == source
    if goes_on and ((folder / "models" / CHECKPOINT).exists() or not is_there(source)):
        return {PRETRAINED: known}
    return {PRETRAINED: {"source": source, "sha256": file_digest(weights_file(source))}} if is_there(source) else {}


def read_environment(folder: Path) -> dict[str, Any]:
    """What `write_environment` wrote; empty where there is nothing, or something else."""
    try:
        content = json.loads(readable(folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    plugins, known = content.get("plugins", []), content.get(PRETRAINED, {})
    for key, wrong in {"plugins": not _are_tables(plugins), PRETRAINED: not _are_tables([known])}.items():
        if wrong:
            what = f"{key} is {content[key]!r}, expected names with text"
            raise RunError(Problem(str(folder / ENVIRONMENT), what, "bring the file back from a copy of the run"))
    return content


def _are_tables(content: Any) -> bool:
    """Whether it is a list of tables of text."""
    return isinstance(content, list) and all(
        isinstance(one, dict) and all(isinstance(text, str) for text in one.values()) for one in content
    )


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
