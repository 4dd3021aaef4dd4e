"""The section `loss`: every loss has its own keys, and configs of runs from before that mean what they meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medseg.config.editor import config_schema
from medseg.config.load import dump_config, load_config
from medseg.config.loss import LossConfig
from medseg.core.errors import ConfigError
from medseg.losses import LOSSES

OLDER: dict[str, Any] = {  # what `dump_config` wrote for every run before losses had keys of their own
    "name": "dice_ce",
    "auxiliary_weight": 0.4,
    "presence_weight": 0.2,
    "dice_weight": 1.0,
    "cross_entropy_weight": 1.0,
    "batch_dice": True,
    "overlap": "dice",
    "missed_weight": 0.7,
    "focal_weight": 0.0,
    "focal_gamma": 2.0,
    "lovasz_weight": 0.0,
    "class_weights": None,
    "hardest": None,
    "ohem_threshold": None,
    "ohem_minimum": 100_000,
}
SINCE = {"smooth": 0.0, "label_smoothing": 0.0}  # added later, and off


def loss_of(tmp_path: Path, *overrides: str, **keys: Any) -> LossConfig:
    lines = [f"  {key}: {'null' if value is None else str(value).lower()}" for key, value in keys.items()]
    file = tmp_path / "config.yaml"
    file.write_text("\n".join(["name: x", "loss:", *lines]))
    return load_config(file, overrides).loss


def test_what_a_loss_does_without_a_word_is_what_it_did() -> None:
    shared = {"auxiliary_weight", "presence_weight", "dice_weight", "cross_entropy_weight", "focal_weight"}
    for name in ("dice_ce", "combined"):
        keys = LossConfig.of(name=name).model_dump()
        assert keys == {key: (OLDER | SINCE)[key] for key in keys} | {"name": name}
        assert shared < keys.keys()
    assert LossConfig.of().model_dump().keys() & {"lovasz_weight", "hardest", "class_weights", "regions"} == set()
    assert LossConfig.of(name="combined").model_dump().keys() & {"overlap", "batch_dice"} == set()


@pytest.mark.parametrize("name", ["dice_ce", "combined"])
def test_a_run_s_older_config_means_what_it_meant(name: str, tmp_path: Path) -> None:
    assert loss_of(tmp_path, **OLDER | {"name": name}) == LossConfig.of(name=name)
    assert loss_of(
        tmp_path,
        **OLDER,
    ) == loss_of(tmp_path, "loss.name=dice_ce", **OLDER | {"name": "combined"})


def test_keys_that_older_versions_did_not_look_at(tmp_path: Path) -> None:
    assert loss_of(tmp_path, **OLDER | {"ohem_minimum": 5}) == LossConfig.of()
    unread = OLDER | {"name": "combined", "batch_dice": False, "missed_weight": 0.3, "hardest": 0.2}
    assert loss_of(tmp_path, **unread) == LossConfig.of(name="combined", hardest=0.2)
    with pytest.raises(ConfigError, match="combined has no option 'batch_dice'"):
        loss_of(tmp_path, name="combined", batch_dice=False)
    with pytest.raises(ConfigError, match="dice_ce has no option 'lovasz_weight'"):
        loss_of(tmp_path, "loss.lovasz_weight=1", **OLDER)


@pytest.mark.parametrize("value", [0, 0.1])
def test_only_a_file_with_the_keys_of_both_losses_is_an_older_one(value: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="combined has no option 'overlap'"):
        loss_of(tmp_path, name="combined", overlap="dice", batch_dice=True)
    with pytest.raises(ConfigError, match="dice_ce has no option 'lovasz_weight'"):
        loss_of(tmp_path, lovasz_weight=value)
    with pytest.raises(ConfigError, match="dice_ce has no option 'lovasz_weight'"):
        loss_of(tmp_path, f"loss.lovasz_weight={value}")
    with pytest.raises(ConfigError, match="dice_ce has no option 'lovasz_weight'"):
        loss_of(tmp_path, f"loss.lovasz_weight={value}", **OLDER)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"name": "combined", "overlap": "tversky"},
            "combined has no option 'overlap'; it has class_weights",
        ),
        ({"hardest": 0.2}, "dice_ce has no option 'hardest'; it has batch_dice"),
        ({"regions": True}, "dice_ce has no option 'regions'"),
        ({"labels": 1}, "dice_ce has no option 'labels'"),
        ({"missed_weight": 1.5}, "must be less than or equal to 1"),
        ({"name": "dice", "anything": 1}, "did you mean 'dice_ce'"),
        ({"name": "combined", "dice_weight": 0, "cross_entropy_weight": 0}, "all weights of the loss are 0"),
    ],
)
def test_mistakes(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loss_of(tmp_path, **keys)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_weights_of_classes_are_only_of_a_loss_that_takes_them() -> None:
    combined = LossConfig.of(name="combined", class_weights="median_frequency")
    assert combined.weights_of_classes() == "median_frequency"
    assert combined.unweighted().weights_of_classes() is None
    assert "class_weights" not in combined.arguments()
    assert LossConfig.of().unweighted() == LossConfig.of()
    assert LossConfig.of().takes("regions")
    assert not combined.takes("regions")


def test_a_null_is_dumped_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(load_config("camvid")))
    assert load_config(file) == load_config("camvid")


def test_the_schema_knows_the_keys_of_every_loss() -> None:
    *losses, others = config_schema()["$defs"]["LossConfig"]["anyOf"]
    keys = {loss["properties"]["name"]["const"]: loss["properties"] for loss in losses}
    assert list(keys) == list(LOSSES.own)
    assert {"overlap", "auxiliary_weight"} < keys["dice_ce"].keys()
    assert {"hardest", "class_weights", "auxiliary_weight"} < keys["combined"].keys()
    assert all("regions" not in one for one in keys.values())
    assert "median_frequency" in keys["combined"]["class_weights"]["description"]
    assert "auxiliary head" in keys["combined"]["auxiliary_weight"]["description"]
    assert keys["dice_ce"]["dice_weight"] != keys["combined"]["dice_weight"], "it means another thing in each"
    assert others["properties"]["name"] == {"not": {"enum": list(LOSSES.own)}}
