"""What would fail in the first step of a training is found by `medseg validate`."""

from __future__ import annotations

import pytest

from medseg.config.load import load_config
from medseg.core.errors import ConfigError

CROPS = "augmentation.crop_scale=[0.5, 2.0]"


@pytest.mark.parametrize("normalization", ["imagenet", "inception"])
def test_colours_of_pictures_are_for_crops(normalization: str) -> None:
    given = ["network.spatial_dims=2", "training.patch_size=[64, 64]", f"preprocessing.normalization={normalization}"]
    given.append("preprocessing.spacing_mm=null")
    with pytest.raises(ConfigError, match=f"{normalization} is for crops of pictures"):
        load_config("demo", given)


def test_synchronised_batch_norm_is_for_gpus() -> None:
    with pytest.raises(ConfigError, match="syncbatch is for GPUs"):
        load_config("demo", ["network.norm=syncbatch", "training.device=cpu"])
    load_config("demo", ["network.norm=syncbatch"])
