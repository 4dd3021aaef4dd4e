"""The section `augmentation`: plug-ins, and what its keys may not say. (What transforms bring: test_augment.py.)"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medseg.bundle import components
from medseg.config.load import load_config
from medseg.core.errors import ConfigError

SPIKES = '''
"""A plug-in."""
import numpy as np
from medseg.core.types import Fraction
from medseg.data.training.augment.base import Intensity


class Spikes(Intensity):
    """Bright voxels.

    Args:
        height: How much brighter.
        probability: Share of the patches.
    """

    def __init__(self, height: float = 3.0, probability: Fraction = 0.2) -> None:
        super().__init__(probability)
        self.height = height

    def draw(self, random: np.random.Generator, channels: int) -> int:
        return int(random.integers(1000))

    def change(self, image, draws):
        image = image.clone()
        for sample, number in zip(image, draws):
            sample.view(sample.shape[0], -1)[:, number % sample[0].numel()] += self.height
        return image
'''


@pytest.fixture
def spikes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a transform."""
    (tmp_path / "spikes_of_a_test.py").write_text(SPIKES)
    info = tmp_path / "spikes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spikes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[medseg.transforms]\nspikes = spikes_of_a_test:Spikes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "spikes_of_a_test", raising=False)


def problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("hippocampus", overrides)
    return str(caught.value)


@pytest.mark.usefixtures("spikes")
def test_a_plug_in_is_a_transform_after_the_others() -> None:
    plain = load_config("hippocampus").augmentation
    assert "spikes_of_a_test" not in sys.modules, "only what is named is imported"
    named = load_config("hippocampus", ["augmentation.plugins={spikes: {height: 2.0}}"]).augmentation
    assert named.transforms == plain.transforms | {"spikes": {"height": 2.0}}
    assert list(named.transforms)[-1] == "spikes"


@pytest.mark.usefixtures("spikes")
def test_a_plug_in_changes_a_batch_and_no_draw_of_the_others() -> None:
    plain = load_config("hippocampus")
    named = load_config("hippocampus", ["augmentation.plugins={spikes: {height: 50.0, probability: 1.0}}"])
    batch = {"image": torch.randn(3, 1, 8, 8, 8), "label": torch.zeros(3, 1, 8, 8, 8), "sample": torch.arange(3)}
    images = []
    for config in (plain, named):
        component = components.augment(config)
        assert component is not None
        parser = ConfigParser({"augment": component | {"patch_size": None}})
        images.append(parser.get_parsed_content("augment")(batch)["image"])
    difference = (images[1] - images[0]).flatten(1)
    assert torch.equal((difference != 0).sum(1), torch.ones(3))
    torch.testing.assert_close(difference.amax(1), torch.full((3,), 50.0))


@pytest.mark.usefixtures("spikes")
def test_the_options_of_a_plug_in_are_checked() -> None:
    wrong = problem("augmentation.plugins={spikes: {probability: 2.0}}")
    assert "probability must be less than or equal to 1 (got 2.0)" in wrong
    unknown = problem("augmentation.plugins={spikes: {heigth: 1.0}}")
    assert "spikes has no option 'heigth': did you mean 'height'?" in unknown


def test_a_plug_in_that_is_not_there() -> None:
    text = problem("augmentation.plugins={gama: {}}")
    assert "unknown transform 'gama'" in text
    assert "did you mean 'gamma'" in text
    assert "medseg.transforms" in text
    assert "is no plug-in" in problem("augmentation.plugins={gamma: {}}")
    crops = problem("augmentation.plugins={gama: {}}", "augmentation.crop_scale=[0.5, 2.0]")
    assert "has no effect where crops are cut" in crops


@pytest.mark.parametrize("axes", ["[2]", "[1, 1]"])
def test_axes_are_those_of_the_image(axes: str) -> None:
    options = ["network.spatial_dims=2", "training.patch_size=[64, 64]", f"augmentation.flip_axes={axes}"]
    assert "augmentation.flip_axes" in problem(*options)
