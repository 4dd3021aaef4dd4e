from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.config.document import Document, read_document, write_document
from medseg.core.errors import ConfigError
from medseg.core.plain import refusal


def read(tmp_path: Path, text: str, *overrides: str) -> Document:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return read_document(file, overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # a string to PyYAML
        ("2e-3", 2e-3),
        ("no", "no"),  # false to PyYAML
        ("010", 10),
        ("null", None),
        ("2026-01-31", "2026-01-31"),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("{a: {b: true}}", {"a": {"b": True}}),
        ("", None),
    ],
)
def test_values_are_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    document = read(tmp_path, f"key: {text}")
    assert not document.problems
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)
    assert read(tmp_path, "", f"key={text}").data == {"key": value}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", ":5 b.c", "given twice (first in line 3)"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", ":2 b", "python/object"),
        ("a: !custom x", ":1 a", "!custom"),
        ("a: &x [1]\nb: *x", ":2 b", "aliases"),
        ("a: '$import os'", ":1 a", "'$'"),
        ("a:\n- x\n- '@trainer'", ":3 a.1", "'@'"),
        ("a: '%other.yaml#key'", ":1 a", "'%'"),
        ("a:\n  _target_: os.getcwd", ":2 a._target_", "'_target_'"),
        ("'$a': 1", ":1 $a", "'$'"),
        ("a: [1", ":1", "is not YAML"),
        ("a: 1\n\tb: 2", ":2", "is not YAML"),
        ("- 1", "", "holds a list"),
        ("", "", "holds nothing"),
        ("? [1, 2]\n: 3", ":1", "must be a name"),
    ],
)
def test_what_a_config_may_not_hold(tmp_path: Path, text: str, where: str, what: str) -> None:
    (problem,) = read(tmp_path, text).problems
    assert problem.where == f"{tmp_path / 'config.yaml'}{where}"
    assert what in problem.what


def test_nothing_is_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for text in (f"!!python/object/apply:pathlib.Path.touch ['{trace}']", f"\"$open('{trace}', 'w')\""):
        document = read(tmp_path, f"a: {text}", f"b={text}")
        assert len(document.problems) == 2
    assert not trace.exists()


def test_override_replaces_and_makes_sections(tmp_path: Path) -> None:
    document = read(tmp_path, "a:\n  b: 1\n  c: 2\nd:", "a.b=[1, 2]", "d.e.f=x", "g=", "a.c=y=z")
    assert not document.problems
    assert document.data == {"a": {"b": [1, 2], "c": "y=z"}, "d": {"e": {"f": "x"}}, "g": None}
    assert document.where(("a", "b", 1)) == "--set a.b=[1, 2]"
    assert document.where(("a",)).endswith(":1 a")


@pytest.mark.parametrize("assignment", ["a", "=1", "a..b=1", "a.b.c=1", "a.b=[1", "a.b=$x", "a.b={_target_: x}"])
def test_a_bad_override_is_named(tmp_path: Path, assignment: str) -> None:
    (problem,) = read(tmp_path, "a:\n  b: 1", assignment).problems
    assert problem.where == f"--set {assignment}"


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_document(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(tmp_path / "binary")


@pytest.mark.slow
def test_deep_nesting_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, "a: " + "[" * 2000).problems
    assert "is not YAML" in problem.what


words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_written_documents_read_back_the_same(value: object) -> None:
    reads_back(value)


def reads_back(value: object) -> None:
    document = Document("test")
    read_back = document._read(write_document({"key": value}), "test", ())
    refused = [text for text in _texts(value) if refusal(text)]
    assert bool(document.problems) == bool(refused)
    if not refused:
        assert read_back == {"key": value}


@pytest.mark.parametrize("text", ["?", "?0", "??", "? x", ":", ":0", ":?", ": x", "-", "-0", "- x", "#0", "x: y", "'"])
@pytest.mark.parametrize("places", [lambda t: t, lambda t: [t, 1], lambda t: {t: t}, lambda t: [[{t: None, "a": t}]]])
def test_marks_of_yaml_are_text_wherever_they_stand(text: str, places: Callable[[str], object]) -> None:
    reads_back(places(text))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for entry in value.values() for text in _texts(entry))]
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry)]
    return [value] if isinstance(value, str) else []
