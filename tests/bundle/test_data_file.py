"""`data.json` of a run that somebody gave away: read as it was written, or refused with a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medseg.bundle.compile import compiled
from medseg.bundle.facts import DataFacts
from medseg.bundle.language import parsed
from medseg.core.errors import MedsegError, RunError
from tests.injections import EVIL, executed
from tests.tiny import ALL_LABELS, tiny_config

FACTS = DataFacts(
    "two",
    ("FLAIR", "T1gd"),
    ALL_LABELS,
    references=("a paper",),
)
WRITTEN = json.loads(FACTS.to_json())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value that stands in there, tables and lists too."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


PLACES = [path for path in places(WRITTEN) if path]


def replaced(path: tuple[Any, ...], value: Any) -> str:
    """The file with another value in this place."""
    content = json.loads(FACTS.to_json())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(content)


TEXTS = ("name", "modality", "source", "title", "licence")


def is_number(path: tuple[Any, ...]) -> bool:
    return path[0] == "labels"


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_text_in_the_place_of_anything_is_refused_or_stays_text(path: tuple[Any, ...]) -> None:
    for text in EVIL:
        try:
            facts = DataFacts.from_json(replaced(path, text))
        except RunError as error:
            (problem,) = error.problems
            assert problem.where.startswith("data.json"), "it says where"
            assert problem.remedy
            assert path[-1] not in TEXTS or path[0] == "labels" or "\udcff" in text, "which is no text in JSON"
            continue
        assert not is_number(path), "no number can be text"
        assert json.loads(facts.to_json()) == json.loads(replaced(path, text)), "nothing is renamed"
        content = compiled("inference", tiny_config(Path("x")), facts=facts, bundle_root=".")
        parser = parsed(content)
        parser.get_parsed_content("imports")
        parser.get_parsed_content("steps::save")
    assert not executed()


def test_enough_places_are_tried() -> None:
    assert len(PLACES) * len(EVIL) > 900


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(EVIL) | st.just("_target_"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "_target_", *EVIL]), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), anything)
@example(("labels", "classes"), {"a": {"_target_": "os.mkdir", "path": "CANARY"}})
@example(("labels", "ignore_index"), True)
@example(("labels", "ignore_index"), 255.0)
@example(("labels", "ignore_index"), 10**30)
@example(("labels", "classes"), {})
@example(("channels",), [])
@example(("labels", "merged"), {"c": [1]})
@example(("labels", "region_values"), [1])
@example(("labels", "regions"), {"x": [9], "y": [1]})
@example(("labels", "weights"), 1)
@example(("newer",), 1)
def test_any_value_in_any_place_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    text = replaced(path, value)
    try:
        facts = DataFacts.from_json(text)
    except MedsegError:
        return
    assert json.loads(facts.to_json()) == json.loads(text)
    assert all(type(value) is int for value in (*facts.labels.values, *facts.labels.ignored))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"name": "\\udcff"}', "null", "{", '{"name": 1}', "[" * 100_000, '"$import os"', "NaN"]
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(RunError, match=r"runs/x/data\.json(?s:.*)holds not what medseg knows(?s:.*)->"):
        DataFacts.from_json(text, "runs/x/data.json")
