"""Prediction by several networks: their weights, and cases that each of them sees on a grid of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch.utils.data import DataLoader

from medseg.data.training.apply import transformed
from medseg.engine.evaluator import SegmentationEvaluator
from medseg.engine.resume import load_weights


class MemberWeights:
    """Load the weights of every network of an evaluator when it starts.

    Args:
        paths: state dicts, in the order of the networks.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Any) -> None:
        """Raises RunError when a file is missing, damaged, or of another network."""
        for network, path in zip(_members(engine.network), self.paths, strict=True):
            load_weights(network, path, engine.state.device)


class SeveralPreprocessings:
    """A case as each of several preprocessings gives it: that of the first, and all images in `images`.

    Args:
        transforms: case -> `{"image": MetaTensor (C, *spatial), ...}`.
    """

    def __init__(self, transforms: Sequence[Callable[[dict], dict]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, case: dict) -> dict:
        results = [transformed(transform, dict(case)) for transform in self.transforms]
        return {**results[0], "images": [result["image"] for result in results]}


class EnsembleEvaluator(SegmentationEvaluator):
    """Cases of `SeveralPreprocessings` through a network (or a `ModuleList` of them) for each of the preprocessings.

    `pred` is a list of MetaTensors, logits on the grid of each preprocessing; `LogitsToMaskd` averages them.

    Args:
        network: a ModuleList with one entry a preprocessing.
        inferers: one an entry.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: DataLoader,
        network: torch.nn.ModuleList,
        inferers: Sequence[Inferer],
        **options: Any,
    ) -> None:
        super().__init__(device, val_data_loader, network, inferers[0], **options)
        self.inferers = list(inferers)

    def predict(self, batch: dict) -> list[MetaTensor]:
        """The logits of every entry, on the grid of its image."""
        networks: Any = self.network
        return [
            MetaTensor(self.logits(image, inferer, network), affine=image.affine)
            for image, inferer, network in zip(batch["images"], self.inferers, networks, strict=True)
        ]


def _members(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The networks in nested ModuleLists, in their order."""
    if isinstance(network, torch.nn.ModuleList):
        for member in network:
            yield from _members(member)
    else:
        yield network
