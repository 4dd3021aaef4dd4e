"""What a training begins with that begins with another run's weights: those weights, and whom they have seen.

models/start.pt  of `train --from`: the weights as the new network has them; not needed once there is a checkpoint
start.json       which run they are of, their digest, and on which cases it and those before it were trained

A file of weights that `network.pretrained` names is traced alike where it lies in a run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from medseg.bundle.facts import DataFacts
from medseg.bundle.trained import Trained
from medseg.config.finder import FINDER
from medseg.config.load import RUN_CONFIG
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, DataError, Problem, RunError, below, listed
from medseg.core.files import readable, replace_file
from medseg.core.stored import Stored
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import file_digest
from medseg.data.splits.patients import said_patients
from medseg.data.splits.split import SPLIT_FILE, Split
from medseg.engine.resume import START, load_named, save_atomically
from medseg.networks import build_network
from medseg.networks.finetune import Carried, Ends, carried_over
from medseg.runs.changes import say
from medseg.runs.foreign import is_bundle, is_config
from medseg.runs.seen import Seen
from medseg.runs.split import FILES, run_split

START_FILE = "start.json"
KEY = "training.start"


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Args:
        weights: as the new network has them; None: those of a file that `network.pretrained` names.
        record: what `start.json` says.
        seen: names of held-out cases that other data had too, on which the weights were trained.
        images: identities of all images that they were trained on, as far as they are known.
    """

    weights: Carried | None
    record: dict[str, Any]
    seen: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()

    def write(self, run: Path) -> None:
        """Put both files into the folder of the run; the weights last, so that there are none of unknown cases."""
        replace_file(run / START_FILE, json.dumps(self.record, indent=1) + "\n")
        if self.weights is None:
            return
        (run / START).parent.mkdir(parents=True, exist_ok=True)
        save_atomically(dict(self.weights.tensors), run / START)

    def __str__(self) -> str:
        text = f"begins with {self.record['run']}: {self.weights or self.record['weights']['file']}"
        if not self.seen:
            return text
        names = f"{len(self.seen)} held-out cases are called as cases of other data that it was trained on"
        return f"{text}\n  {names} ({listed(self.seen)}): if they are the same ones, the figures deceive"


