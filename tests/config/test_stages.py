"""A config with a finder, as two: what each gets of the budget, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medseg.bundle.facts import DataFacts, of_region
from medseg.config.stages import first_stage, second_stage
from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from tests.tiny import tiny_config

FINDER = {"finder__spacing_mm": [3.0, 3.0, 3.0]}


def test_the_stages_share_the_budget() -> None:
    budget = {"training__max_minutes": 20.0, "training__max_epochs": 10, "training__max_iterations": 100}
    config = tiny_config(Path("data"), **FINDER, **budget)
    first, second = first_stage(config).training, second_stage(config).training
    assert (first.max_minutes, first.max_epochs, first.max_iterations) == (5.0, 3, 25)
    assert (second.max_minutes, second.max_epochs, second.max_iterations) == (15.0, 8, 75)
    alone = tiny_config(Path("data"), **budget)
    assert second_stage(alone) is alone


def test_the_finder_sees_coarse_voxels_and_one_target() -> None:
    own = {"inference__keep_largest_component": ["lesion"], "evaluation__lesions": ["lesion"]}
    loss = {"loss__name": "combined", "loss__class_weights": {"background": 1.0, "lesion": 2.0}}
    first = first_stage(tiny_config(Path("data"), **FINDER, **own, **loss, finder__patch_size=[8, 8, 8]))
    assert first.finder is None
    assert first.preprocessing.spacing_mm == [3.0, 3.0, 3.0]
    assert first.training.patch_size == [8, 8, 8]
    assert not first.inference.cleaning
    assert not first.evaluation.lesions
    assert type(first).model_validate(first.model_dump(mode="json")) == first, "a config that can be written"
    assert first.loss.weights_of_classes() is None, "of classes that it does not know"


def test_all_targets_become_one() -> None:
    labels = Labels(
        {"background": 0, "vessel": 1, "organ": 2, "tumour": 3},
        regions={"whole": (2, 3), "tumour": (3,)},
        region_values=(2, 3),
        ignore_index=9,
        merged={"tumour": (5,), "vessel": (7,)},
    )
    found = of_region(DataFacts("data", ("CT",), labels)).labels
    assert found.classes == {"background": 0, "region": 2}
    assert found.counts_as == {1: 0, 7: 0, 3: 2, 5: 2}
    assert found.ignored == (9,)
    with pytest.raises(ConfigError, match="no background"):
        of_region(DataFacts("pictures", ("red",), Labels({"sky": 0}, background=None)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network__spatial_dims": 2, "training__patch_size": [16, 16]}, "is of volumes"),
        ({"finder__patch_size": [8, 8]}, "has 2 numbers"),
        ({"finder__patch_size": [2, 2, 2], "network__norm": "instance"}, "a single voxel"),
        ({"finder__share": 1.0}, "less than 1"),
        ({"finder__margin_mm": -1.0}, "greater than or equal to 0"),
    ],
)
def test_what_does_not_go_with_a_finder_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_config(Path("data"), **FINDER | changes)
