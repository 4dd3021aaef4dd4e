"""A learning rate of its own for the encoder; a budget of steps."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medseg.core.errors import ConfigError
from medseg.engine.budget import Budget
from medseg.engine.groups import parameter_groups


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def test_every_parameter_is_in_one_group() -> None:
    network = Two()
    decoder, encoder = parameter_groups(network, 0.1, 0.3)
    assert decoder["lr"] == 0.1
    assert encoder["lr"] == pytest.approx(0.03)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in network.encoder.parameters()}
    assert len(decoder["params"]) + len(encoder["params"]) == len(list(network.parameters()))


def test_factor_0_freezes_the_encoder() -> None:
    network = Two()
    (only,) = parameter_groups(network, 0.1, 0.0)
    torch.optim.SGD([only], lr=0.1)
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert all(p.requires_grad for p in network.head.parameters())


def test_a_network_without_an_encoder_is_a_mistake_of_the_config() -> None:
    with pytest.raises(ConfigError, match="encoder_factor"):
        parameter_groups(nn.Linear(2, 2), 0.1, 0.5)


def test_iterations_end_the_run_and_the_rate_falls_over_them() -> None:
    network = Two()
    optimizer = torch.optim.SGD(parameter_groups(network, 2.0, 0.5), lr=1.0)
    budget = Budget(optimizer, power=1.0, max_iterations=7)
    rates = []
    engine = Engine(lambda e, _: rates.append([g["lr"] for g in optimizer.param_groups]))
    engine.state.device = torch.device("cpu")
    budget.attach(engine)
    engine.run(range(5), max_epochs=1000, epoch_length=5)
    assert len(rates) == 7
    assert [rate[0] for rate in rates] == pytest.approx([2 * (1 - step / 7) for step in range(7)], abs=1e-3)
    assert [rate[1] for rate in rates] == pytest.approx([rate[0] / 2 for rate in rates])
    assert budget.is_over
