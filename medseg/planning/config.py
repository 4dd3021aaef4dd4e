"""Every key of a planned config, in the order in which it is written, with the reasons of `rules`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.splits.folds import Folds
from medseg.planning.finder import finder_choices, in_regions
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.mirroring import choose_flips
from medseg.planning.network import COARSEST
from medseg.planning.planes import (
    CONTEXT,
    PlaneSampling,
    picture_augmentation,
    plane_flips,
    plane_interval,
    plane_loss,
    plane_network,
    plane_normalization,
    plane_orientation,
    plane_spacing,
)
from medseg.planning.rules import (
    FEW_CASES,
    GPU_EPOCH,
    VALIDATION,
    Choice,
    Machine,
    Sampling,
    choose_foreground,
    choose_normalization,
    choose_orientation,
    epoch_steps,
    validation_interval,
)

COMPILED_MINUTES = 5  # in shorter trainings too much would be lost with translating the network
# Adam's steps add up over the channels, of which a GPU's network has twice as many (Yang et al., arXiv 2203.03466).
ADAM_RATES = {"cpu": (4e-3, ""), "cuda": (2e-3, "half of a CPU's, for twice the channels")}
PATIENTS = (r"^sub-[A-Za-z0-9]+", r"(?i)(?:pat|patient)[-_]?[0-9]+")  # BIDS, and what many others write

# What trained the hippocampus best of what was tried (docs/benchmarks.md); the defaults are about half as strong.
STRONG = {
    "rotation_degrees": 20.0,
    "rotation_probability": 0.8,
    "scale_probability": 0.8,
    "bend_probability": 0.8,
    "bend_voxels": 1.5,
    "brightness_probability": 0.3,
    "contrast_probability": 0.3,
    "gamma_probability": 0.5,
    "noise_probability": 0.3,
    "blur_probability": 0.2,
    "low_resolution_probability": 0.2,
}

PLANE_AUGMENTATION = {
    **STRONG,
    "rotation_degrees": 25.0,
    "scale": [0.75, 1.35],
    "bend_probability": 0.3,
    "bend_voxels": 4.0,
    "brightness_probability": 0.5,
    "contrast": [0.65, 1.5],
    "contrast_probability": 0.5,
    "gamma_probability": 0.5,
}
SLICES_WITH_TARGET = 0.6

EVERY_EPOCH = (1, "at most: validation takes a twentieth of the minutes, on some of the held-out cases")
KEEP_ALL = Choice(
    "inference.keep_largest_component",
    [],
    "`medseg postprocess` tries it on held-out masks; a target named here gets it anyway",
)
NO_FLIP = "training mirrors no axis"
BATCH_OF_ONE = Choice("inference.window_batch", 1)


def patient_pattern(cases: Sequence[str]) -> str | None:
    """A known pattern that finds a patient in every case's name, and several cases of some patient."""
    for pattern in PATIENTS:
        found = [re.search(pattern, case) for case in cases]
        people = {match[0] for match in found if match}
        if all(found) and len(people) < len(cases):
            return pattern
    return None


def choose_all(
    found: Fingerprint,
    machine: Machine,
    sampling: Sampling | PlaneSampling,
    minutes: float | None,
    folds: Folds | None,
    pattern: str | None,
    root: Path,
) -> list[Choice]:
    """The whole config as choices, `section.key` each."""
    data = _data(found, folds, pattern, root)
    if isinstance(sampling, PlaneSampling):
        return [*data, *_plane_recipe(found, machine, sampling, minutes)]
    return [*data, *_unet_recipe(found, machine, sampling, minutes)]


def _unet_recipe(found: Fingerprint, machine: Machine, sampling: Sampling, minutes: float | None) -> list[Choice]:
    """A U-Net from random weights on patches."""
    held_out = held_out_cases(found)
    flips, why_flips = choose_flips(found)
    mirrors = [] if machine.device == "cpu" else flips
    epoch = epoch_steps(sampling, machine, len(found.cases) - held_out)
    interval = EVERY_EPOCH if minutes is not None else validation_interval(sampling, epoch, held_out, len(mirrors))
    return [
        choose_orientation(found),
        Choice("preprocessing.spacing_mm", _listed(sampling.target_mm), sampling.reasons["spacing"]),
        Choice("preprocessing.crop_to_foreground", sampling.crop, sampling.reasons["crop"]),
        *choose_normalization(found, sampling.crop),
        *finder_choices(sampling),
        *_network(found, machine, sampling),
        *_augmentation(found, flips, why_flips),
        *_training(found, machine, sampling, minutes, epoch, interval),
        Choice("inference.overlap", 0.5, "half a window, weighted by a Gaussian"),
        Choice("inference.window_batch", sampling.batch_size, "as many windows at once as a training step has patches"),
        Choice("inference.mirror_axes", mirrors, _why_mirrored(machine, flips)),
        KEEP_ALL,
        _tolerance(found, sampling.spacing_mm),
    ]