def start_from(origin: Trained, config: Config, facts: DataFacts, dataset: Dataset, split: Split) -> Start:
    """The weights of a finished run for the network of the config, which may have other channels and targets.

    Raises:
        ConfigError: the networks are of different kinds, with the keys of the config that differ.
        RunError: the run has no weights, or was trained on cases that are held out now.
    """
    if not origin.weights.is_file():
        remedy = "give the folder of a finished `medseg train`"
        raise RunError(Problem(str(origin.folder), "has no weights yet", remedy))
    begun = _traced(origin, origin.weights, config, dataset, split)
    state = load_named(origin.weights)
    with below("network"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        old, new = _ends(origin.config, origin.facts), _ends(config, facts)
        network = new.network(len(new.inputs), len(new.outputs))
        weights = carried_over(state, old, new, network)
    if weights.problems or origin.config.network.name != config.network.name:
        raise ConfigError(_differences(origin, config, weights))
    changed = {"adapted": list(weights.adapted), "initial": list(weights.fresh)}
    return replace(begun, weights=weights, record={**begun.record, **changed})


def pretrained_from(origin: Trained, file: Path, config: Config, dataset: Dataset, split: Split) -> Start:
    """Whom the weights have seen that lie in the folder of a run, as that of `network.pretrained`.

    Raises:
        RunError: they were trained on cases that are held out now.
    """
    return _traced(origin, file, config, dataset, split)


def run_of_weights(file: Path) -> Path | None:
    """The folder of the run, or fold, that these weights are of, its finder's too; None: they lie in none.

    Of weights in a bundle that MONAI itself has trained nobody knows whom they have seen, which is said.
    """
    models = file.resolve().parent
    folder = models.parent
    if models.name != START.parent.name:
        return None
    if folder.name == FINDER and _is_run(folder.parent):
        return folder.parent
    if _is_run(folder):
        return folder
    say(f"unverified: nobody knows on which cases {file} was trained", unless=not is_bundle(folder))
    return None


def _is_run(folder: Path) -> bool:
    """Whether it is a run by its config, or has lost that; another program's folder may have files of single names."""
    described = is_config(folder / RUN_CONFIG) and (folder / "data.json").is_file()
    return described or ((folder / FILES).is_file() and (folder / SPLIT_FILE).is_file())


def _traced(origin: Trained, file: Path, config: Config, dataset: Dataset, split: Split) -> Start:
    """On whom the run of these weights, and those before it, were trained; raises where those are held out now."""
    trained_on = _trained_on(origin, dataset)
    images = Seen.by([origin])
    seen = _check_unseen(origin, config, dataset, split, trained_on, images)
    record = {
        "run": str(origin.folder.resolve()),
        "name": origin.name,
        "weights": {"file": file.name, "sha256": file_digest(file)},
        "trained_on": trained_on,
    }
    return Start(None, record, seen, images.identities)


def _ends(config: Config, facts: DataFacts) -> Ends:
    """How the config's network is built; a neighbouring slice is called by its distance, `T1 -1`."""
    name, options, slices = config.network.name, config.network.options(), config.data.context or 1
    around = [f" {shift:+}" if shift else "" for shift in range(-(slices // 2), slices // 2 + 1)]
    return Ends(
        lambda inner, outer: build_network(name, in_channels=inner, out_channels=outer, **options),
        tuple(f"{channel}{distance}" for channel in facts.channels for distance in around),
        facts.labels.channels,
    )


def _differences(origin: Trained, config: Config, weights: Carried) -> list[Problem]:
    """What differs in the network's section; where nothing does, in the networks."""
    there, here = ({"name": one.network.name, **one.network.options()} for one in (origin.config, config))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    remedy = "leave the section network out, and it is that of the run; or begin with another run"
    if not keys:
        return [Problem(KEY, f"{origin.folder} is another network: {listed(weights.problems)}", remedy)]
    return [
        Problem(f"network.{key}", f"is {here.get(key)!r}, but {there.get(key)!r} in {origin.folder}", remedy)
        for key in keys
    ]


def _trained_on(origin: Trained, dataset: Dataset) -> list[dict[str, Any]]:
    """Roots of data sets, and the names of the cases there that the run, and those before it, were trained on."""
    before = _trained_before(origin)
    root = Path(str(origin.config.data.root)).resolve()
    try:
        own = run_split(origin, dataset if root == dataset.root else None).training
    except DataError as error:  # of a run from before splits were kept, whose data are gone
        what = "does not say which cases it was trained on"
        raise RunError([Problem(str(origin.folder), what, "bring its data back"), *error.problems]) from None
    return [*before, {"root": str(root), "cases": list(own)}]


def _trained_before(origin: Trained) -> list[dict[str, Any]]:
    """What the run's own `start.json` lists; empty of a run that began with no other one.

    Raises:
        RunError: it began with another one, and the file is missing or damaged.
    """
    file = origin.folder / START_FILE
    if origin.config.training.start is None and not file.exists():
        return []
    try:
        record = _Record.model_validate_json(readable(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        what = f"does not say on which cases the weights were trained that it began with: {START_FILE} is missing"
        what = f"{what} or damaged"
        raise RunError(Problem(str(origin.folder), what, "restore that file, or begin with another run")) from None
    return [{"root": one.root, "cases": one.cases} for one in record.trained_on]


class _Cases(Stored):
    root: str
    cases: list[str]


class _Record(BaseModel):
    """What of `start.json` is read again."""

    trained_on: list[_Cases]


def _check_unseen(
    origin: Trained,
    config: Config,
    dataset: Dataset,
    split: Split,
    trained_on: Sequence[dict[str, Any]],
    images: Seen,
) -> tuple[str, ...]:
    """Names of held-out cases that other data sets have as well; raises where cases of the same one were seen.

    They are the same by their names where the data set is the same one, and by their images anywhere.
    """
    held_out = {*split.validation, *split.test}
    names = {case.name for case in dataset.cases}
    for part in trained_on:  # a case may have left the data set since, and its patient not
        names |= set(part["cases"]) if Path(part["root"]) == dataset.root else set()
    data = config.data
    patients = said_patients(sorted(names), data.patient_pattern, data.patient_table, dataset.patients)
    seen, named = set(), set()
    for part in trained_on:
        cases = set(part["cases"])
        if Path(part["root"]) == dataset.root:
            who = {patients.get(name, name) for name in cases}
            seen |= {name for name in held_out if patients.get(name, name) in who}
        else:
            named |= held_out & cases
    who = {patients.get(name, name) for name in images.among(dataset.cases)}
    seen |= {name for name in held_out if patients.get(name, name) in who}
    if seen:
        what = f"was trained on {len(seen)} of the {len(held_out)} cases that are held out now, or on their patients"
        remedy = "begin with a run that held out the same ones (a fold with that fold), or hold out others"
        raise RunError(Problem(str(origin.folder), f"{what}: {listed(sorted(seen))}", remedy))
    return tuple(sorted(named))
