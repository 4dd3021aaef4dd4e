"""What a plan says of its values is true of them, for every kind of network, on a CPU and on a GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.bundle.facts import describe_data
from medseg.config.schema import Config
from medseg.data.cases.dataset import read_dataset
from medseg.planning.candidates import PICTURES, PLAIN, SLICES, VOLUMES, shortlist
from medseg.planning.config import choose_all
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.planes import choose_planes, plane_interval
from medseg.planning.rules import Choice, Machine
from medseg.planning.write import config_text
from medseg.workflows.plan import plan, summary
from tests.planning.test_rules import CPU, GPU, made_up

GREY = replace(
    made_up([(470, 560)] * 12 + [(300, 360)] * 12, [(1.0, 1.0)] * 24, channels=("0",)),
    mirror_likeness=(-0.07, 0.99),
    modality="image",
)
THICK = replace(
    made_up([(256, 256, 24)] * 12, [(0.9, 0.9, 5.0)] * 12, channels=("FLAIR",)), mirror_likeness=(1.0, 0.8, 0.9)
)
KINDS = [(GREY, PICTURES), (GREY, PLAIN), (THICK, SLICES), (THICK, VOLUMES)]
MINUTES = [None, 2.0, 60.0]


def planned(found: Fingerprint, kind: str, machine: Machine, minutes: float | None) -> dict[str, Choice]:
    (made,) = shortlist(found, machine, minutes, 2, weights=None, only=[kind]).kinds
    sampling = made.make(1.0, 1.0)
    assert sampling is not None
    return {one.key: one for one in choose_all(found, machine, sampling, minutes, None, None, Path("data"))}


@pytest.mark.parametrize("minutes", MINUTES)
@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize(("found", "kind"), KINDS, ids=[kind for _, kind in KINDS])
class TestEveryPlan:
    def test_pictures_are_called_pictures(
        self, found: Fingerprint, kind: str, machine: Machine, minutes: float | None
    ) -> None:
        chosen = planned(found, kind, machine, minutes)
        text = config_text(found, machine, list(chosen.values()), "plan", minutes, Path("plan.yaml"))
        said = "\n".join(line.partition("#")[2] for line in text.splitlines())
        if found is GREY:
            unfit = re.findall(r"voxel|volume|slice|spacing|scanner|\d mm\b", said)
            assert not [word for word in unfit if word != "1 mm"]
            assert "24 labelled cases: grey pictures" in said
            assert "inside the classes: -100 to 201" in said, "a channel without a name is not called by its number"
        else:
            assert "picture" not in said
            assert "12 labelled cases of FLAIR" in said

    def test_mirrored_axes_are_named_as_they_are(
        self, found: Fingerprint, kind: str, machine: Machine, minutes: float | None
    ) -> None:
        chosen = planned(found, kind, machine, minutes)
        flips, mirrors = chosen["augmentation.flip_axes"], chosen["inference.mirror_axes"]
        if found is GREY:
            assert flips.value == [1]
            assert "up-down" in flips.reason
        if kind == PICTURES:
            assert (mirrors.value, mirrors.reason) == ([1], "its left-right mirror image costs as much again")
        if kind == SLICES:
            assert flips.value == [0]
            assert "but not front-back" in flips.reason
            assert (mirrors.value, mirrors.reason) == ([0], "its left-right mirror image costs as much again")


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize(("found", "kind"), [(GREY, PICTURES), (THICK, SLICES)], ids=[PICTURES, SLICES])
def test_what_is_never_mirrored_is_said_to_be_so(found: Fingerprint, kind: str, machine: Machine) -> None:
    unlike = replace(found, mirror_likeness=(0.1,) * found.spatial_dims)
    mirrors = planned(unlike, kind, machine, 30.0)["inference.mirror_axes"]
    assert (mirrors.value, mirrors.reason) == ([], "training mirrors no axis")


def test_neighbours_are_the_colours_of_one_channel_only() -> None:
    one, two = (replace(THICK, channels=names) for names in (("FLAIR",), ("FLAIR", "T1")))
    assert "red, green and blue" in planned(one, SLICES, CPU, 30.0)["data.context"].reason
    assert planned(two, SLICES, CPU, 30.0)["data.context"].reason.endswith("of every channel")


def test_a_coarser_grid_promises_no_steps_that_there_are_not() -> None:
    for minutes in (0.1, 2.0):
        reason = planned(GREY, PICTURES, CPU, minutes)["preprocessing.longest_side"].reason
        assert "coarser, for more steps" in reason
        assert "1000 are wanted" in reason


def test_validation_of_slices_costs_what_is_said() -> None:
    """Every slice of a held-out case is seen, and one of each training case in an epoch."""
    sampling = choose_planes(THICK, GPU, None, slices_along=2)
    assert sampling is not None
    interval, why = plane_interval(THICK, sampling, 2, 1)
    share = 2 * 24 * 2 / 3 / (20 * sampling.batch_size)
    assert f"{share:.2g} of an epoch (24 slices a case)" in why
    assert interval == max(1, round(10 * share))


@pytest.fixture
def ultrasound(tmp_path: Path) -> Path:
    """Grey pictures and their masks in folders, of which nothing is said."""
    random, root = np.random.default_rng(0), tmp_path / "ultrasound"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((40, 48), np.uint8)
        mask[10:20, 10 + number : 25] = 255
        image = (60 + mask // 3 + random.integers(0, 30, mask.shape)).astype(np.uint8)
        Pillow.fromarray(image).save(root / "images" / f"case_{number}.png")
        Pillow.fromarray(mask).save(root / "masks" / f"case_{number}.png")
    return root


def test_grey_pictures_have_no_modality(ultrasound: Path, tmp_path: Path) -> None:
    made = plan(ultrasound, output=tmp_path / "plan.yaml", minutes=0.05, memory_gib=2.0)
    assert made.fingerprint.modality == "image"
    assert "data      ultrasound: 4 labelled cases: grey pictures\n" in summary(made)
    assert "MR" not in summary(made) + (tmp_path / "plan.yaml").read_text()


@pytest.mark.parametrize(("channels", "modality"), [(("T1w",), "MR"), (("CT", "PT"), "CT")])
def test_volumes_keep_theirs(
    tiny_msd: Callable[..., Path], channels: tuple[str, ...], modality: str, tmp_path: Path
) -> None:
    root = tiny_msd(cases=2, channels=channels)
    data: dict[str, Any] = {"root": str(root)}
    assert describe_data(Config.model_validate({"name": "x", "data": data}), read_dataset(root)).modality == modality
