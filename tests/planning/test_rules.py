"""The rules of a plan, on fingerprints that are made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.networks import build_network
from medseg.networks.analysis.summary import count_gmac, count_parameters
from medseg.planning.config import choose_all
from medseg.planning.fingerprint import CasePrint, Fingerprint, Intensities
from medseg.planning.mirroring import choose_flips
from medseg.planning.network import topology
from medseg.planning.rules import (
    Machine,
    choose_foreground,
    choose_normalization,
    choose_sampling,
    parameters,
    validation_interval,
)

CPU = Machine("cpu", 2, 12.0, 2)
GPU = Machine("cuda", 16, 8.0, 2)


def made_up(
    shapes: Sequence[tuple[int, ...]],
    spacings: Sequence[tuple[float, ...]],
    *,
    channels: Sequence[str] = ("MRI",),
    cropped: float = 1.0,
    share: float = 0.01,
) -> Fingerprint:
    """A data set of one class that fills `share` of the voxels."""
    cases = []
    for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        box = tuple(round(n * cropped) for n in shape)
        voxels = {"organ": round(math.prod(box) * share)}
        even = (1.0,) * len(shape)
        cases.append(CasePrint(f"c{number}", "RAS", shape, spacing, box, voxels, {"organ": 1}, {"organ": even}, even))
    values = tuple(Intensities(channel, 40, 20, -900, -100.4, 45, 200.6, 3000) for channel in channels)
    return Fingerprint("made", "MR", tuple(channels), ("organ",), ("organ",), values, tuple(cases), even)


def sampled(found: Fingerprint, machine: Machine, minutes: float | None = None) -> Any:
    chosen = choose_sampling(found, machine, minutes, outputs=2)
    assert chosen is not None
    return chosen


def test_equal_spacings_are_kept_and_others_brought_to_the_median() -> None:
    assert sampled(made_up([(64, 64, 64)] * 3, [(1, 1, 1.005)] * 3), CPU).target_mm is None
    mixed = made_up([(64, 64, 64)] * 3, [(0.8, 1, 1), (1, 1, 1.2), (1.3, 1, 1)])
    assert sampled(mixed, CPU).target_mm == (1.0, 1.0, 1.0)


def test_thick_slices_keep_the_tenth_percentile_and_are_neither_halved_nor_convolved_across_at_first() -> None:
    spacings = [(0.5, 0.5, thickness) for thickness in (2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 6.0, 6.0, 6.0, 6.0)]
    chosen = sampled(made_up([(256, 256, 24)] * 10, spacings), GPU)
    assert chosen.target_mm[:2] == (0.5, 0.5)
    assert chosen.target_mm[2] == pytest.approx(np.percentile([mm for *_, mm in spacings], 10), rel=1e-3)
    assert chosen.network.strides[1] == (2, 2, 1)
    assert chosen.network.kernel_sizes[0] == (3, 3, 1)
    assert chosen.network.kernel_sizes[-1] == (3, 3, 3)


def test_a_kernel_of_three_is_never_given_up_at_a_coarser_level() -> None:
    """A slab: its short axis stays at 4 voxels of 8 mm while the others are halved on, to 32 mm."""
    found = topology((128, 160, 32), (1, 1, 1), base_width=4, widest=40)
    assert found.strides[-2:] == ((2, 2, 1), (2, 2, 1))
    assert found.kernel_sizes == ((3, 3, 3),) * 6
    thick = topology((160, 160, 16), (0.5, 0.5, 4), base_width=4, widest=40).kernel_sizes
    across = [kernel[2] for kernel in thick]
    assert across == sorted(across)
    assert set(across) == {1, 3}


def test_few_thick_slices_are_left_to_a_2d_network_on_every_slice() -> None:
    flat, deep = (sampled(made_up([(256, 256, slices)] * 10, [(1.4, 1.4, 10)] * 10), CPU).network for slices in (6, 16))
    assert flat.is_flat
    assert {stride[2] for stride in flat.strides} == {kernel[2] for kernel in flat.kernel_sizes} == {1}
    assert flat.patch_size[2] == 6
    assert max(stride[0] for stride in flat.strides) == 2
    assert not deep.is_flat
    assert not topology((64, 64, 6), (1, 1, 1), base_width=4, widest=40).is_flat, "thin slices, if few, are a volume"


@pytest.mark.parametrize(
    ("patch", "spacing"),
    [((32, 48, 32), (1, 1, 1)), ((160, 160, 16), (0.5, 0.5, 4)), ((512, 384), (1, 1)), ((64, 64, 5), (1, 1, 3))],
)
def test_estimates_of_the_network_are_those_of_the_network(patch: tuple, spacing: tuple) -> None:
    """Parameters and multiply-accumulates against the network that is built."""
    found = topology(patch, spacing, base_width=4, widest=40)
    assert all(size >= 4 for size in found.sizes()[-1]) or 5 in patch
    options = {"widths": found.widths, "strides": found.strides, "kernel_sizes": found.kernel_sizes}
    network = build_network("unet", spatial_dims=len(patch), in_channels=2, out_channels=3, **options)
    assert parameters(found, 2, 3) == pytest.approx(count_parameters(network), rel=0.1)
    assert found.gmac(2) == pytest.approx(count_gmac(network, torch.zeros(1, 2, *patch)), rel=0.1)


def test_a_patch_lies_inside_most_volumes_and_divides_evenly() -> None:
    shapes = [(31 + n, 44 + n, 30 + n) for n in range(12)]
    chosen = sampled(made_up(shapes, [(1, 1, 1)] * 12), CPU)
    assert chosen.network.patch_size == (32, 40, 32)
    assert all(size % step == 0 for size, step in zip(chosen.network.patch_size, chosen.network.steps, strict=True))


def test_memory_and_time_make_the_patch_smaller() -> None:
    large = made_up([(400, 400, 300)] * 20, [(1, 1, 1)] * 20)
    roomy, tight = (sampled(large, Machine("cuda", 8, gib, 2)) for gib in (40.0, 6.0))
    assert math.prod(tight.network.patch_size) < math.prod(roomy.network.patch_size)
    assert tight.memory_gib <= 6.0
    long, short = (sampled(large, CPU, minutes) for minutes in (100000.0, 30.0))
    assert math.prod(short.network.patch_size) < math.prod(long.network.patch_size)
    assert min(short.network.patch_size) >= 64
    assert choose_sampling(large, Machine("cuda", 8, 0.9, 2), None, 2) is None


def test_a_small_patch_is_never_made_smaller_for_time() -> None:
    small = made_up([(40, 50, 40)] * 20, [(1, 1, 1)] * 20)
    assert sampled(small, CPU, 0.5).network.patch_size == sampled(small, CPU, 500.0).network.patch_size


def test_normalisation_follows_the_modality() -> None:
    ct = choose_normalization(made_up([(9, 9, 9)], [(1, 1, 1)], channels=["CT"]), crop=False)
    assert [(choice.key, choice.value) for choice in ct] == [
        ("preprocessing.normalization", "ct"),
        ("preprocessing.window_hu", [-100.0, 201.0]),
        ("preprocessing.ct_mean_std", [40.0, 20.0]),
    ]
    mr = made_up([(9, 9, 9)], [(1, 1, 1)], channels=["T1", "T2"])
    assert choose_normalization(mr, crop=True)[0].value == "zscore_nonzero"
    assert choose_normalization(mr, crop=False)[0].value == "zscore"
    both = made_up([(9, 9, 9)], [(1, 1, 1)], channels=["CT", "PET"])
    assert choose_normalization(both, crop=False)[0].value == ["ct", "zscore"]
    assert choose_normalization(both, crop=True)[0].value == ["ct", "zscore_nonzero"]
    assert choose_normalization(both, crop=True)[1].value == [-100.0, 201.0]


def test_much_background_is_cropped() -> None:
    chosen = sampled(made_up([(100, 100, 100)] * 4, [(1, 1, 1)] * 4, cropped=0.6), CPU)
    assert chosen.crop
    assert max(chosen.network.patch_size) <= 60


def test_rare_classes_are_looked_for_more() -> None:
    shares = (0.3, 0.01, 0.0001)
    found = [choose_foreground(made_up([(50, 50, 50)], [(1, 1, 1)], share=s), "volumes") for s in shares]
    values = [choice.value for choice in found]
    assert values == [0.33, 0.5, 0.67]


def test_validation_costs_a_tenth_of_training() -> None:
    chosen = sampled(made_up([(40, 50, 40)] * 100, [(1, 1, 1)] * 100), CPU)
    cheap, _ = validation_interval(chosen, 250, 10, mirrors=0)
    dear, _ = validation_interval(chosen, 20, 20, mirrors=0)
    mirrored, _ = validation_interval(chosen, 20, 20, mirrors=3)
    assert cheap == 1 < dear < mirrored


def test_few_cases_say_nothing_of_an_order() -> None:
    assert choose_flips(made_up([(9, 9, 9)] * 3, [(1, 1, 1)] * 3)) == (
        [0, 1, 2],
        "3 cases are too few to see whether classes keep an order along an axis",
    )


def test_pictures_are_not_mirrored_upside_down() -> None:
    ultrasound = replace(made_up([(90, 120)] * 12, [(1, 1)] * 12), mirror_likeness=(-0.07, 0.99))
    assert choose_flips(ultrasound) == (
        [1],
        "up-down the mean picture is unlike its mirror image: not mirrored",
    )
    assert choose_flips(replace(ultrasound, cases=ultrasound.cases[:4]))[0] == [0, 1], "too few to know"
    volumes = replace(made_up([(9, 9, 9)] * 12, [(1, 1, 1)] * 12), mirror_likeness=(0.4, 0.4, 0.4))
    assert choose_flips(volumes)[0] == [0, 1, 2], "of volumes the order of the classes decides"


def test_a_gpu_has_long_epochs_and_a_compiled_network_where_it_pays() -> None:
    found = made_up([(36, 50, 35)] * 20, [(1.0, 1.0, 1.0)] * 20)
    compiling = replace(GPU, compiles=True)

    def chosen(machine: Machine, minutes: float | None) -> dict[str, Any]:
        choices = choose_all(found, machine, sampled(found, machine, minutes), minutes, None, None, Path("data"))
        return {choice.key: choice.value for choice in choices}

    assert chosen(compiling, None)["training.iterations_per_epoch"] == 250
    assert chosen(compiling, None)["training.compile"]
    short = chosen(compiling, 1)
    assert "training.compile" not in short
    steps = sampled(found, GPU, 1).steps
    assert 20 <= short["training.iterations_per_epoch"] <= max(20, steps / 20)
    assert "training.compile" not in chosen(GPU, None)
    large = made_up([(150, 200, 150)] * 400, [(1.0, 1.0, 1.0)] * 400, channels=("FLAIR", "T1"))
    roomy = replace(GPU, memory_gib=60.0)
    assert sampled(large, roomy, 5).steps >= 1000, "neither the patch nor the batch takes more than the minutes hold"
    assert sampled(large, roomy, 5).batch_size < sampled(large, roomy).batch_size
    assert not {"training.iterations_per_epoch", "training.compile"} & set(chosen(CPU, 10))
    assert chosen(GPU, 10)["training.optimizer.learning_rate"] < chosen(CPU, 10)["training.optimizer.learning_rate"]