def _plane_recipe(found: Fingerprint, machine: Machine, sampling: PlaneSampling, minutes: float | None) -> list[Choice]:
    """A U-Net on a pretrained encoder, on whole pictures or slices."""
    flips, why_flips = plane_flips(found, *choose_flips(found), sampling)
    twice = f"its {found.directions([sampling.plane[flips[0]]])} mirror image costs as much again" if flips else NO_FLIP
    of_slices = sampling.slices_along is not None
    grid = [Choice("preprocessing.longest_side", sampling.longest_side, sampling.reasons["grid"])]
    if of_slices:
        grid = [Choice("preprocessing.spacing_mm", plane_spacing(sampling), sampling.reasons["grid"])]
        grid.append(Choice("preprocessing.crop_to_foreground", sampling.crop, sampling.reasons["crop"]))
    neighbours = "a slice and its two neighbours"
    neighbours += ", as red, green and blue" if len(found.channels) == 1 else ", of every channel"
    return [
        *([Choice("data.context", CONTEXT, neighbours)] * of_slices),
        plane_orientation(found, sampling) if of_slices else choose_orientation(found),
        *grid,
        *plane_normalization(found, sampling),
        *plane_network(sampling),
        *plane_loss(sampling),
        *_values("augmentation", PLANE_AUGMENTATION, f"strong: {found.image}s differ in brightness and shape"),
        *([] if of_slices else picture_augmentation(sampling)),
        Choice("augmentation.flip_axes", flips, why_flips),
        *_budget(machine, sampling.steps, minutes),
        *_plane_training(found, machine, sampling, len(flips[:1])),
        Choice("inference.whole_image", True, "as training saw them"),
        Choice("inference.window_batch", sampling.batch_size, "slices at once") if of_slices else BATCH_OF_ONE,
        Choice("inference.mirror_axes", flips[:1], twice),
        KEEP_ALL,
        _tolerance(found, np.median(found.spacings_mm(), axis=0).tolist()),
    ]


def _data(found: Fingerprint, folds: Folds | None, pattern: str | None, root: Path) -> list[Choice]:
    notes = "; ".join(folds.notes) if folds else ""
    count = len(folds.folds) if folds else 2
    why = f"for `medseg train --fold all`; {notes}" if notes else "for `medseg train --fold all`"
    if folds and not notes:
        why += "; every class stands in every training fold"
    who = "every case is taken for another patient; otherwise a pattern of names, or patient_table"
    if folds is not None and folds.patients:
        who = f"{len(set(folds.patients.values()))} patients, none of whom is divided"
    share = VALIDATION if len(found.cases) > 1 else 0.0
    held = "never trained on, when no fold is asked for" if share else "there is only one case"
    return [
        Choice("data.root", str(root), found.of_what),
        Choice("data.validation", share, held),
        Choice("data.folds", count, why),
        Choice("data.patient_pattern", pattern, who),
    ]


def _network(found: Fingerprint, machine: Machine, sampling: Sampling) -> list[Choice]:
    network = sampling.network
    dims = found.spatial_dims
    why_dims = "the images are volumes" if dims == 3 else "the images are pictures"
    if dims == 3 and network.is_flat:
        why_dims += ", of so few thick slices that no kernel reaches across them, as in a 2D network"
    elif dims == 3 and sampling.anisotropic:
        why_dims += ", of thick slices: strides and kernels spare that axis at first"
    kernels = "1 across slices that lie far apart, else 3" if dims == 3 else ""
    base = "16 on a CPU, a quarter of the work of 32" if machine.device == "cpu" else "32 on a GPU, as nnU-Net"
    sizes = " > ".join("x".join(map(str, size)) for size in network.sizes())
    points = f"{found.point}s"
    return [
        Choice("network.name", "unet"),
        Choice("network.spatial_dims", dims, why_dims),
        Choice("network.widths", list(network.widths), f"{base}; doubled while {COARSEST} {points} remain: {sizes}"),
        Choice("network.strides", _compact(network.strides), f"an axis is halved when its {points} are not too long"),
        Choice("network.kernel_sizes", _compact(network.kernel_sizes), kernels),
        Choice("network.deep_supervision", len(network.widths) > 2, "coarse maps learn faster when scored as well"),
    ]


def _augmentation(found: Fingerprint, flips: list[int], why_flips: str) -> list[Choice]:
    strong = len(found.cases) < FEW_CASES
    why = f"strong: {len(found.cases)} cases are soon learnt by heart (below {FEW_CASES})"
    values = STRONG if strong else {}
    return [*_values("augmentation", values, why), Choice("augmentation.flip_axes", flips, why_flips)]


