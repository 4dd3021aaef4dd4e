"""Keys of natural images: what goes together, and what is said where it does not."""

from __future__ import annotations

import pytest

from medseg.config.load import load_config
from medseg.core.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.name=dice_ce"], "set loss.name to combined"),
        (["loss.hardest=0.2", "loss.ohem_threshold=0.7"], "two ways to choose pixels"),
        (["loss.cross_entropy_weight=0"], "all weights of the loss are 0"),
        (["loss.class_weights=median"], "unknown value 'median'"),
        (["loss.class_weights={Sky: 0}"], "all weights are 0"),
        (["loss.lovasz=1"], "did you mean"),
        (["augmentation.crop_scale=[2, 1]"], "must go from low to high"),
        (["augmentation.crop_scale=null"], "colours are changed in crops only"),
        (["augmentation.noise_std=0.3"], "has no effect where crops are cut"),
        (["augmentation.photometric.contrast=[2, 1]"], "must go from low to high"),
        (["inference.scales=[]"], "needs at least 1 entries"),
        (["network.context=[]"], "needs at least 1 entries"),
        (["data.layout=camvids"], "camvid"),
        (["evaluation.convention=coco"], "unknown value 'coco'"),
        (["training.optimizer.encoder_factor=-1"], "greater than or equal to 0"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("camvid_cpu", overrides)
    assert message in str(caught.value)


def test_class_weights_by_name() -> None:
    config = load_config("camvid_cpu", ["loss.class_weights={Sky: 1, Car: 2.5}"])
    assert config.loss.class_weights == {"Sky": 1, "Car": 2.5}
