"""Other libraries to compare with: extras of development, so a test skips, with the reason, where one is absent."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

_LIBRARIES: list[torch.library.Library] = []  # what is defined lasts as long as the library object


def oracle(package: str) -> ModuleType:
    """torchvision, or a package that imports it; skips the test where that cannot be."""
    _stub_operators()
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{package} cannot be imported: {error}")


def torchvision() -> ModuleType:
    return oracle("torchvision")


def segmentation_models() -> ModuleType:
    return oracle("segmentation_models_pytorch")


def timm() -> ModuleType:
    return oracle("timm")


def _stub_operators() -> None:
    """torchvision's wheel is for the CUDA build of torch; beside the CPU build its operators are missing by name."""
    if _LIBRARIES or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


def copy_weights(theirs: nn.Module, ours: nn.Module, *renames: tuple[str, str]) -> None:
    """Their weights into ours, every name through the patterns (of `re`), with running statistics of real activations.

    Those of a fresh network, 0 and 1, would let its activations grow with every block, and rounding with them.
    """
    torch.manual_seed(0)
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            theirs.train()(torch.randn(2, 3, 64, 64))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    translated = {}
    for name, value in theirs.state_dict().items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        translated[name] = value
    ours.load_state_dict(translated)


def largest_difference(ours: nn.Module, theirs: nn.Module, image: Tensor) -> tuple[float, float]:
    """The largest absolute difference of the two networks' logits, and the standard deviation of theirs."""
    with torch.no_grad():
        expected = theirs.eval()(image)
        logits = ours.eval()(image)
    expected = expected["out"] if isinstance(expected, dict) else expected
    assert logits.shape == expected.shape
    return (logits - expected).abs().max().item(), expected.std().item()
