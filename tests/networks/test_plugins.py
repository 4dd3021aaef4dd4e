"""Networks and encoders of installed packages, here of one that lies on the path with its entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

from medseg.bundle.facts import DataFacts
from medseg.bundle.trained import Trained
from medseg.config.network import NetworkConfig
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, RunError
from medseg.core.labels import Labels
from medseg.networks import NETWORKS, build_network
from medseg.runs.kept import made_by
from medseg.runs.plugins import check_installed, check_same, plugins_of

MODULE = """
from typing import Literal
from torch import nn
from medseg.core.types import Norm

class Striped(nn.Module):
    '''A made-up encoder.

    Args:
        channels: of its one feature.
    '''

    kind = "striped"

    def __init__(self, spatial_dims, in_channels, *, channels: int = 4, norm: Norm = "none"):
        super().__init__()
        conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.convs = nn.ModuleList(conv(in_channels, channels, 3, 2, 1) for _ in range(4))
        self.channels = (channels,) * 4
        self.strides = ((2,) * spatial_dims,) * 4
        self.steps = ((2,) * spatial_dims, *((1,) * spatial_dims,) * 3)

    def forward(self, x):
        return [conv(x) for conv in self.convs]

class Flat(nn.Conv2d):
    def __init__(self, spatial_dims: Literal[2], in_channels: int, out_channels: int, *, kernel: int = 3):
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
"""


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("package")
    (folder / "striped_plugin.py").write_text(MODULE)
    about = folder / "striped_plugin-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: striped-plugin\nVersion: 1.2\n")
    entries = "[medseg.encoders]\nstriped = striped_plugin:Striped\n[medseg.networks]\nflat = striped_plugin:Flat\n"
    (about / "entry_points.txt").write_text(entries)
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    yield
    patch.undo()


def test_an_encoder_of_a_package_under_a_network_of_ours() -> None:
    assert entry_points(group="medseg.encoders", name="striped")
    section = NetworkConfig.of(name="fpn", spatial_dims=2, encoder="striped", encoder_options={"channels": 8})
    network = build_network(section.name, in_channels=1, out_channels=2, **section.options())
    assert network.encoder.channels == (8,) * 4  # type: ignore[union-attr]
    assert network.eval()(torch.zeros(1, 1, 16, 12)).shape == (1, 2, 16, 12)
    with pytest.raises(ValueError, match=r"encoder_options\.stem"):
        NetworkConfig.of(name="fpn", encoder="striped", encoder_options={"stem": "deep"})


def test_its_distribution_and_version_are_remembered() -> None:
    section = NetworkConfig.of(name="fpn", encoder="striped")
    record = {"name": "striped", "distribution": "striped-plugin", "version": "1.2"}
    assert plugins_of(section) == [record]
    check_installed(Path("run"), [record])
    check_same(Path("run"), [record], section)
    with pytest.raises(RunError, match=r"not installed\n    -> pip install gone-plugin==3\.1"):
        check_installed(Path("run"), [record, {**record, "distribution": "gone-plugin", "version": "3.1"}])
    assert plugins_of(NetworkConfig.of()) == []


def test_a_network_of_a_package_with_options_and_two_dimensions_only() -> None:
    section = NetworkConfig.of(name="flat", spatial_dims=2, kernel=5)
    assert section.options() == {"kernel": 5, "spatial_dims": 2}
    assert build_network("flat", in_channels=1, out_channels=2, **section.options()).kernel_size == (5, 5)
    with pytest.raises(ValueError, match="flat has 2 dimensions only"):
        NetworkConfig.of(name="flat")
    with pytest.raises(ConfigError, match="flat has no option 'kernels'\n    -> did you mean 'kernel'"):
        build_network("flat", spatial_dims=2, in_channels=1, out_channels=2, kernels=5)


def test_masks_are_those_of_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = DataFacts("two", ("grey",), Labels({"background": 0, "tumour": 1}))
    network = {"name": "flat", "spatial_dims": 2}
    config = Config.model_validate({"name": "flat", "network": network, "training": {"patch_size": [16, 16]}})
    run = Trained(tmp_path, config, facts)
    pipeline = made_by(run, run.compiled("evaluate"))["pipeline"]
    assert made_by(run, run.compiled("evaluate"))["pipeline"] == pipeline
    monkeypatch.setitem(vars(NETWORKS["flat"]), "version", "1.3")
    assert made_by(run, run.compiled("evaluate"))["pipeline"] != pipeline
