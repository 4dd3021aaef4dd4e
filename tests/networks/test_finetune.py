"""Weights carried over to a network with other channels and targets: by name, for every network of the table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg.networks import build_network
from medseg.networks.finetune import Ends, carried_over
from tests.networks.test_contract import SMALL

OLD, NEW = ("FLAIR", "T1"), ("t1", "T2", "flair")
CLASSES, OTHERS = ("background", "tumour"), ("background", "oedema", "Tumour")


def ends(inputs: tuple[str, ...], outputs: tuple[str, ...], name: str = "unet", **options: Any) -> Ends:
    options = {"spatial_dims": 2, **options}
    return Ends(lambda i, o: build_network(name, in_channels=i, out_channels=o, **options), inputs, outputs)


def built(about: Ends, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return about.network(len(about.inputs), len(about.outputs)).eval()


def unet(inputs: tuple[str, ...] = OLD, outputs: tuple[str, ...] = CLASSES, **options: Any) -> Ends:
    return ends(inputs, outputs, **{"widths": [4, 8], **options})


def test_channels_and_targets_are_found_by_name() -> None:
    old, new = unet(), unet(NEW, OTHERS)
    trained, network = built(old, 0), built(new, 1)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    carried = carried_over(trained.state_dict(), old, new, network)
    assert (carried.problems, carried.fresh, carried.left_out) == ((), (), ())
    assert all(torch.equal(value, initial[name]) for name, value in network.state_dict().items())
    network.load_state_dict(carried.tensors)
    image = torch.randn(2, 2, 16, 16)
    flair, t1 = image[:, :1], image[:, 1:]
    for third in (torch.zeros_like(t1), torch.randn_like(t1)):  # what is new says nothing at first
        found = network(torch.cat([t1, third, flair], 1))
        torch.testing.assert_close(found[:, [0, 2]], trained(image)[:, :2])
    for name in ("heads.0.conv.weight", "heads.0.conv.bias"):
        assert torch.equal(carried.tensors[name][1], initial[name][1])
    assert sorted(note.split(" ")[0] for note in carried.adapted if "targets" in note) == [
        "heads.0.conv.bias",
        "heads.0.conv.weight",
    ]
    assert f"{len(carried.adapted)} adapted: " in str(carried)


def test_channels_of_unknown_names_take_the_mean() -> None:
    old, new = unet(norm="none"), unet(("one", "two", "three"), norm="none")
    trained, network = built(old, 0), built(new, 1)
    network.load_state_dict(carried_over(trained.state_dict(), old, new, network).tensors)
    same = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(network(same.expand(-1, 3, -1, -1)), trained(same.expand(-1, 2, -1, -1)))


def test_equal_ends_carry_everything_as_it_is_and_turned_channels_turn() -> None:
    old, new = unet(), unet(OLD[::-1], CLASSES[::-1])
    trained, network = built(old, 0), built(old, 1)
    carried = carried_over(trained.state_dict(), old, old, network)
    assert (carried.tensors.keys(), carried.adapted) == (trained.state_dict().keys(), ())
    turned = built(new, 1)
    turned.load_state_dict(carried_over(trained.state_dict(), old, new, turned).tensors)
    image = torch.randn(1, 2, 16, 16)
    torch.testing.assert_close(turned(image.flip(1)).flip(1), trained(image))


def test_targets_of_other_names_begin_anew() -> None:
    old, new = unet(), unet(OLD, ("organ", "lesion"))
    carried = carried_over(built(old, 0).state_dict(), old, new, built(new, 1))
    assert carried.fresh == ("heads.0.conv.weight", "heads.0.conv.bias")
    assert not carried.problems


def test_a_second_head_that_only_one_has_is_no_other_kind() -> None:
    options: dict[str, Any] = {"name": "fpn", "encoder": "plain", "encoder_options": {"widths": [4, 8, 8]}}
    for first, second in ((False, True), (True, False)):
        old, new = ends(OLD, CLASSES, auxiliary=first, **options), ends(NEW, OTHERS, auxiliary=second, **options)
        carried = carried_over(built(old, 0).state_dict(), old, new, built(new, 1))
        assert not carried.problems
        alone = carried.fresh if second else carried.left_out
        assert {name.partition(".")[0] for name in alone} == {"auxiliary"}
    old, new = unet(widths=[4, 8, 8], deep_supervision=False), unet(widths=[4, 8, 8])
    assert carried_over(built(old, 0).state_dict(), old, new, built(new, 1)).fresh == (
        "heads.1.conv.weight",
        "heads.1.conv.bias",
    )


@pytest.mark.parametrize("options", [{"widths": [4, 12]}, {"blocks_per_level": 1}, {"norm": "batch"}])
def test_another_kind_is_said(options: dict[str, Any]) -> None:
    old, new = unet(), unet(**{"widths": [4, 8], **options})
    for one, other in ((old, new), (new, old)):
        assert carried_over(built(one, 0).state_dict(), one, other, built(other, 1)).problems


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_is_carried_over(name: str) -> None:
    old, new = (ends(*pair, name=name.split()[0], **SMALL[name]) for pair in ((OLD, CLASSES), (NEW, OTHERS)))
    trained, network = built(old, 0), built(new, 1)
    carried = carried_over(trained.state_dict(), old, new, network)
    assert (carried.problems, carried.fresh, carried.left_out) == ((), (), ())
    of_input, of_output = new.axes()
    assert min(len(of_input), len(of_output)) > 0
    assert {note.split(" ")[0] for note in carried.adapted} == of_input.keys() | of_output.keys()
    network.load_state_dict(carried.tensors)
