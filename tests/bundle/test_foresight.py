"""What the first step of a training would fail of is said before anything is cached: single values, memory, devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.bundle import foresight
from medseg.bundle.facts import DataFacts
from medseg.bundle.foresight import check_step
from medseg.config.load import load_config
from medseg.config.schema import Config
from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from medseg.core.machine import Memory, machine_memory
from medseg.engine.memory import OutOfMemory
from medseg.networks import NETWORKS, build_network
from medseg.planning.step import measure_step
from medseg.workflows.train import train
from tests.tiny import tiny_config

FACTS = DataFacts("x", ("a",), Labels({"background": 0, "a": 1}))
QUICK = ("deeplabv3", "efficientfcn", "fpn", "segresnet", "unet")
SINGLE = "a norm layer sees a single value of a channel in 1 x 32 x 32"
LIGHT: dict[str, Any] = {
    "efficientfcn": ["network.width=16", "network.wide=32", "network.codewords=8"],
    "encnet": ["network.width=16", "network.codewords=4"],
}


def config_of(name: str, *more: str) -> Config:
    """A network on patches of 32 x 32, one a step."""
    given = ["training.patch_size=[32,32]", "training.batch_size=1", "preprocessing.spacing_mm=null"]
    given += ["augmentation.flip_axes=[]", "network={spatial_dims: 2}", f"network.name={name}", *LIGHT.get(name, [])]
    return load_config("demo", [*given, *more])


def said_by(work: Callable[[], object]) -> str:
    """What is wrong with it; empty: nothing."""
    try:
        work()
    except ValueError as error:
        return str(error)
    except ConfigError as error:
        return "; ".join(f"{problem.what}: {problem.remedy}" for problem in error.problems)
    return ""


def real_step(config: Config) -> None:
    """On real tensors; raises ValueError where that fails, or where half of an encoder's weights have no gradient."""
    channels = {"in_channels": 1, "out_channels": 2}
    network = build_network(config.network.name, **channels, **config.network.options()).train()
    made = network(torch.randn(config.training.batch_size, 1, *config.training.patch_size))
    (made if torch.is_tensor(made) else made[0]).square().sum().backward()
    encoder: Any = getattr(network, "encoder", None)
    last = [weight for weight in encoder.parameters() if weight.ndim > 1][-1:] if encoder is not None else []
    if any(weight.grad is None or float(weight.grad.abs().max()) < 1e-12 for weight in last):
        raise ValueError("no gradient")


def each_network() -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.campaign) for name in sorted(NETWORKS.own)]


@pytest.mark.slow
@pytest.mark.parametrize("name", each_network())
def test_a_step_that_a_norm_layer_would_refuse(name: str) -> None:
    """Of each network that takes pictures, by default and with each norm: it is refused if, and only if, it fails."""
    norms = ["network.norm=batch", "network.norm=instance"] if "norm" in NETWORKS.own[name].options else []
    for more in ([], *([one] for one in norms)):
        try:
            config = config_of(name, *more)
        except ConfigError:  # of three dimensions, or refused by `validate` already
            continue
        said, truth = said_by(partial(check_step, config, FACTS)), said_by(partial(real_step, config))
        assert (SINGLE in said and "larger" in said) == ("Expected more than 1" in truth), (more, said, truth)
        assert ("the encoder's last map is one voxel" in said) == (truth == "no gradient"), (more, said, truth)
        assert bool(said) == bool(truth)
        if truth != "no gradient":
            two = config.training.model_copy(update={"batch_size": 2})
            check_step(config.model_copy(update={"training": two}), FACTS)


def test_a_unet_is_refused_by_validate_already() -> None:
    deep = ["network.widths=[4, 4, 4, 4, 4, 4]", "network.norm=batch"]
    with pytest.raises(ConfigError, match="is a single voxel at the coarsest resolution, too few for batch norm"):
        config_of("unet", *deep)
    check_step(config_of("unet", *deep, "training.batch_size=2"), FACTS)


def test_a_batch_that_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    free = machine_memory().free
    assert free is not None
    config = config_of("unet", "network.widths=[8, 8]")
    assert check_step(config, FACTS) > 0
    for batch, patch in ((free // 1000, [32, 32]), (2, [2**15, 2**15])):
        training = config.training.model_copy(update={"batch_size": batch, "patch_size": patch})
        with pytest.raises(OutOfMemory, match=r"takes more than [\d.e+]+ GiB, but .* of memory are free") as caught:
            measure_step(config.model_copy(update={"training": training}), FACTS)
        assert "make batch_size or patch_size smaller" in str(caught.value)
    monkeypatch.setattr(foresight, "machine_memory", lambda: Memory(1000, None))  # not known on every system
    check_step(config, FACTS)


def test_synchronised_batch_norm_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("unet", "network.norm=syncbatch")
    monkeypatch.setattr(foresight, "choose_device", lambda name: torch.device("cpu"))
    with pytest.raises(ConfigError, match="syncbatch is for GPUs, and here is none"):
        check_step(config, FACTS)
    monkeypatch.setattr(foresight, "choose_device", lambda name: torch.device("cuda"))
    assert check_step(config, FACTS) > 0


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("changes", [{"network__norm": "syncbatch"}, {"training__batch_size": 10**7}])
def test_it_is_said_before_anything_is_written(
    changes: dict[str, Any], dry_run: bool, tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    config = tiny_config(tiny_msd(cases=4), **changes, training__device="auto")
    with pytest.raises((ConfigError, OutOfMemory), match=r"syncbatch is for GPUs|of memory are free"):
        train(config, run=tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()
