"""Random changes of colour of a batch of RGB pictures, computed on the batch's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import validate_call

from medseg.core.types import Degrees, Factors, Fraction, GreyLevels
from medseg.data.training.streams import stream

# RGB -> luma and the two colour differences of NTSC's YIQ, in whose plane a hue is an angle
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


class Photometric:
    """Brightness, contrast, saturation and hue of each picture of a batch, each changed in half of them.

    `image` `(B, 3, *spatial)` of bytes or of floats from 0 to 255 becomes float32 from 0 to 255. Every draw derives
    from `(seed, sample number, name of the change)`. The ranges are those of mmsegmentation's PhotoMetricDistortion
    (after Liu et al., SSD, arXiv 1512.02325); but contrast is about mid-grey, hue turns the plane of colour differences
    of YIQ, and values are clipped once at the end: so the four are one 3 x 3 matrix and an offset for each picture.

    Args:
        brightness: Largest shift, of 255.
        contrast: Smallest and largest factor on the distance from mid-grey, drawn evenly.
        saturation: Smallest and largest factor on the distance from grey, drawn evenly.
        hue_degrees: Largest turn of the hue, either way.
        probability: Of each of the four.
    """

    @validate_call
    def __init__(
        self,
        seed: int,
        brightness: GreyLevels = 32.0,
        contrast: Factors = [0.5, 1.5],
        saturation: Factors = [0.5, 1.5],
        hue_degrees: Degrees = 36.0,
        probability: Fraction = 0.5,
    ) -> None:
        self.seed = seed
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
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
        """`(3, 3)` and an offset."""
        shift = self._drawn(sample, "brightness", -self.brightness, self.brightness)
        contrast = self._drawn(sample, "contrast", *self.contrast)
        saturation = self._drawn(sample, "saturation", *self.saturation)
        degrees = self._drawn(sample, "hue", -self.hue_degrees, self.hue_degrees)
        contrast = 1.0 if contrast is None else contrast
        colour = np.eye(3)
        if saturation is not None or degrees is not None:
            angle = np.deg2rad(degrees or 0.0)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            plane = np.eye(3)
            plane[1:, 1:] = turn * (1.0 if saturation is None else saturation)
            colour = np.linalg.inv(YIQ) @ plane @ YIQ
        return contrast * colour, contrast * (shift or 0.0) + (1 - contrast) * 127.5

    def _drawn(self, sample: int, change: str, low: float, high: float) -> float | None:
        """What one of the four draws for that picture; None where it does not happen."""
        random = stream(self.seed, sample, f"colour.{change}")
        return random.uniform(low, high) if random.random() < self.probability else None
