"""Dense CRF between the network and the mask: sharper logits on the preprocessed grid, guided by the case's image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medseg.core.labels import Labels
from medseg.core.types import Guide, chosen
from medseg.inference.crf import CRFParameters, dense_crf

PERCENTILES = (0.005, 0.995)  # a few very bright or dark voxels must not squeeze everything else together
SAMPLED = 2**20  # voxels of a channel from which its percentiles are taken
SURE = 1e-6  # probabilities end so far from 0 and 1: logits that are resampled later must not be infinite


class DenseCRFd(MapTransform):
    """Replace the logits `(K, *spatial)` of a case by those of the dense CRF: log-probabilities, or regions' log odds.

    Lengths are in voxels of the finest axis: a slice five times as thick counts as five voxels. So the published
    parameters mean on an isotropic grid what they mean on a photograph, and neighbours in an anisotropic volume are as
    far apart as they are in the patient.

    Args:
        labels: exclusive classes, or regions, each of which is a two-class field of its own.
        parameters: strengths and reaches; `image_std` is for a guide from 0 to 255.
        guide: what the published parameters take for the RGB picture. `stretched`: each channel from its percentiles
            0.5 and 99.5 to 0 and 255, which undoes any normalisation and does not depend on a scanner's units.
            `picture`: the intensities of the file, before normalisation, for RGB from 0 to 255.
        margin: the CRF sees only the box around the foreground that the network found and so many voxels (of the
            finest axis) beyond; elsewhere nothing changes. None: the whole image. Memory: about 700 bytes a voxel.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        labels: Labels,
        parameters: CRFParameters,
        guide: str = "stretched",
        margin: int | None = None,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        chosen(guide, Guide, "guide")
        self.labels = labels
        self.parameters = parameters
        self.guide = guide
        self.margin = margin
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        image = case[self.image_key]
        for key in self.key_iterator(case):
            prediction = case[key]
            grid = prediction if isinstance(prediction, MetaTensor) else image
            edges = voxel_edges(grid.affine, prediction.ndim - 1)
            refined = self._refine(torch.as_tensor(prediction).as_subclass(Tensor).float(), image, edges)
            kept = isinstance(prediction, MetaTensor)
            case[key] = MetaTensor(refined, affine=prediction.affine) if kept else refined
        return case

    def _refine(self, logits: Tensor, image: Tensor, edges: Sequence[float]) -> Tensor:
        regions = bool(self.labels.regions)
        result = logits.clone() if regions else logits.log_softmax(dim=0)
        box = self._box(logits, edges)
        if box is None:
            return result
        inside = (slice(None), *box)
        picture = guide_image(image, self.guide, inside)
        probability = dense_crf(logits[inside], picture, self.parameters, regions=regions, spacing=edges)
        result[inside] = probability.logit(SURE) if regions else probability.clamp(min=SURE).log()
        return result

    def _box(self, logits: Tensor, edges: Sequence[float]) -> tuple[slice, ...] | None:
        """The part of the grid to work on; None without any foreground to work around."""
        foreground = None if self.margin is None else self._foreground(logits)
        if foreground is None or self.margin is None:
            return (slice(None),) * (logits.ndim - 1)
        if not foreground.any():
            return None
        box = []
        for axis, edge in enumerate(edges):
            others = [other for other in range(foreground.ndim) if other != axis]
            used = foreground.amax(dim=others).nonzero()
            reach = ceil(self.margin / edge)
            box.append(slice(max(int(used[0]) - reach, 0), int(used[-1]) + 1 + reach))
        return tuple(box)

    def _foreground(self, logits: Tensor) -> Tensor | None:
        """Where the network found anything `(*spatial)`; None where the labels have no background (value 0)."""
        if self.labels.regions:
            return (logits > 0).any(0)
        if 0 not in self.labels.values:
            return None
        background = logits[self.labels.values.index(0)]
        found = torch.zeros_like(background, dtype=torch.bool)
        for channel in logits:
            found |= channel > background
        return found


def voxel_edges(affine: Any, spatial_dims: int) -> tuple[float, ...]:
    """The length of a voxel along each axis, in units of the shortest."""
    columns = torch.as_tensor(affine).cpu().double()[:-1, :spatial_dims]
    lengths = columns.norm(dim=0)
    return tuple(float(length) for length in lengths / lengths.min())


def guide_image(image: Tensor, guide: str, inside: tuple[slice, ...]) -> Tensor:
    """The part `inside` of an image `(C, *spatial)`, its intensities as the guide asks (see `DenseCRFd`)."""
    channels = torch.as_tensor(image).as_subclass(Tensor).float()
    if guide == "picture":
        # (mean, standard deviation) that the normalisation took out of each channel
        scales = image.meta.get("normalised") if isinstance(image, MetaTensor) else None
        pairs = scales or [(0.0, 1.0)] * len(channels)
        return torch.stack([part * std + mean for part, (mean, std) in zip(channels[inside], pairs, strict=True)])
    stretched = []
    for channel, part in zip(channels, channels[inside], strict=True):
        sample = channel.flatten()[:: max(1, channel.numel() // SAMPLED)]
        low, high = torch.quantile(sample, sample.new_tensor(PERCENTILES)).tolist()
        stretched.append(((part - low) * (255 / max(high - low, 1e-8))).clamp(0, 255))
    return torch.stack(stretched)
