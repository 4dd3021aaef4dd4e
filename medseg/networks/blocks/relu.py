"""The ReLU after a norm layer: computed along with it where it can be, else in place."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.networks.blocks.layers import InstanceNorm


def relu_after(norm: nn.Module) -> nn.Module:
    """The module to put behind `norm`, which is told to do the work if it is an instance norm.

    That one keeps its result for the backward pass, so nothing may change it in place.
    """
    if isinstance(norm, InstanceNorm):
        norm.negative_slope = 0.0
        return nn.Identity()
    return nn.ReLU(inplace=True)


def add_to(norm: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    """`y + x` where `y` is the result of `norm`: in place where nothing keeps it."""
    return y + x if isinstance(norm, InstanceNorm) else y.add_(x)
