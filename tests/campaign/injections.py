"""Code of MONAI's bundle language in every text that a file or a user can give, to every verb: none is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.campaign.entry import Outcome, medseg
from tests.campaign.inputs import MAKERS, VERBS, Home
from tests.campaign.mutate import places, sealed_anew
from tests.campaign.rows import Row
from tests.injections import EVIL as ODD

SECTION = "injections"
CALL = "__import__('os').system('touch executed')"
EVIL = (f"${CALL}", f"$({CALL}, 'out#2')", "$import this")
ZEN = "Beautiful is better than ugly"  # what `import this` prints
A_MINUTE = 240
FILES = {
    "tiny.yaml": ("validate", "bundle", "dry-run"),
    "run/config.yaml": ("predict", "evaluate"),
    "data/dataset.json": ("check", "bundle", "dry-run"),
    "run/data.json": ("predict", "evaluate"),
    "run/split.json": ("evaluate",),
    "run/files.json": ("evaluate",),
    "run/environment.json": ("evaluate",),
    "folds/splits.json": ("fold dry", "postprocess"),
    "folds/fold_0/postprocessing.json": ("predict cleaned", "evaluate folds"),
    "masks/tiny_04.json": ("predict again",),
    "masks/medseg/tiny_04.json": ("predict again",),
}
"""File -> who reads it."""
SET = ("name", "description", "data.root", "data.cache", "data.card", "training.start", "network.pretrained")
NAMED = ("--input", "--output", "--run", "--config", "--data")


@dataclass(frozen=True)
class Place:
    """Where text can be put, what it is given to, and how it gets there."""

    what: str
    verb: str
    put: Callable[[Path, str], list[str]]
    """(home, text) -> the arguments of medseg."""


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    home = Home(folder, list(MAKERS))
    there = list(in_turn(all_places(home), Random(seed)))
    random = Random(seed)
    tried = there if full else there[: max(8, round(A_MINUTE * minutes))]
    found: dict[str, list[str | None]] = {}
    for place in tried:
        for text in (*EVIL, *ODD) if full else [random.choice(EVIL)]:
            found.setdefault(place.what.split(":")[0], []).append(fault_of(home, place, text))
    for what, faults in sorted(found.items()):
        yield Row.of(SECTION, what, faults)


def in_turn(places: Iterable[Place], random: Random) -> Iterator[Place]:
    """One of each kind and verb, then another of each, in a drawn order."""
    kinds: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        kinds.setdefault((place.what.split(":")[0], place.verb), []).append(place)
    for several in kinds.values():
        random.shuffle(several)
    while any(kinds.values()):
        yield from [several.pop() for several in kinds.values() if several]


def fault_of(home: Home, place: Place, text: str) -> str | None:
    """What was executed, or went wrong; None: nothing."""
    folder = home.fresh(place.verb, *(["masks"] if place.verb == "predict again" else []))
    try:
        arguments = place.put(folder, text)
    except (OSError, ValueError):  # no file can be called so
        return None
    outcome = medseg(*arguments, cwd=folder)
    fault = "executed" if _executed(folder, outcome) else outcome.fault
    return None if fault is None else f"{place.verb}, {place.what}, {text!r}: {fault}"


def _executed(folder: Path, outcome: Outcome) -> bool:
    return any(folder.rglob("executed")) or ZEN in outcome.out + outcome.err


def all_places(home: Home) -> Iterator[Place]:
    """Every entry of every file, and every name of a file or a folder."""
    for name, verbs in FILES.items():
        if not home.found(name):
            continue
        tree = _read(name, home.content(name))
        for at in places(tree):
            if at:
                for verb in verbs:
                    yield Place(f"values of {Path(name).name}:{at}", verb, _value(name, at, verb))
                    if isinstance(at[-1], str):
                        yield Place(f"keys of {Path(name).name}:{at}", verb, _key(name, at, verb))
    for verb, words in VERBS.items():
        for number, word in enumerate(words):
            if word in NAMED:
                yield Place(f"paths:{word}", verb, _path(verb, number + 1))
    for verb in ("predict", "predict pictures", "predict series", "evaluate both", "check", "plan", "train"):
        yield Place(f"names of cases:{verb}", verb, _case(verb))
    for verb in ("validate", "bundle", "dry-run", "train"):
        for key in SET:
            yield Place(f"--set:{key}", verb, _set(verb, key))


def _read(name: str, content: bytes) -> Any:
    return yaml.safe_load(content) if name.endswith(".yaml") else json.loads(content)


def _write(file: Path, tree: Any) -> None:
    text = yaml.safe_dump(tree) if file.suffix == ".yaml" else json.dumps(sealed_anew(tree), indent=1) + "\n"
    file.write_text(text)


def _value(name: str, at: tuple[Any, ...], verb: str) -> Callable[[Path, str], list[str]]:
    def put(home: Path, text: str) -> list[str]:
        tree = _read(name, (home / name).read_bytes())
        _inner(tree, at)[at[-1]] = text
        _write(home / name, tree)
        return VERBS[verb]

    return put


def _key(name: str, at: tuple[Any, ...], verb: str) -> Callable[[Path, str], list[str]]:
    def put(home: Path, text: str) -> list[str]:
        tree = _read(name, (home / name).read_bytes())
        inner = _inner(tree, at)
        inner[text] = inner.pop(at[-1])
        _write(home / name, tree)
        return VERBS[verb]

    return put


def _inner(tree: Any, at: tuple[Any, ...]) -> Any:
    for key in at[:-1]:
        tree = tree[key]
    return tree


def _path(verb: str, number: int) -> Callable[[Path, str], list[str]]:
    """The path after an option: what is there is called so."""

    def put(home: Path, text: str) -> list[str]:
        words = list(VERBS[verb])
        old = home / words[number]
        words[number] = str(Path(words[number]).parent / text.replace("/", "")) + ("" if old.is_dir() else old.suffix)
        if old.exists():
            old.rename(home / words[number])
        return words

    return put


def _case(verb: str) -> Callable[[Path, str], list[str]]:
    """Files of images and labels are called so, in dataset.json too."""

    def put(home: Path, text: str) -> list[str]:
        text = text.replace("/", "").replace("\0", "")
        for file in [*home.glob("data/*/tiny_0*"), *home.glob("flat/imagesTs/p4_*"), *home.glob("series/case")]:
            file.rename(file.with_name(file.name.replace("tiny", text).replace("p4", text).replace("case", text)))
        for listed in home.glob("data/dataset.json"):
            listed.write_text(listed.read_text().replace("tiny_0", json.dumps(text)[1:-1] + "_0"))
        return VERBS[verb]

    return put


def _set(verb: str, key: str) -> Callable[[Path, str], list[str]]:
    return lambda home, text: [*VERBS[verb], "--set", f"{key}={json.dumps(text)}"]
