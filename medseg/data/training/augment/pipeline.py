"""All transforms of a training batch, computed on the batch's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medseg.core.errors import ConfigError, Problem
from medseg.data.training.augment.base import Intensity, Spatial, Transform
from medseg.data.training.augment.resampling import combined, resampled
from medseg.data.training.streams import stream


class Augment:
    """Augment a batch: `image` `(B, C, *spatial)` float32, `label` `(B, 1, *spatial)`, `sample` `(B,)` whole numbers.

    Every draw derives from `(seed, sample number, name of the transform)`, and no sample knows of another: the batch it
    is in, the number of loader workers and a restart change nothing (on a GPU: but for rounding). The spatial
    transforms are one linear interpolation (the label's: nearest), with the border repeated outside; then the others
    change the values, in the order in which they are given.

    Args:
        transforms: name -> transform; the name is that of its stream of random numbers.
        spacing_mm: size of the voxels; default: cubes.
        patch_size: what is returned, the middle of images that came with a margin; default: as large as they come.
        margin: voxels a side that images come with, for patches of several sizes: all but that is returned. Then
            patch_size is the full one, which a map's waves are counted in.
        context: neighbouring slices that each channel of the scan comes with, as so many channels of the image.
    """

    def __init__(
        self,
        seed: int,
        transforms: Mapping[str, Transform],
        spacing_mm: Sequence[float] | None = None,
        patch_size: Sequence[int] | None = None,
        context: int = 1,
        margin: Sequence[int] | None = None,
    ) -> None:
        for name, transform in transforms.items():
            if not isinstance(transform, Spatial | Intensity):
                remedy = f"derive it from Spatial or Intensity of {Transform.__module__}"
                raise ConfigError(Problem(name, f"{type(transform).__name__} is no transform of patches", remedy))
        self.seed = seed
        self.spatial = {name: one for name, one in transforms.items() if isinstance(one, Spatial)}
        self.intensity = {name: one for name, one in transforms.items() if isinstance(one, Intensity)}
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.patch_size = None if patch_size is None else tuple(patch_size)
        self.context = context
        self.margin = None if margin is None else tuple(margin)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image, label = batch["image"].contiguous(), batch["label"].contiguous()
        draws = [self.draw(sample, image.shape[1], image.ndim - 2) for sample in batch["sample"].tolist()]
        # A CPU keeps one sample in its cache; a GPU would spend its time on starting the operations of one.
        group = 1 if image.device.type == "cpu" else len(draws)
        parts = [slice(start, start + group) for start in range(0, len(draws), group)]
        changed = [self.change(image[part], label[part], draws[part]) for part in parts]
        images, labels = zip(*changed, strict=True)
        return dict(batch) | {"image": torch.cat(images), "label": torch.cat(labels)}

    def draw(self, sample: int, channels: int, dims: int) -> dict[str, Any]:
        """What happens to a sample: name -> what that transform drew; what does not happen is not there."""
        spacing = np.array(self.spacing_mm or [1.0] * dims)
        drawn: dict[str, Any] = {}
        for name, warping in self.spatial.items():
            if random := self._happens(sample, name, warping):
                drawn[name] = warping.draw(random, spacing)
        for name, changing in self.intensity.items():
            if random := self._happens(sample, name, changing):
                drawn[name] = changing.draw(random, channels // self.context if changing.whole_channels else channels)
        return drawn

    def _happens(self, sample: int, name: str, transform: Transform) -> np.random.Generator | None:
        """The rest of the transform's stream, from which it draws what happens; None: nothing does."""
        if not transform.probability:
            return None
        random = stream(self.seed, sample, name)
        return random if random.random() < transform.probability else None

    def change(
        self, image: torch.Tensor, label: torch.Tensor, draws: Sequence[Mapping[str, Any]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels `(B, C, *spatial)` after what was drawn for each sample, all of them at once."""
        warps = [combined([drawn[name] for name in self.spatial if name in drawn]) for drawn in draws]
        size = self.patch_size
        if self.margin is not None:
            size = tuple(n - 2 * extra for n, extra in zip(image.shape[2:], self.margin, strict=True))
        image, label = resampled(image, label, warps, size, self.patch_size)
        for name, transform in self.intensity.items():
            together = transform.whole_channels and self.context > 1
            seen = image.unflatten(1, (-1, self.context)) if together else image
            seen = _where_drawn(seen, name, transform, draws)
            image = seen.flatten(1, 2) if together else seen
        return image, label


def _where_drawn(
    image: torch.Tensor, name: str, transform: Intensity, draws: Sequence[Mapping[str, Any]]
) -> torch.Tensor:
    """The images, those changed to which this transform happens, all of them at once."""
    chosen = [number for number, drawn in enumerate(draws) if name in drawn]
    if not chosen:
        return image
    if len(chosen) == len(draws):
        return transform.change(image, [drawn[name] for drawn in draws])
    samples = list(image.unbind())
    changed = transform.change(torch.stack([samples[n] for n in chosen]), [draws[n][name] for n in chosen])
    for number, sample in zip(chosen, changed, strict=True):
        samples[number] = sample
    return torch.stack(samples)
