"""Text in every place where a user or a file can put some: a compiled bundle has the same code with it as without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from medseg.bundle.compile import compiled
from medseg.bundle.ensemble import compile_members
from medseg.bundle.facts import DataFacts
from medseg.bundle.language import Code, for_metadata, literal, parsed
from medseg.bundle.metadata import compile_metadata
from medseg.bundle.trained import Trained
from medseg.bundle.write import KINDS, to_yaml
from medseg.config.schema import Config
from medseg.core.errors import DataError
from medseg.core.labels import Labels
from tests.injections import EVIL, executed
from tests.tiny import tiny_config

LITERAL = f"{literal.__module__}.{literal.__qualname__}"
NAMES = ("name", "description")
DATA = (
    "root",
    "layout",
    "training_split",
    "validation_split",
    "folds_file",
    "patient_pattern",
    "patient_table",
    "cache",
)
FACTS = ("name", "modality", "source", "title", "licence")
OBJECTS = ("output_dir", "dataset_dir")


def config_with(text: str, **changes: Any) -> Config:
    """A config that has the text wherever a config can hold one, whether or not validation would have it there."""
    config = tiny_config(Path("x"), inference__keep_largest_component=[], **changes)
    one, two = f"x{text}", f"y{text}"  # its targets, see `facts_with`
    asked = {"keep_largest_component": [one], "coding": {one: 1, two: 2}}
    return config.model_copy(
        update={
            **dict.fromkeys(NAMES, text),
            "data": config.data.model_copy(update=dict.fromkeys(DATA, text)),
            "network": config.network.model_copy(update={"pretrained": text}),
            "training": config.training.model_copy(update={"start": text, "device": text}),
            "preprocessing": config.preprocessing.model_copy(update={"orientation": text}),
            "inference": config.inference.model_copy(update=asked),
            "evaluation": config.evaluation.model_copy(update={"lesions": [one]}),
        }
    )


def facts_with(text: str, *, regions: bool = False) -> DataFacts:
    """Facts that have the text in every place, in classes too."""
    one, two, three = (f"{prefix}{text}" for prefix in ("x", "y", "z"))
    labels = Labels(
        {three: 0, one: 1, two: 2},
        regions={one: (1, 2), two: (2,)} if regions else {},
        region_values=(1, 2) if regions else (),
        merged={two: (3,)},
        colours={one: (1, 2, 3)},
    )
    whatever = dict.fromkeys(FACTS, text)
    return DataFacts(channels=(text, f"{text}2"), labels=labels, references=(text,), **whatever)


def contents_with(text: str) -> Iterator[dict[str, Any]]:
    objects = dict.fromkeys(OBJECTS, text)
    config = config_with(text, data__fold=0, training__channel_dropout=0.5)
    facts = facts_with(text)
    for kind in KINDS:
        yield compiled(kind, config, facts=facts, bundle_root=text) | objects
    yield compiled("evaluate", config, facts=facts_with(text, regions=True), bundle_root=text) | objects
    yield compile_members("evaluate", [Trained(Path(name), config, facts) for name in (text, f"{text}2")]) | objects


def code_in(content: Any) -> Iterator[str]:
    """What MONAI takes for code in what it has parsed, but the components that give text back."""
    if isinstance(content, dict):
        if content.get("_target_") == LITERAL:
            assert set(content) == {"_target_", "text"}
            assert content["text"][0] not in "$@%"
            return
        yield from (f"{key}={value}" for key, value in content.items() if str(key).startswith("_"))
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from code_in(value)
    elif isinstance(content, str) and content[:1] in ("$", "@", "%"):
        yield content


def read_back(content: Any) -> Any:
    """What was parsed, with the text in the place of the components that give it back."""
    if isinstance(content, dict):
        given = content.get("_target_") == LITERAL
        return literal(content["text"]) if given else {key: read_back(value) for key, value in content.items()}
    return [read_back(value) for value in content] if isinstance(content, list) else content


def as_meant(content: Any) -> Any:
    """What was compiled; MONAI writes the ids in code with `::`."""
    if isinstance(content, Code):
        return content.replace("#", "::")
    if isinstance(content, dict):
        return {key: as_meant(value) for key, value in content.items()}
    return [as_meant(value) for value in content] if isinstance(content, list) else content


def everything_from(content: dict[str, Any], folder: Path) -> Iterator[ConfigParser]:
    """MONAI's parsers of the content in memory and of its YAML."""
    yield parsed(content)
    if not callable(next(iter(_targets(content)))):
        file = folder / "bundle.yaml"
        file.write_text(to_yaml(content), encoding="utf-8")
        parser = ConfigParser()
        parser.read_config(file)
        yield parser


def _targets(content: Any) -> list[Any]:
    """Targets, those that are objects of this process first, which no file can hold."""
    found: list[Any] = []
    if isinstance(content, dict):
        found = [content["_target_"]] if "_target_" in content else []
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        found += _targets(value)
    return sorted(found, key=lambda target: not callable(target))


@pytest.fixture(scope="module")
def plain() -> list[Counter[str]]:
    """The code of each bundle whose texts are plain words."""
    found = []
    for content in contents_with("harmless"):
        parser = parsed(content)
        parser.parse()
        found.append(Counter(code_in(parser.get())))
    return found


@pytest.mark.parametrize("text", EVIL)
def test_no_text_is_code_and_none_is_changed(text: str, plain: list[Counter[str]], tmp_path: Path) -> None:
    for content, code in zip(contents_with(text), plain, strict=True):
        meant = as_meant(content)
        for parser in everything_from(content, tmp_path):
            parser.parse()
            found = {key: parser.get()[key] for key in content}  # MONAI adds `_meta_`
            assert Counter(code_in(found)) == code
            assert read_back(found) == meant
            assert parser.get_parsed_content("bundle_root") == text
            assert parser.get_parsed_content("output_dir") == text
            labels = parser.get_parsed_content("labels")
            assert list(labels.classes) == [f"z{text}", f"x{text}", f"y{text}"]
            parser.get_parsed_content("imports")
            if "steps" in content:
                parser.get_parsed_content("steps::save")
    assert not executed()


@pytest.mark.parametrize("text", EVIL)
def test_metadata_hold_no_code(text: str) -> None:
    metadata = compile_metadata(config_with(text), facts_with(text))
    parser = ConfigParser({"_meta_": for_metadata(metadata), "x": "$1 + 1"})
    assert parser.get_parsed_content("x") == 2, "which evaluates every import that stands anywhere"
    parser.get_parsed_content("_meta_")
    assert list(code_in(for_metadata(metadata))) == []
    assert not executed()


def places_of(text: str, content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the text stands in what was compiled, and not in its code."""
    if isinstance(content, dict):
        for key, value in content.items():
            if text in str(key):
                yield (*path, key)
            yield from places_of(text, value, (*path, key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from places_of(text, value, (*path, number))
    elif isinstance(content, str) and not isinstance(content, Code) and text in content:
        yield path


def test_more_than_two_thousand_injections_are_tried() -> None:
    places = [
        (number, path)
        for number, content in enumerate(contents_with("harmless"))
        for path in places_of("harmless", content)
    ]
    assert len(places) > 90
    assert len(places) * len(EVIL) > 2000


@pytest.mark.parametrize("text", [text for text in EVIL if text[0] in "$@%" or text in ("_target_", "_mode_")])
def test_a_class_of_such_a_name_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(DataError, match="rename the label"):
        Labels({text: 0})
