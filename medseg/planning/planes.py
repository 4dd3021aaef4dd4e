"""A two-dimensional network on a pretrained encoder: on pictures, or on volumes slice by slice (2.5D).

Where slices are thick they say little about each other, and an encoder that has learnt on a million photographs knows
more of edges and textures than some dozen patients teach. Pure functions, as in `rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.engine.budget import samples_per_epoch
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.rules import ALIKE, Choice, Machine, choose_crop, choose_normalization, interval_of

ENCODER = "efficientnet_lite0"
WIDTHS = [24, 32, 64, 96]  # of the decoder, at the strides 2 to 16 of the encoder
COARSEST = 32  # the encoder's last stride: what a patch is a multiple of
LEAST_SIDE = 64  # pixels; of smaller images the encoder's last map would be a pixel or two
SIDES = {"cpu": (256, 224, 192, 160, 128), "cuda": (512, 448, 384, 320, 256, 224, 192, 160, 128)}
BATCH = {"cpu": 8, "cuda": 16}
ENOUGH_STEPS = 1000  # fewer teach less than a coarser grid costs
NEARLY_ALIKE = 0.94  # mirror images: left and right of a head have 1.0, front and back 0.7 to 0.92
PICTURE_STRETCH, PICTURE_SHIFT = [0.9, 1.1], 0.05  # docs/benchmarks.md: what was tried on breast ultrasound
CONTEXT = 3  # neighbouring slices: the encoder's red, green and blue

# Pixels of a training step a second: of one CPU core in bfloat16 (AVX512-BF16), half of it in float32; of a GPU.
PIXELS_A_CORE, PIXELS_A_GPU = 1.0e6, 20e6
KEPT_BYTES_A_PIXEL = 1250  # for the backward pass, measured; in float32 twice as many


@dataclass(frozen=True)
class PlaneSampling:
    """Grid, patch and batch of a training in the plane, and what they are estimated to cost.

    Args:
        slices_along: the axis of a volume across which it is cut; None: pictures.
        longest_side: pixels that the longer side of a picture is brought to; None: as it is.
        target_mm: of the volume's voxels, in its axes' order; None, of all axes or of one: as each case has them.
    """

    slices_along: int | None
    longest_side: int | None
    target_mm: tuple[float | None, ...] | None
    crop: bool
    patch_size: tuple[int, int]
    batch_size: int
    step_seconds: float
    memory_gib: float
    activations_gib: float
    steps: int | None
    pretrained: bool
    reasons: dict[str, str]

    @property
    def plane(self) -> list[int]:
        """The axes of the image that the network sees."""
        return [axis for axis in range(2 if self.slices_along is None else 3) if axis != self.slices_along]


def choose_planes(
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    *,
    slices_along: int | None = None,
    pretrained: bool = True,
    time_factor: float = 1.0,
    memory_factor: float = 1.0,
) -> PlaneSampling | None:
    """The finest grid on which the minutes hold enough steps; None where the images are too small for the encoder, or
    the memory holds no step.

    Args:
        slices_along: axis across which volumes are cut; None for pictures.
        time_factor, memory_factor: measured over estimated, once it has been measured.
    """
    crop, why_crop = choose_crop(found) if slices_along is not None else (False, "")
    axes = [axis for axis in range(found.spatial_dims) if axis != slices_along]
    shapes = found.shapes(cropped=crop)[:, axes].astype(float)
    spacings = found.spacings_mm()[:, axes]
    pixel = float(np.median(spacings))
    if slices_along is not None:
        shapes = shapes * spacings / pixel
    full = np.percentile(shapes, 75, axis=0)
    if full.max() < LEAST_SIDE:
        return None
    device = "cpu" if machine.device == "cpu" else "cuda"
    rate = PIXELS_A_GPU
    if device == "cpu":
        rate = PIXELS_A_CORE * machine.bfloat16_cores
    kept = KEPT_BYTES_A_PIXEL * machine.bytes_a_value / 2 / 2**30

    def costs(side: int, batch: int) -> tuple[tuple[int, int], float, float]:
        patch = tuple(COARSEST * max(2, math.ceil(n * side / full.max() / COARSEST)) for n in full)
        pixels = batch * math.prod(patch)
        return (patch[0], patch[1]), pixels / rate * time_factor, pixels * kept * memory_factor

    known = [side for side in SIDES[device] if side <= full.max()]
    sides = sorted({min(int(full.max()), SIDES[device][0]), *known}, reverse=True)
    fixed = 1.0  # GiB: libraries, weights, moments
    batch = BATCH[device]
    for side in sides:
        patch, seconds, memory = costs(side, batch)
        steps = None if minutes is None else int(60 * minutes / seconds)
        if fixed + memory <= machine.memory_gib and (steps is None or steps >= ENOUGH_STEPS):
            break
    while fixed + memory > machine.memory_gib:
        batch //= 2
        if not batch:
            return None
        patch, seconds, memory = costs(side, batch)
        steps = None if minutes is None else int(60 * minutes / seconds)
    coarser = full.max() / side
    longest, target, why = None, None, "as the files are"
    if slices_along is None:
        if coarser > 1 + ALIKE or np.ptp(found.shapes(cropped=False).max(1)) > 0:
            longest = side
            why = f"the longer side, of at most {full.max():.0f} pixels in three of four pictures"
    elif coarser > 1 + ALIKE or np.abs(spacings / pixel - 1).max() > ALIKE:
        sides_mm: list[float | None] = [float(f"{pixel * coarser:.4g}")] * 3
        sides_mm[slices_along] = None
        times = f"{coarser:.3g} times " if coarser > 1 + ALIKE else ""
        target, why = tuple(sides_mm), f"{times}the median of the cases; between the slices as they are"
    if side < min(int(full.max()), SIDES[device][0]) and minutes is not None:
        why += f"; coarser, for more steps in {minutes:g} minutes ({ENOUGH_STEPS} are wanted)"
    return PlaneSampling(
        slices_along=slices_along,
        longest_side=longest,
        target_mm=target,
        crop=crop,
        patch_size=patch,
        batch_size=batch,
        step_seconds=seconds,
        memory_gib=fixed + memory,
        activations_gib=memory,
        steps=steps,
        pretrained=pretrained,
        reasons={
            "grid": why,
            "crop": why_crop,
            "patch": f"whole {'pictures' if slices_along is None else 'slices'} in most cases; multiples of {COARSEST}",
            "batch": f"{fixed + memory:.2g} GiB estimated of {machine.memory_gib:.3g}",
        },
    )


def plane_orientation(found: Fingerprint, sampling: PlaneSampling) -> Choice:
    """Axes of a volume in the order of the plane, then across the slices."""
    axis = sampling.slices_along
    assert axis is not None
    codes = "".join("RAS"[a] for a in [*sampling.plane, axis])
    return Choice("preprocessing.orientation", codes, f"one for all; slices lie along {codes[-1]}, the last axis")


def plane_spacing(sampling: PlaneSampling) -> list[float | None] | None:
    """The target in the order of the axes that `plane_orientation` gives."""
    target, along = sampling.target_mm, sampling.slices_along
    return None if target is None or along is None else [target[axis] for axis in (*sampling.plane, along)]


def plane_normalization(found: Fingerprint, sampling: PlaneSampling) -> list[Choice]:
    """As of a volume; of MR by the statistics of the tissue, since how much air lies around it differs by scanner."""
    if sampling.slices_along is None or sampling.crop:
        return choose_normalization(found, sampling.crop)
    first, *others = choose_normalization(found, sampling.crop, "by its tissue, above the mean of the volume")
    each = first.value if isinstance(first.value, list) else [first.value]
    tissue = ["zscore_bright" if one == "zscore" else one for one in each]
    value: Any = tissue if isinstance(first.value, list) else tissue[0]
    return [Choice(first.key, value, first.reason), *others]


def plane_network(sampling: PlaneSampling) -> list[Choice]:
    """The U-Net of segmentation-models-pytorch, without its last level."""
    what = "pictures" if sampling.slices_along is None else "slices with their neighbours"
    weights = [Choice("network.pretrained", ENCODER, "ImageNet's weights, of an installed package")]
    return [
        Choice("network.name", "unet"),
        Choice("network.spatial_dims", 2, f"sees {what}"),
        Choice("network.encoder", ENCODER, "light enough for a CPU"),
        *(weights if sampling.pretrained else []),
        Choice("network.widths", WIDTHS, "of the decoder, at the encoder's strides 2 to 16"),
        Choice("network.climb_to_image", False, "logits at half resolution, resized: half of the decoder's time"),
    ]


def plane_loss(sampling: PlaneSampling) -> list[Choice]:
    """Of pictures, many of which may hold nothing."""
    if sampling.slices_along is not None:
        return []
    why = "a Dice for each picture, forgiving: what is invented in a healthy one costs by its size"
    return [Choice("loss.batch_dice", False, why), Choice("loss.smooth", 0.002)]


def picture_augmentation(sampling: PlaneSampling) -> list[Choice]:
    """A picture is one patch, so no crop shows its parts in another place, and what was photographed has no aspect."""
    most = round(PICTURE_SHIFT * max(sampling.patch_size))
    return [
        Choice("augmentation.stretch", PICTURE_STRETCH, "each axis for itself, since pictures differ in aspect"),
        Choice("augmentation.stretch_probability", 0.8),
        Choice(
            "augmentation.shift_voxels", float(most), "a twentieth of a side: whole pictures are cropped nowhere else"
        ),
        Choice("augmentation.shift_probability", 0.8),
    ]


def plane_flips(found: Fingerprint, flips: Sequence[int], why: str, sampling: PlaneSampling) -> tuple[list[int], str]:
    """Axes of the plane that may be mirrored, of those of the image, and why: not where images are unlike their mirror
    image. Slices of a body mirrored front to back teach what never comes.

    Args:
        flips, why: as `choose_flips` gives them.
    """
    unlike = [axis for axis in flips if axis in sampling.plane and found.mirror_likeness[axis] < NEARLY_ALIKE]
    if unlike:
        why += f"; but not {found.directions(unlike)}, where the {found.image}s are unlike their mirror image"
    return [n for n, axis in enumerate(sampling.plane) if axis in flips and axis not in unlike], why


def plane_interval(found: Fingerprint, sampling: PlaneSampling, validation_cases: int, mirrors: int) -> tuple[int, str]:
    """Epochs between validations, each of all slices (or pictures) that are held out and their mirror images; why."""
    samples = samples_per_epoch(len(found.cases) - validation_cases, sampling.batch_size)
    along = sampling.slices_along
    slices = 1 if along is None else int(np.median(found.shapes(cropped=sampling.crop)[:, along]))
    what = "whole pictures" if along is None else f"{slices} slices a case"
    return interval_of(slices * 2**mirrors * validation_cases / (3 * samples), what)
