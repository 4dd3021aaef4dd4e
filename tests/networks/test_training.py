"""Every network trains from a config, in two and three dimensions: `medseg train` in this process, at tiny widths."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from medseg.bundle.run import run_compiled
from medseg.config.schema import Config
from medseg.data.cases.dataset import read_dataset
from medseg.runs.folder import open_run
from medseg.workflows.train import train
from tests.conftest import write_msd
from tests.networks.test_contract import SMALL
from tests.tiny import tiny_config

SHAPE = (24, 20, 16)


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def data_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled cases; `cache` beside them serves every network."""
    folder = tmp_path_factory.mktemp(f"data_{request.param}d")
    shape = SHAPE[: request.param]
    return write_msd(folder / "set", cases=2, shape=shape, spacing_mm=(1.0,) * 3, unlabelled=0)


def config_of(name: str, data_set: Path, **changes: object) -> Config:
    spatial_dims = 2 if "2d" in data_set.parent.name else 3
    options = {f"network__{key}": value for key, value in SMALL[name].items()}
    return tiny_config(
        data_set,
        data__cache=str(data_set.parent / "cache"),
        network__name=name.split()[0],
        network__spatial_dims=spatial_dims,
        training__patch_size=list(SHAPE[:spatial_dims]),
        training__max_epochs=1,
        training__iterations_per_epoch=2,
        **{"network__widths": None, **options, **changes},
    )


def check_trained(run: Path) -> None:
    with (run / "history.csv").open() as file:
        [row] = csv.DictReader(file)
    assert math.isfinite(float(row["train/loss"])), row
    weights = torch.load(run / "models" / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_trains(name: str, data_set: Path, tmp_path: Path) -> None:
    """Two steps of the compiled bundle, without the validation and evaluation that do not depend on the network."""
    dataset = read_dataset(data_set)
    opened = open_run(config_of(name, data_set, data__validation=0.0), tmp_path / "run", dataset)
    run_compiled(opened.contents["train"])
    check_trained(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segresnet", "unet resnet18"])
def test_from_a_config_to_scores(name: str, data_set: Path, tmp_path: Path) -> None:
    """The same with windows that do not fit MONAI's multiples, and an auxiliary head where there is one."""
    changes = {"network__auxiliary": True} if "encoder" in SMALL[name] else {}
    config = config_of(name, data_set, data__validation=0.5, inference__patch_size=None, **changes)
    run = train(config, run=tmp_path / "run")
    check_trained(run)
    assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] == 1
