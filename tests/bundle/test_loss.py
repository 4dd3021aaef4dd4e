"""What the compiler gives a loss: its own options, and what the data say where it asks."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from medseg.bundle import components
from medseg.bundle.facts import describe_data
from medseg.config.load import load_config
from medseg.core.labels import Labels
from medseg.core.parts import Part
from medseg.losses import LOSSES
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice_ce import DiceCrossEntropy


class Asking(nn.Module):
    """A loss that asks for the labels.

    Args:
        labels: what the channels mean.
        sharpness: of nothing.
    """

    def __init__(self, labels: Labels, sharpness: float = 2.0) -> None:
        super().__init__()
        self.labels, self.sharpness = labels, sharpness

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.mean()


def loss_of(name: str, *overrides: str) -> dict:
    config = load_config(name, ["network.name=fpn", "network.encoder=resnet18", *overrides])
    return components.loss(config, describe_data(config))["loss"]


def test_each_loss_has_all_of_its_own_arguments_and_no_other() -> None:
    dice = loss_of("brain", "loss.overlap=tversky")
    assert dice.pop("_target_").endswith("dice_ce.DiceCrossEntropy")
    assert dice.pop("regions") == "$bool(@labels.regions)"
    assert DiceCrossEntropy(**dice, regions=True).missed_weight == 0.7
    combined = loss_of("camvid", "loss.class_weights=null")
    assert combined.pop("_target_").endswith("combined.CombinedLoss")
    assert CombinedLoss(**combined).lovasz_weight == 0.5
    assert combined.keys() == LOSSES["combined"].options.keys()


def test_weights_of_classes_stand_in_the_order_of_the_classes_or_are_counted() -> None:
    config = load_config("camvid", ["loss.class_weights=null"])
    classes = list(describe_data(config).labels.classes)
    named = ", ".join(f"{name}: {number}" for number, name in reversed(list(enumerate(classes, start=1))))
    loss = loss_of("camvid", f"loss.class_weights={{{named}}}")
    assert loss["class_weights"] == list(range(1, len(classes) + 1))
    counted = loss_of("camvid")["class_weights"]
    assert (counted["_target_"].rpartition(".")[2], counted["exponent"]) == ("class_weights", 0.5)


def test_a_loss_from_elsewhere_gets_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        LOSSES._found, "asking", Part("asking", f"{__name__}:Asking", {}, "asking", "1.0", table=LOSSES)
    )
    loss = loss_of("hippocampus", "loss.name=asking", "loss.sharpness=3")
    assert loss == {"_target_": f"{__name__}.Asking", "labels": "@labels", "sharpness": 3.0}
