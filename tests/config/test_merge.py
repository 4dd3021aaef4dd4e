"""`data.merge`: several classes of a data set count as one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medseg.bundle.facts import DataFacts, describe_data
from medseg.config.cards import load_card
from medseg.config.load import dump_config, load_config
from medseg.core.errors import ConfigError, DataError
from medseg.core.labels import Labels, merge_classes

LABELS = Labels(
    {"background": 0, "cat": 7, "dog": 2, "person": 5},
    regions={"animal": (2, 7)},
    region_values=(1,),
    ignore_index=255,
    colours={"background": (0, 0, 0), "cat": (1, 1, 1), "dog": (2, 2, 2), "person": (3, 3, 3)},
)


def test_a_merged_class_has_the_smallest_value_and_its_colour() -> None:
    merged = merge_classes(LABELS, {"animal": ["cat", "dog"], "human": ["person"], "background": ["rest"]})
    assert merged.classes == {"background": 0, "animal": 2, "human": 5}
    assert list(merged.classes) == ["background", "animal", "human"], "channels in the order of their values"
    assert merged.counts_as == {7: 2}
    assert merged.colours == {"background": (0, 0, 0), "animal": (2, 2, 2), "human": (3, 3, 3)}
    assert merged.channels == ("background", "animal", "human")
    assert not merged.regions
    assert merged.ignored == (255,)


def test_rest_is_all_that_is_named_nowhere_else() -> None:
    voc = merge_classes(load_card("voc2012").labels, {"person": ["person"], "background": ["rest"]})
    assert voc.classes == {"background": 0, "person": 15}
    assert voc.counts_as == {value: 0 for value in range(1, 21) if value != 15}
    some = merge_classes(LABELS, {"others": ["cat", "rest"], "dog": ["dog"]})
    assert some.classes == {"others": 0, "dog": 2}
    assert some.counts_as == {5: 0, 7: 0}


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"background": ["rest"], "person": ["persn"]}, "merge.person: no class 'persn'\n.*'person'"),
        ({"a": ["cat", "dog"], "b": ["dog", "rest"]}, "merge.b: 'dog' is in 'a' as well"),
        ({"a": ["cat", "cat"], "b": ["rest"]}, "merge.a: 'cat' is in 'a' as well"),
        ({"a": ["rest"], "b": ["rest"]}, "merge.b: 'rest' is in 'a' as well"),
        ({"a": ["cat"], "b": ["dog"]}, r"merge: leaves out background, person\n.*\[rest\]"),
        ({}, "merge: leaves out background, cat, dog, person"),
        ({"a": ["cat", "dog"], "b": ["person", "background"], "c": ["rest"]}, "merge.c: nothing is left for"),
        ({"a": ["rest"]}, "merge: makes one class of all"),
    ],
)
def test_what_does_not_say_one_class_for_each_is_refused(merge: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merge_classes(LABELS, merge)


def test_every_mistake_at_once_and_no_code() -> None:
    with pytest.raises(ConfigError) as caught:
        merge_classes(LABELS, {"a": ["cats"], "b": ["dog", "birds"], "c": ["dog"]})
    assert [problem.where for problem in caught.value.problems] == ["merge.a", "merge.b", "merge.c"]
    with pytest.raises(DataError, match="a config is data, not code"):
        merge_classes(LABELS, {"$import os": ["cat"], "b": ["rest"]})


def portrait(*overrides: str) -> DataFacts:
    return describe_data(load_config("voc_portrait", overrides))


def test_the_key_of_the_config_is_added_where_it_was_read() -> None:
    with pytest.raises(ConfigError) as caught:
        portrait("data.merge={a: [cats], b: [persn, rest]}")
    assert [problem.where for problem in caught.value.problems] == ["data.merge.a", "data.merge.b"]
    assert str(caught.value).startswith("data.merge.a: no class 'cats'")


def test_facts_of_merged_classes_are_what_was_saved(tmp_path: Path) -> None:
    facts = portrait()
    again = DataFacts.from_json(facts.to_json())
    assert again == facts
    assert again.labels.counts_as == facts.labels.counts_as
    saved = tmp_path / "config.yaml"
    saved.write_text(dump_config(load_config("voc_portrait")))
    assert describe_data(load_config(saved)) == facts
    before = portrait("data.merge=null").to_json()
    old = re.sub(r',\s*"merged": \{[^}]*\}', "", before)  # as a run has it from before there was merge
    assert "merged" not in old
    assert not DataFacts.from_json(old).labels.counts_as


def test_other_keys_speak_of_the_merged_classes() -> None:
    whole = ["data.merge={background: [background], hippocampus: [rest]}"]
    kept = load_config("hippocampus", [*whole, "inference.keep_largest_component=[hippocampus]"])
    assert describe_data(kept).labels.targets == {"hippocampus": (1,)}
    with pytest.raises(ConfigError, match="no target 'anterior'"):
        describe_data(load_config("hippocampus", [*whole, "inference.keep_largest_component=[anterior]"]))
    assert portrait("loss.class_weights={background: 1, person: 2}").labels.classes == {"background": 0, "person": 15}
    with pytest.raises(ConfigError, match="expected every one of background, person"):
        portrait("loss.class_weights={background: 1, person: 2, cat: 1}")
    with pytest.raises(ConfigError, match=r"data\.regions\.\w+: the labels have no value \[5\]"):
        portrait("data.regions={bottles: [5]}", "data.region_values=[1]")
    with pytest.raises(ConfigError, match="8 is the value of a class"):
        portrait("data.ignore_index=8")
