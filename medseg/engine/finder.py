"""The first of two stages where cases are predicted: a trained network finds the region that the second one sees."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer

from medseg.data.files.digests import file_digest
from medseg.data.training.identity import parameters
from medseg.data.training.region import REGION, CropToBoxd, extent
from medseg.engine.device import choose_precision
from medseg.engine.evaluator import LESS_AT_ONCE, check_finite, logits_of
from medseg.engine.memory import enough_memory
from medseg.engine.resume import load_weights
from medseg.inference.postprocess import index_map

PROBABILITY = 0.25  # from which on a voxel counts as found: a target cut off is worse than a larger region

logger = logging.getLogger(__name__)


class CropToFoundd(CropToBoxd):
    """Crop to the box of what a network finds in the image, see `CropToBoxd`; where that is nothing it stays whole.

    `region` of the case says whether anything was found, and what share of the volume the region is.

    Args:
        network: logits of background and targets, already on `device`.
        weights: its state dict.
        inferer: how the coarse image is given to it.
        coarse: transform of `{"image": ...}` to the grid that it was trained on.
        precision: as in training.

    Raises:
        RunError: the weights are missing, damaged, or of another network.
    """

    def __init__(
        self,
        keys: Sequence[str],
        network: torch.nn.Module,
        weights: str,
        inferer: Inferer,
        coarse: Callable[[dict[str, Any]], dict[str, Any]],
        device: torch.device,
        margin_mm: float,
        least_size: Sequence[int],
        spacing_mm: Sequence[float | None] | None = None,
        precision: str = "auto",
    ) -> None:
        super().__init__(keys, margin_mm, least_size, spacing_mm)
        self.network = load_weights(network, weights, device).eval()
        self.digest = file_digest(Path(weights))
        self.inferer, self.coarse = inferer, coarse
        self.device, self.precision = device, choose_precision(precision, device)

    def identity(self) -> list[Any]:
        """What tells it from another one, for the cache: the network by its weights."""
        held = {name: value for name, value in self.__dict__.items() if name not in ("network", "device")}
        return [parameters(held)]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image = data["image"]
        coarse = self.coarse({"image": image})["image"]
        box = extent(self._found(coarse))
        if box is None:
            logger.warning("%s: no region was found, so the network sees the whole volume", data["case"])
            return dict(data) | {REGION: {"found": False, "share": 1.0}}
        matrix, offset = index_map(image.affine, coarse.affine, len(self.least_size))
        faces = np.stack(np.meshgrid(*(np.stack(box, 1) - 0.5), indexing="ij"), -1).reshape(-1, len(matrix))
        corners = faces @ matrix.T + offset + 0.5  # where voxel 0 begins at 0
        case = self.cropped(data, corners.min(0), corners.max(0))
        share = math.prod(case["image"].shape[1:]) / math.prod(image.shape[1:])
        return case | {REGION: {"found": True, "share": round(share, 4)}}

    def _found(self, image: torch.Tensor) -> np.ndarray:
        """Where in an image `(C, *spatial)` a target is likely."""
        with enough_memory(LESS_AT_ONCE):
            logits = logits_of(image, self.inferer, self.network, self.device, self.precision)
        check_finite(logits, "the finder")
        background, target = logits
        likely = target - background > math.log(PROBABILITY / (1 - PROBABILITY))
        return likely.cpu().numpy()
