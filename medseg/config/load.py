"""From a YAML file and `--set key=value` to a `Config`, or to every mistake at once, each with its line and remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.config.cards import load_card
from medseg.config.document import Document, document_of, read_document, write_document
from medseg.config.network import NetworkConfig, encoder_in_use
from medseg.config.older import forget_what_said_nothing
from medseg.config.schema import Config
from medseg.config.validate import validated
from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.resources import resource_file, resource_names
from medseg.inference.cleaning import CLEANING

RUN_CONFIG = "config.yaml"  # in the folder of a run


def find_config(name: str | Path) -> Path:
    """The file that a person means: a path, or the bare name of a config that medseg ships (`demo`)."""
    path = Path(name)
    if path.is_file():
        return path
    if path.parent == Path() and not path.suffix and not path.exists():
        return resource_file("configs", str(name))
    shipped = path.stem in resource_names("configs")
    remedy = f"medseg ships one: write {path.stem!r}, or `medseg configs {path.stem} --copy`" if shipped else ""
    raise ConfigError(Problem(str(path), "no such file", remedy))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply `--set` overrides ("training.seed=1"), and validate; raises ConfigError with it all."""
    return _validated(read_document(find_config(path), overrides))


def load_text(text: str, source: str, overrides: Sequence[str] = ()) -> Config:
    """As `load_config`, of a config that is in no file yet.

    Args:
        source: what messages call it.
    """
    return _validated(document_of(text, source, overrides))


def start_with(config: Config, run: str | Path) -> Config:
    """The config of a training that begins with a run, whose network it has where it names none itself."""
    data = config.model_dump(mode="json", exclude=set() if "network" in config.model_fields_set else {"network"})
    data["training"]["start"] = str(run)
    return _validated(Document(source="the config", data=data))


def start_override(run: str | Path | None) -> list[str]:
    """The same as an override of `load_config`."""
    return [] if run is None else [f"training.start={json.dumps(str(run))}"]


def _validated(document: Document) -> Config:
    forget_what_said_nothing(document)
    _begin_with(document)
    _change_network(document)
    _check_card(document)
    return validated(Config, document)


def dump_config(config: Config) -> str:
    """The resolved config, every default included, as YAML that loads to an equal one."""
    return write_document(config.model_dump(mode="json"))


def _begin_with(document: Document) -> None:
    """`training.start`: where the document names no network, what it does not say of it is as in that run."""
    training, network = document.data.get("training"), document.data.get("network") or {}
    start = training.get("start") if isinstance(training, dict) else None
    if not isinstance(start, str) or not isinstance(network, dict) or "name" in network:
        return
    folders = [Path(start), *sorted(Path(start).glob("fold_*"))]
    file = next((folder / RUN_CONFIG for folder in folders if (folder / RUN_CONFIG).is_file()), None)
    if file is None:
        what = f"{start} is no run of medseg ({RUN_CONFIG} is missing), and the config names no network"
        where, remedy = document.where(("training", "start")), "give the folder of a finished `medseg train`"
        document.problems.append(Problem(where, what, remedy))
        return
    saved = read_document(file)
    theirs = {} if (section := saved.data.get("network")) is None else section
    if not isinstance(theirs, dict):
        what, remedy = f"expected a section, got {theirs!r}", "give another run, or name the network in the config"
        saved.problems.append(Problem(saved.where(("network",)), what, remedy))
    if saved.problems:
        document.problems += saved.problems
        return
    own = {key: value for key, value in theirs.items() if key not in ("pretrained", "inflate")}
    document.data["network"] = {**own, **network}


def _change_network(document: Document) -> None:
    """`--set network.name=...`: leave the file's options behind that belong to the network it was written for.

    Options given with `--set` stay, and so do misspelt ones, for validation to complain about.
    """
    now = document.data.get("network")
    if not isinstance(now, dict) or ("network", "name") not in document.replaced:
        return
    before = {**now, **{keys[1]: value for keys, value in document.replaced.items() if keys[:-1] == ("network",)}}
    old, new = (NetworkConfig.parts_of({key: value for key, value in of.items() if value}) for of in (before, now))
    if old == new or not old or not new:
        return
    left = {*old[0].options, "encoder", "encoder_options"} - set(new[0].options)
    if encoder_in_use(before) != encoder_in_use(now):
        left.add("encoder_options")
    for key in sorted(left & set(now)):
        if not document.where(("network", key)).startswith("--set"):
            del now[key]


def _check_card(document: Document) -> None:
    """Add what is wrong with the data set card that the document names, and with keys that must agree with it."""
    section = document.data.get("data")
    if not isinstance(section, dict) or not isinstance(section.get("card"), str):
        return
    name = section["card"]
    names = resource_names("datasets")
    if name not in names:
        where = document.where(("data", "card"))
        document.problems.append(Problem(where, f"no data set card is called {name!r}", did_you_mean(name, names)))
        return
    targets = load_card(name).labels.targets
    inference = document.data.get("inference")
    own = section.get("regions") or section.get("merge")  # the card's are not the targets then
    asked: dict[str, Any] = inference if isinstance(inference, dict) and not own else {}
    for key in CLEANING.own:
        named = asked.get(key)
        for target in named if isinstance(named, (list, dict)) else ():
            if target not in targets:
                keys = ("inference", key, str(target)) if isinstance(named, dict) else ("inference", key)
                remedy = did_you_mean(str(target), targets)
                document.problems.append(Problem(document.where(keys), f"unknown target {target!r}", remedy))