def _budget(machine: Machine, steps: int | None, minutes: float | None) -> list[Choice]:
    cpu = machine.device == "cpu"
    if minutes is not None:
        why = f"about {steps} steps and their validation, by measured steps"
        budget = [Choice("training.max_minutes", minutes, why)]
    else:
        budget = [Choice("training.max_epochs", 100 if cpu else 300, "no time budget was given (--minutes)")]
    if machine.compiles and (minutes is None or minutes >= COMPILED_MINUTES):
        why = "the first step takes half a minute, the others two fifths to three quarters of their time (on an H100)"
        budget.append(Choice("training.compile", True, why))
    return budget


def _plane_training(found: Fingerprint, machine: Machine, sampling: PlaneSampling, mirrors: int) -> list[Choice]:
    interval = EVERY_EPOCH
    if sampling.steps is None:
        interval = plane_interval(found, sampling, held_out_cases(found), mirrors)
    share = Choice("training.foreground_probability", SLICES_WITH_TARGET, "slices with a target are the fewest")
    return [
        Choice("training.validation_interval", *interval),
        Choice("training.batch_size", sampling.batch_size, sampling.reasons["batch"] + "; {measured} GiB measured"),
        Choice("training.patch_size", list(sampling.patch_size), sampling.reasons["patch"]),
        *([share] if sampling.slices_along is not None else []),
        Choice("training.weight_average", 0.99, "steadier weights after few steps"),
        _workers(machine),
        Choice("training.gradient_clip", 1.0),
        Choice("training.optimizer.name", "adamw", "few steps: it learns faster than SGD"),
        Choice("training.optimizer.learning_rate", 1e-3),
        Choice("training.optimizer.encoder_factor", 0.5, "the encoder has learnt much already"),
    ]


def _training(
    found: Fingerprint,
    machine: Machine,
    sampling: Sampling,
    minutes: float | None,
    epoch: int,
    interval: tuple[int, str],
) -> list[Choice]:
    cpu = machine.device == "cpu"
    short = minutes is not None or cpu
    budget = _budget(machine, sampling.steps, minutes)
    if not cpu:
        why = "as nnU-Net" if epoch == GPU_EPOCH else "a twentieth of the training, at least 20"
        budget.insert(1, Choice("training.iterations_per_epoch", epoch, why))
    if short:
        optimizer: list[tuple[str, Any, str]] = [
            ("name", "adamw", "few steps: it learns faster than SGD"),
            ("learning_rate", *ADAM_RATES[machine.device]),
        ]
    else:
        optimizer = [
            ("name", "sgd", "as nnU-Net, for a long training"),
            ("learning_rate", 1e-2, ""),
            ("weight_decay", 3e-5, ""),
        ]
    foreground = choose_foreground(found, f"{found.image}s")
    if sampling.finder is not None:
        foreground = choose_foreground(in_regions(found), "regions of the targets")
    average = 0.995 if sampling.steps is None or sampling.steps < 20_000 else 0.999
    return [
        *budget,
        Choice("training.validation_interval", *interval),
        Choice("training.batch_size", sampling.batch_size, sampling.reasons["batch"] + "; {measured} GiB measured"),
        Choice("training.patch_size", list(sampling.network.patch_size), sampling.reasons["patch"]),
        foreground,
        Choice(
            "training.weight_average", average if short else 0.0, "steadier weights after few steps" if short else ""
        ),
        _workers(machine),
        *(Choice(f"training.optimizer.{key}", value, why) for key, value, why in optimizer),
    ]


def held_out_cases(found: Fingerprint) -> int:
    """How many are not trained on where no fold is asked for."""
    return max(1, round(len(found.cases) * VALIDATION)) if len(found.cases) > 1 else 0


def _workers(machine: Machine) -> Choice:
    return Choice(
        "training.workers", 0 if machine.device == "cpu" else min(8, machine.cores), "processes that cut patches"
    )


def _values(section: str, values: Mapping[str, Any], why: str) -> list[Choice]:
    """The reason stands beside the first of them."""
    return [Choice(f"{section}.{key}", value, why if not n else "") for n, (key, value) in enumerate(values.items())]


def _tolerance(found: Fingerprint, spacing_mm: Sequence[float]) -> Choice:
    why = f"about the longest side of a {found.point}" if found.has_spacing else "a pixel, as if it were 1 mm long"
    return Choice("evaluation.tolerance_mm", float(f"{max(spacing_mm):.2g}"), why)


def _why_mirrored(machine: Machine, flips: Sequence[int]) -> str:
    """Of prediction by a U-Net from random weights."""
    if not flips:
        return NO_FLIP
    if machine.device != "cpu":
        return "as in training"
    return "not on a CPU: every axis doubles the time; may be set to flip_axes at any time, without training again"


def _listed(values: Sequence[float | None] | None) -> list[float | None] | None:
    return None if values is None else list(values)


def _compact(entries: Sequence[Sequence[int]]) -> list[Any]:
    """One number for a level that is alike along all axes."""
    return [int(entry[0]) if len(set(entry)) == 1 else list(map(int, entry)) for entry in entries]
