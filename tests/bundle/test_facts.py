"""What a run knows of its data: written as before, read from older runs, and the same in the bundle."""

from __future__ import annotations

import json

import pytest

from medseg.bundle.components import common
from medseg.bundle.facts import DataFacts, describe_data
from medseg.config.load import load_config
from medseg.core.labels import Labels

OLD = """{
  "name": "two", "channels": ["FLAIR", "T1gd"],
  "labels": {
    "classes": {"background": 0, "oedema": 1, "core": 2},
    "regions": {"whole": [1, 2], "core": [2]}, "region_values": [1, 2],
    "ignore_index": null, "colours": {"oedema": [86, 180, 233]}, "also_ignored": [9], "background": 0, "merged": {}
  },
  "modality": "MR", "source": "here", "references": ["a paper"], "convention": "medical", "title": "", "licence": ""
}
"""
"""`data.json` as earlier versions wrote it, with their order of the labels' keys too."""
LABELS = Labels(
    {"background": 0, "oedema": 1, "core": 2},
    {"whole": (1, 2), "core": (2,)},
    (1, 2),
    also_ignored=(9,),
    colours={"oedema": (86, 180, 233)},
)


def test_an_old_file_is_read() -> None:
    facts = DataFacts.from_json(OLD)
    assert facts == DataFacts("two", ("FLAIR", "T1gd"), LABELS, "MR", "here", ("a paper",))
    assert json.loads(facts.to_json()) == json.loads(OLD), "and written with the same content"


def test_one_before_merged_classes_and_pictures_is_read() -> None:
    old = json.loads(OLD)
    for name in ("colours", "also_ignored", "background", "merged"):
        del old["labels"][name]
    labels = DataFacts.from_json(json.dumps(old)).labels
    assert (labels.also_ignored, labels.background, dict(labels.merged)) == ((), 0, {})


@pytest.mark.parametrize(
    ("config", "left_out"),
    [("brats2modal", {"merged", "colours"}), ("camvid", {"merged"}), ("voc_portrait", set())],
)
def test_the_bundle_builds_the_same_labels(config: str, left_out: set[str]) -> None:
    facts = describe_data(load_config(config))
    assert DataFacts.from_json(facts.to_json()) == facts
    component = dict(common(load_config(config), facts, ".")["labels"])
    assert component.pop("_target_") == "medseg.core.labels.Labels"
    assert component == {key: value for key, value in facts.labels.to_plain().items() if key not in left_out}
