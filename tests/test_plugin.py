"""A network of another package: ten lines and an entry point, installed, trained by its name, and missed when gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import write_msd
from tests.tiny import train_arguments

REPOSITORY = Path(__file__).resolve().parents[1]

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tinynet-plugin"
version = "0.3"
[project.entry-points."medseg.networks"]
tinynet = "tinynet:TinyNet"
[tool.hatch.build]
include = ["tinynet.py"]
"""

NETWORK = """
from torch import nn

class TinyNet(nn.Module):
    def __init__(self, spatial_dims, in_channels, out_channels):
        super().__init__()
        kind = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.conv = kind(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x)
"""


class Environment:
    """A fresh environment that sees the packages of this one, and medseg as it stands here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder)
        self.python = folder / "bin" / "python"
        here = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(here) / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *arguments: str | Path, expect: int = 0, cwd: Path | None = None) -> str:
        """What a module prints: `run("medseg", "validate", ...)`."""
        paths = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [self.python, "-m", *map(str, arguments)],
            cwd=cwd or self.folder,
            env=os.environ | paths,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def pip(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One in which the package is installed."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(PROJECT)
    (package / "tinynet.py").write_text(NETWORK)
    made = Environment(tmp_path / "environment")
    made.pip("install", "--quiet", "--no-deps", "--no-build-isolation", package)
    return made


@pytest.mark.slow
def test_a_network_of_a_package(environment: Environment, tmp_path: Path) -> None:
    root, run = write_msd(tmp_path / "set"), tmp_path / "run"
    asked = train_arguments(root, run, network__widths=None, training__max_epochs=1)
    environment.run("medseg", *asked, "--set", "network.name=tinynet", cwd=tmp_path)
    assert "_target_: tinynet.TinyNet" in (run / "configs" / "train.yaml").read_text()
    recorded = json.loads((run / "environment.json").read_text())["plugins"]
    assert recorded == [{"name": "tinynet", "distribution": "tinynet-plugin", "version": "0.3"}]

    predict = ("medseg", "predict", "--run", run, "--input", root / "imagesTs", "--output")
    environment.run(*predict, tmp_path / "masks")
    assert list((tmp_path / "masks").glob("*.nii.gz"))
    config = tmp_path / "tiny.yaml"
    mistake = ("medseg", "validate", config, "--set", "network.name=tinynet", "--set", "network.depth=3")
    assert "tinynet has no option 'depth'; it has none" in environment.run(*mistake, expect=2)

    environment.pip("uninstall", "--quiet", "--yes", "tinynet-plugin")
    gone = environment.run(*predict, tmp_path / "more", expect=2)
    assert "tinynet: comes with the package tinynet-plugin 0.3, which is not installed" in gone
    assert "pip install tinynet-plugin==0.3" in gone
    assert "Traceback" not in gone
    unknown = environment.run("medseg", "validate", config, "--set", "network.name=tinynet", expect=2)
    assert "unknown value 'tinynet'" in unknown
