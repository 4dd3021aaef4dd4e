"""Every situation of the corpus ends as it has to, and each handling of one is needed."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tests.corpus
from tests.corpus.situation import HANDLINGS, SITUATIONS, Situation

HELP = {"situation", "test_corpus", "test_real"}
ROOMS = sorted(module.name for module in pkgutil.iter_modules(tests.corpus.__path__) if module.name not in HELP)
for room in ROOMS:
    importlib.import_module(f"tests.corpus.{room}")


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: f"{one.room}-{one.name}")
def test_situation(situation: Situation, tmp_path: Path) -> None:
    situation.judge(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("room", "name", "instead"), [(room, *one) for room in HANDLINGS for one in HANDLINGS[room]])
def test_handling_is_needed(
    room: str, name: str, instead: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name, instead)
    for situation in SITUATIONS:
        if situation.room != room:
            continue
        folder = tmp_path / situation.name
        folder.mkdir()
        try:
            situation.judge(folder)
        except Exception:  # whatever comes of it
            return
    pytest.fail(f"every situation of {room} ends as before without {name}")


def test_every_room_has_several() -> None:
    counts = Counter(situation.room for situation in SITUATIONS)
    assert {room: counts[room] for room in ROOMS if counts[room] < 3} == {}
