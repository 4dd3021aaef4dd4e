"""From what a data set measures and what a machine can do to the values of a config, each with its reason.

Everything here is a pure function of its arguments: the same data and machine give the same plan.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.engine.budget import samples_per_epoch
from medseg.planning.fingerprint import Fingerprint, channel_said
from medseg.planning.network import ANISOTROPY, COARSEST, Topology, first_patch, inside, shrunk

VALIDATION = 0.2
FEW_CASES = 250  # below it a network soon learns the cases by heart
LEAST_STEPS = 1000  # fewer steps than this teach less than a smaller patch costs
CONTEXT = 64  # voxels along an axis that a patch is not made shorter than to save time
CPU_BATCH_VOXELS = 64**3
ALIKE = 0.01  # spacings that differ by less, relative, are the same
INSIDE_VOLUMES = "inside nearly all volumes"
GPU_EPOCH = 250  # steps, as nnU-Net's: an epoch's checkpoint and table take as long as many steps of a GPU

# Multiply-accumulates a second of a training step (three times the forward pass), in 10^9: of one CPU core in bfloat16
# (AVX512-BF16) from the times in docs/benchmarks.md, half of it in float32; of a GPU from the published throughput of
# NVIDIA's nnU-Net on an A100 (6.7 patches of 4 x 128^3 a second).
GMAC_A_CORE, GMAC_A_GPU = 60.0, 8000.0


@dataclass(frozen=True)
class Machine:
    """What a plan is made for: the memory of a training, and 2 or 4 bytes a value.

    Args:
        compiles: whether `torch.compile` finds here what it needs to speed a training up.
    """

    device: str
    cores: int
    memory_gib: float
    bytes_a_value: int
    compiles: bool = False

    @property
    def gmac_a_second(self) -> float:
        if self.device != "cpu":
            return GMAC_A_GPU
        return GMAC_A_CORE * self.bfloat16_cores

    @property
    def bfloat16_cores(self) -> float:
        """CPU cores as fast as one is in bfloat16; in float32 it is half of one."""
        return self.cores * (1.0 if self.bytes_a_value == 2 else 0.5)


@dataclass(frozen=True)
class Choice:
    """One key of the config (`section.key`), its value and why it has it."""

    key: str
    value: Any
    reason: str = ""


@dataclass(frozen=True)
class RegionGrid:
    """The coarse grid on which the first of two stages looks for the region of the targets, and why it is that.

    Args:
        patch_size: None: that of the network.
    """

    spacing_mm: float
    patch_size: tuple[int, ...] | None
    reason: str


@dataclass(frozen=True)
class Sampling:
    """Grid, patch, network and batch of a training, and what they are estimated to cost.

    Args:
        finder: of two stages.
    """

    target_mm: tuple[float, ...] | None
    spacing_mm: tuple[float, ...]
    crop: bool
    shapes: np.ndarray
    network: Topology
    batch_size: int
    step_seconds: float
    memory_gib: float
    activations_gib: float
    steps: int | None
    reasons: dict[str, str]
    finder: RegionGrid | None = None

    @property
    def anisotropic(self) -> bool:
        return max(self.spacing_mm) > ANISOTROPY * min(self.spacing_mm)


def choose_sampling(
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    outputs: int,
    time_factor: float = 1.0,
    memory_factor: float = 1.0,
) -> Sampling | None:
    """The largest patch that memory and time allow, with its network; None if not even the smallest fits the memory.

    Args:
        minutes: of training, or None for no limit.
        outputs: channels of the logits.
        time_factor: measured over estimated seconds of a step, once it has been measured.
        memory_factor: the same of the memory of the activations.
    """
    target, spacing, why_spacing = _spacing(found)
    crop, why_crop = choose_crop(found)
    shapes = np.round(found.shapes(cropped=crop) * found.spacings_mm() / np.array(spacing))
    cpu = machine.device == "cpu"
    base = 16 if cpu else 32
    widest = base * (10 if found.spatial_dims == 3 else 16)
    wanted = first_patch(shapes, spacing)
    network = inside(wanted, spacing, base, widest)
    whole = network.patch_size
    room = machine.memory_gib

    def memory(topology: Topology, batch: int) -> float:
        values = parameters(topology, len(found.channels), outputs)
        activations = batch * topology.activation_gib(machine.bytes_a_value) * memory_factor
        return activations + values * 20 / 2**30 + (0.7 if cpu else 1.0)  # two moments, an average; the libraries

    def seconds(topology: Topology, batch: int) -> float:
        return 3 * batch * topology.gmac(len(found.channels)) / machine.gmac_a_second * time_factor

    batch = 1 if len(found.cases) == 1 else 2
    while memory(network, batch) > room:
        smaller = shrunk(network, shapes, spacing, widest, 2 * COARSEST)
        if smaller is None:
            return None
        network = smaller
    fits = network.patch_size
    while minutes is not None and 60 * minutes / seconds(network, batch) < LEAST_STEPS:
        smaller = shrunk(network, shapes, spacing, widest, CONTEXT)
        if smaller is None:
            break
        network = smaller
    voxels = math.prod(network.patch_size)
    per_batch = CPU_BATCH_VOXELS if cpu else 0.05 * float(shapes.prod(1).sum())
    most = 4 if cpu else 32

    def is_worth_it(batch: int) -> bool:
        """Whether so many patches leave enough steps; on a CPU, small patches together are cheaper."""
        return cpu or minutes is None or 60 * minutes / seconds(network, batch) >= LEAST_STEPS

    while batch < min(most, per_batch // voxels) and memory(network, batch + 1) <= room and is_worth_it(batch + 1):
        batch += 1
    step = seconds(network, batch)
    quartile = " x ".join(f"{n:.0f}" for n in np.floor(np.percentile(shapes, 25, axis=0)))
    place = INSIDE_VOLUMES if found.spatial_dims == 3 else "inside nearly all pictures"
    why_patch = f"{place} (lower quartile {quartile}): what is padded shifts instance norm"
    if whole != tuple(wanted) and math.prod(whole) < 0.9 * math.prod(wanted):
        why_patch += f"; a multiple of {_times(network.steps)}"
    if fits != whole:
        why_patch += f"; smaller than {_times(whole)}, which {batch} of do not fit into {room:.3g} GiB"
    if network.patch_size != fits:
        why_patch += f"; smaller than {_times(fits)}, for more steps in {minutes:g} minutes ({LEAST_STEPS} are wanted)"
    why_batch = (
        "2 to 4 on a CPU, where every patch costs its time; small patches come in larger batches"
        if cpu
        else f"as many as fit the memory, at most 5 % of the data set's {found.point}s and 32"
    )
    why_batch += f"; {memory(network, batch):.2g} GiB estimated of {room:.3g}"
    return Sampling(
        target_mm=target,
        spacing_mm=spacing,
        crop=crop,
        shapes=shapes,
        network=network,
        batch_size=batch,
        step_seconds=step,
        memory_gib=memory(network, batch),
        activations_gib=batch * network.activation_gib(machine.bytes_a_value) * memory_factor,
        steps=None if minutes is None else int(60 * minutes / step),
        reasons={
            "spacing": why_spacing,
            "crop": why_crop,
            "patch": why_patch,
            "batch": why_batch,
        },
    )


def _spacing(found: Fingerprint) -> tuple[tuple[float, ...] | None, tuple[float, ...], str]:
    """The target (None: as the files are), the spacing that the network sees, and why."""
    spacings, median = found.spacings_mm(), np.median(found.spacings_mm(), axis=0)
    shown = _times([f"{side:.4g}" for side in median])
    if not found.has_spacing:
        return None, tuple(float(side) for side in median), "pictures that do not say how large a pixel is"
    if np.abs(spacings / median - 1).max() <= ALIKE:
        return None, tuple(float(side) for side in median), f"all {len(spacings)} cases have {shown} mm: no resampling"
    target, reason = median.copy(), f"the median of {len(spacings)} cases"
    if found.spatial_dims == 3:
        thick = int(median.argmax())
        others = np.delete(median, thick)
        shape = np.median(found.shapes(cropped=False), axis=0)
        if median[thick] > 3 * others.max() and 3 * shape[thick] < np.delete(shape, thick).min():
            tenth = float(np.percentile(spacings[:, thick], 10))
            target[thick] = max(tenth, others.max())
            reason += f" ({shown}); on the strongly anisotropic axis the 10th percentile, so that thin slices stay thin"
    rounded = tuple(float(f"{side:.4g}") for side in target)
    return rounded, rounded, reason


def parameters(network: Topology, channels: int, outputs: int) -> int:
    """Of the U-Net, up to a few hundred of norms and biases."""
    total, inner = 0, channels
    for level, (width, kernel) in enumerate(zip(network.widths, network.kernel_sizes, strict=True)):
        total += math.prod(kernel) * (inner * width + width * width) + outputs * width
        if level < len(network.widths) - 1:
            total += (
                math.prod(kernel) * 3 * width * width
                + math.prod(network.strides[level + 1]) * width * network.widths[level + 1]
            )
        inner = width
    return total


def choose_normalization(found: Fingerprint, crop: bool, within: str | None = None) -> list[Choice]:
    """Of each channel. CT: clipped and scaled by the foreground of all cases, as nnU-Net does (Isensee et al. 2021);
    any other: z-scores of the case, without the background where there is much of it.

    Args:
        within: what of an image that is not cropped the statistics are of, for the reason; default: the whole of it.
    """
    ct = [values for values in found.intensities if values.channel.upper() == "CT"]
    others = [values for values in found.intensities if values not in ct]
    z_score = "zscore_nonzero" if crop else "zscore"
    which = f"over the whole {found.image}" if within is None else within
    if crop:
        which = f"inside what is not background, which the {found.image}s are cropped to"
    reasons = []
    if ct:
        reasons.append("CT: clipped to what the classes have, then by their mean and deviation: the units are absolute")
    if others:
        spread = "; ".join(
            f"{channel_said(c.channel)} {c.percentile_00_5:.3g} to {c.percentile_99_5:.3g}".strip() for c in others
        )
        reasons.append(f"z-score per case and channel {which}; inside the classes: {spread}")
    each = ["ct" if values in ct else z_score for values in found.intensities]
    value: str | list[str] = each[0] if len(set(each)) == 1 else each
    choices = [Choice("preprocessing.normalization", value, ". ".join(reasons))]
    if ct:
        low, high = min(c.percentile_00_5 for c in ct), max(c.percentile_99_5 for c in ct)
        window = [float(round(low)), float(round(high))]
        choices.append(Choice("preprocessing.window_hu", window, "0.5th and 99.5th percentile inside the classes"))
        mean, std = float(np.mean([c.mean for c in ct])), float(np.mean([c.std for c in ct]))
        if std > 0:
            scale = [float(f"{mean:.4g}"), float(f"{std:.4g}")]
            choices.append(Choice("preprocessing.ct_mean_std", scale, "mean and deviation inside the classes"))
    return choices


def choose_orientation(found: Fingerprint) -> Choice:
    codes = Counter(case.orientation for case in found.cases)
    shown = ", ".join(f"{code} {count}" for code, count in codes.most_common(3))
    if found.spatial_dims == 2:
        return Choice("preprocessing.orientation", codes.most_common(1)[0][0], f"as the pictures lie ({shown})")
    return Choice("preprocessing.orientation", "RAS", f"one for all; the files are {shown}")


def choose_crop(found: Fingerprint) -> tuple[bool, str]:
    """Whether images are cropped to what is not background, and why."""
    share = found.cropped_share()
    return share < 0.75, f"the box that is not background holds {share:.0%} of a {found.image} (cropped below 75 %)"


def choose_foreground(found: Fingerprint, inside: str) -> Choice:
    """The share of patches that hold some of the target, and why.

    Args:
        inside: what the patches are cut from, in the plural.
    """
    shares = {name: found.frequency(name) for name in found.classes}
    rarest = min(shares, key=lambda name: shares[name])
    share = shares[rarest]
    value = 0.33 if share > 0.1 else 0.5 if share > 0.001 else 0.67
    reason = f"the rarest class, {rarest}, fills {share:.2g} of the {inside}"
    reason += " (above 0.1: 0.33; above 0.001: 0.5; else 0.67)"
    return Choice("training.foreground_probability", value, reason)


def epoch_steps(sampling: Sampling, machine: Machine, training_cases: int) -> int:
    """Training steps of an epoch, at least 20: all cases once on a CPU; on a GPU 250, or a twentieth of all steps."""
    if machine.device == "cpu":
        return samples_per_epoch(training_cases, sampling.batch_size) // sampling.batch_size
    return GPU_EPOCH if sampling.steps is None else max(20, min(GPU_EPOCH, sampling.steps // 20))


def validation_interval(sampling: Sampling, epoch: int, validation_cases: int, mirrors: int) -> tuple[int, str]:
    """Epochs of so many steps between validations, so that they cost about a tenth of the training."""
    patch, middle = sampling.network.patch_size, np.median(sampling.shapes, axis=0)
    windows = math.prod(
        math.ceil(max(size - length, 0) / max(length // 2, 1)) + 1 for size, length in zip(middle, patch, strict=True)
    )
    share = windows * 2**mirrors * validation_cases / (3 * sampling.batch_size * epoch)
    return interval_of(share, f"{windows} window{'s' * (windows > 1)} a case")


def interval_of(share: float, what: str) -> tuple[int, str]:
    """Epochs between validations that cost such a share of an epoch each, and why."""
    why = f"validating costs {share:.2g} of an epoch ({what}): a tenth of the training, or less"
    return max(1, round(10 * share)), why


def _times(numbers: Any) -> str:
    return " x ".join(str(number) for number in numbers)
