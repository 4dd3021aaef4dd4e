"""Whatever text stands in a bundle as data: MONAI executes nothing of it, and gives it back as it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import DataLoader

from medseg.bundle.language import Code, for_metadata, for_monai, literal, parsed, target
from medseg.bundle.write import to_yaml
from medseg.core.labels import Labels
from tests.injections import EVIL, executed

PACKAGE = Path(__file__).resolve().parents[2] / "medseg"

odd = st.text(st.sampled_from("$@%#:{}\n\"'\\[]&*!|>-, ax0_\t\x85\u2028é\udcff"), max_size=12) | st.sampled_from(EVIL)
tables = st.recursive(
    odd | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd, inner, max_size=3),
    max_leaves=6,
)


def through_a_file(content: dict[str, Any], folder: Path) -> ConfigParser:
    """MONAI's parser of the YAML in which this is written, as `python -m monai.bundle run` makes it."""
    file = folder / "bundle.yaml"
    file.write_text(to_yaml(content), encoding="utf-8")
    parser = ConfigParser()
    parser.read_config(file)
    return parser


@settings(max_examples=60, deadline=None)
@given(tables)
@example({"_target_": "os.mkdir", "path": "CANARY"})
@example({"_target_": "os.mkdir", "_mode_": "debug", "_disabled_": "$1", "_requires_": ["$1"], "_desc_": "@x"})
@example({" ": "$1", "a:": {"b": "$2"}, "a": {":b": "$3"}, "c ": "$4", "": "$5"})
@example({"a": {"b": "$1"}, "a::b": "plain", "a#b": 1})
@example(["@#", "@##########", "%value", "%x.yaml", "@value", "$import os", "+value"])
@example({"=": "=", "<<": "<<", "no": "no", "1e4": "1e4", "~": "~", "12:30:00": "2020-01-01"})
def test_data_come_back_as_they_are_from_memory_and_from_a_file(made: Path, value: object) -> None:
    content = {
        "import": [Code("$import math")],
        "value": value,
        "of": target(dict, key=value),
        "one": Code("$@of['key']"),
    }
    for parser in (parsed(content), through_a_file(content, made)):
        assert parser.get_parsed_content("value") == value
        assert parser.get_parsed_content("of") == {"key": value}
        assert parser.get_parsed_content("one") == value
    assert not executed()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@settings(max_examples=100, deadline=None)
@given(tables)
@example({"_target_": "os.mkdir", "path": "CANARY", "$a": "%x"})
def test_metadata_are_text_to_monai(value: object) -> None:
    parser = ConfigParser({"_meta_": for_metadata({"channel_def": {"0": value}}), "x": "$1 + 1"})
    assert parser.get_parsed_content("x") == 2
    parser.get_parsed_content("_meta_")
    assert not executed()


def test_plain_text_and_code_are_written_as_they_are() -> None:
    plain = ["/data/brain scans", "a@b", "50 %", "x$y", "a: b", "{x}", "", "T1w", "C:\\data"]
    assert for_monai(plain) == plain
    assert for_metadata({"0": "GTV#1", "1": "50 %"}) == {"0": "GTV#1", "1": "50 %"}
    assert for_monai({"a": Code("@b#c"), **target(Labels, classes={"a": 1})}) == {
        "a": "@b#c",
        "_target_": "medseg.core.labels.Labels",
        "classes": {"a": 1},
    }
    assert for_monai(target(DataLoader, dataset=Code("@d"))) == {"_target_": "DataLoader", "dataset": "@d"}
    assert type(for_monai(Code("@b"))) is str


def test_other_text_is_written_so_that_people_can_read_it() -> None:
    written = for_monai("scans#2")
    assert written == {"_target_": "medseg.bundle.language.literal", "text": '"scans\\u00232"'}
    assert literal(written["text"]) == "scans#2"


@pytest.mark.parametrize("key", ["#x", "a::b", "$x", "_mode_"])
def test_code_below_a_key_with_a_meaning_is_a_mistake_of_ours(key: str) -> None:
    with pytest.raises(ValueError, match="medseg wrote code where only data can stand"):
        for_monai({key: {"b": [Code("@x")]}, "_target_": Code("x")})


def test_objects_and_tuples_are_not_looked_into() -> None:
    one = ("$1", "@x")
    assert for_monai({"cases": one})["cases"] is one
    assert parsed({"cases": one, "again": Code("@cases")}).get_parsed_content("again") is one


def test_there_is_one_door_to_monai() -> None:
    """Nobody else makes a parser, and whoever writes an expression or a reference marks it."""
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {ast.unparse(call.func) for call in calls}
        assert "ConfigParser" not in names or file.name == "language.py", file
        if "bundle.language" not in ast.unparse(tree):
            continue
        marked = [call.args[0] for call in calls if ast.unparse(call.func) == "Code"]
        assert all(isinstance(text, ast.Constant | ast.JoinedStr) for text in marked), f"{file}: Code of what comes in"
        inside = {id(node) for text in marked for node in ast.walk(text)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in inside else None
            assert not (isinstance(text, str) and re.match(r"[$@]\w", text)), (
                f"{file}:{node.lineno}: not marked as Code"
            )
