"""Random changes of colour of a batch of RGB pictures, computed on the batch's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

COLOUR = 4  # keeps this stream of random numbers apart from those of `patches` and `augment`
# RGB -> luma and the two colour differences of NTSC's YIQ, in whose plane a hue is an angle
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


class Photometric:
    """Brightness, contrast, saturation and hue of each picture of a batch, each changed in half of them.

    `image` `(B, 3, *spatial)` of bytes or of floats from 0 to 255 becomes float32 from 0 to 255. Every draw derives
    from `(seed, sample number)`. The ranges are those of mmsegmentation's PhotoMetricDistortion (after Liu et al., SSD,
    arXiv 1512.02325); but contrast is about mid-grey, hue turns the plane of colour differences of YIQ, and values are
    clipped once at the end: so the four are one 3 x 3 matrix and an offset for each picture.

    Args:
        brightness: largest shift, of 255.
        contrast, saturation: ranges of factors, drawn evenly.
        hue_degrees: largest turn.
        probability: of each of the four.
    """

    def __init__(
        self,
        seed: int,
        brightness: float = 32.0,
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue_degrees: float = 36.0,
        probability: float = 0.5,
    ) -> None:
        self.seed = seed
        self.brightness = brightness
        self.contrast = (contrast[0], contrast[1])
        self.saturation = (saturation[0], saturation[1])
        self.hue_degrees = hue_degrees
        self.probability = probability

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = batch["image"]
        if image.shape[1] != 3:
            raise ValueError(f"colours of an image of {image.shape[1]} channels: expected red, green and blue")
        draws = [self._draw(int(sample)) for sample in torch.as_tensor(batch["sample"])]
        matrix = torch.tensor(np.stack([m for m, _ in draws]), dtype=torch.float32).to(image.device)
        offset = torch.tensor([o for _, o in draws], dtype=torch.float32).to(image.device)
        flat = image.float().flatten(2)  # (B, 3, N)
        changed = torch.baddbmm(offset.view(-1, 1, 1).expand(-1, 3, 1), matrix, flat)
        return dict(batch) | {"image": changed.clamp_(0, 255).view(image.shape)}

    def _draw(self, sample: int) -> tuple[np.ndarray, float]:
        """`(3, 3)` and an offset; everything is drawn, needed or not."""
        random = np.random.default_rng([self.seed, COLOUR, sample])
        chance = random.random(4) < self.probability
        shift = random.uniform(-self.brightness, self.brightness) * chance[0]
        contrast = random.uniform(*self.contrast) if chance[1] else 1.0
        saturation, angle = random.uniform(*self.saturation), np.deg2rad(random.uniform(-1, 1) * self.hue_degrees)
        saturation = saturation if chance[2] else 1.0
        angle = angle if chance[3] else 0.0
        turn = saturation * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        plane = np.eye(3)
        plane[1:, 1:] = turn
        colour = np.linalg.inv(YIQ) @ plane @ YIQ if chance[2] or chance[3] else np.eye(3)
        return contrast * colour, float(contrast * shift + (1 - contrast) * 127.5)
