from __future__ import annotations

import json
from dataclasses import fields

import pytest

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from tests.tiny import ALL_LABELS


def test_targets_and_channels_of_classes() -> None:
    labels = Labels({"background": 0, "liver": 1, "lesion": 4})
    assert labels.values == (0, 1, 4)
    assert labels.channels == ("background", "liver", "lesion")
    assert labels.targets == {"liver": (1,), "lesion": (4,)}


def test_targets_and_channels_of_regions() -> None:
    labels = Labels({"background": 0, "a": 1, "b": 2}, {"all": (1, 2), "b": (2,)}, (1, 2))
    assert labels.channels == ("all", "b")
    assert labels.targets == {"all": (1, 2), "b": (2,)}


@pytest.mark.parametrize("name", ["$import os", "@trainer", "%file#key", "_target_"])
def test_a_name_that_would_be_code_in_a_bundle_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="a config is data, not code"):
        Labels({"background": 0, name: 1})


@pytest.mark.parametrize(
    "labels", [ALL_LABELS, Labels({"liver": 1}), Labels({}), Labels({"road": 0, "sky": 1}, background=None)]
)
def test_plain_and_back(labels: Labels) -> None:
    plain = json.loads(json.dumps(labels.to_plain()))
    assert Labels.from_plain(plain) == labels
    assert set(plain) | {"recoded", "undeclared"} == {one.name for one in fields(Labels)}
    assert list(Labels.from_plain(plain).classes) == list(labels.classes), "the order is that of the channels"


def test_values_of_other_files_go_along() -> None:
    labels = Labels({"background": 0, "a": 1, "b": 2}, merged={"a": (4,)}, recoded={1: 2, 2: 4})
    assert Labels.from_plain(json.loads(json.dumps(labels.to_plain()))) == labels
    assert labels.counts_as == {4: 1, 1: 2, 2: 1}


def test_what_an_older_version_did_not_write_has_its_default() -> None:
    """Versions before merged classes and cards of pictures wrote four keys."""
    old = {"classes": {"background": 0, "a": 1}, "regions": {"all": [1]}, "region_values": [1], "ignore_index": None}
    assert Labels.from_plain(old) == Labels({"background": 0, "a": 1}, {"all": (1,)}, (1,))


def test_what_cannot_be_understood_is_refused() -> None:
    with pytest.raises(DataError, match=r"unknown key weights(?s:.*)newer medseg"):
        Labels.from_plain({"classes": {}, "weights": {}})
    with pytest.raises(DataError, match="have no classes"):
        Labels.from_plain({"regions": {}})


def test_every_target_paints_one_value() -> None:
    assert ALL_LABELS.mask_values == {"all": 1, "b": 2}
    assert Labels({"background": 0, "liver": 1, "lesion": 4}).mask_values == {"liver": 1, "lesion": 4}
    assert list(Labels({"background": 0, "a": 1, "b": 2}, {"in": (2,), "all": (1, 2)}, (9, 1)).mask_values) == [
        "in",
        "all",
    ], "later ones lie on top"
