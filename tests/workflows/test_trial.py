"""The trial of a plan, really trained: on drawn volumes where slices alone tell, and where only volumes do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.data.splits.folds import Folds
from medseg.engine import budget
from medseg.networks.weights import is_installed
from medseg.planning import step
from medseg.planning.candidates import SLICES, VOLUMES
from medseg.planning.planes import ENCODER
from medseg.workflows import try_out
from medseg.workflows.plan import plan
from medseg.workflows.try_out import no_trial
from tests.conftest import write_drawn

SHAPE = (64, 32, 12)  # voxels: the least that the encoder takes
CLEAR = 0.1  # of Dice: more than chance
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def independent_slices(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Discs with waves, in every slice others; those with waves along the first axis are the target, and those with
    waves along the second are not. So a slice says all of itself, and nothing of its neighbours."""
    image, label = random.normal(0, 0.15, SHAPE), np.zeros(SHAPE, bool)
    grid = np.indices(SHAPE[:2])
    for number in range(SHAPE[2]):
        for disc in _discs(random, count=3, radius=6.5):
            axis = int(random.integers(2))
            waves = np.sin(2 * np.pi * (grid[axis] / 6 + random.random()))
            image[..., number][disc] += 1 + waves[disc]
            label[..., number] |= disc & (axis == 0)
    return image, label


def rods(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two rods of four slices, the target, among three that go all the way: discs that look alike in every slice, and
    in three neighbouring ones too, but where a rod ends."""
    image, label = random.normal(0, 0.15, SHAPE), np.zeros(SHAPE, bool)
    for number, disc in enumerate(_discs(random, count=5, radius=4.5)):
        rod = np.zeros(SHAPE, bool)
        first = int(random.integers(SHAPE[2] - 3))
        rod[disc, first : first + 4] = True
        if number < 2:
            label |= rod
        else:
            rod[disc] = True
        image[rod] += 1
    return image, label


def _discs(random: np.random.Generator, count: int, radius: float) -> list[np.ndarray]:
    """Masks (*plane) of discs that lie apart."""
    centres: list[np.ndarray] = []
    while len(centres) < count:
        centre = random.uniform(radius + 1, np.array(SHAPE[:2]) - radius - 1)
        if all(np.hypot(*(centre - other)) > 2 * radius + 2 for other in centres):
            centres.append(centre)
    x, y = np.indices(SHAPE[:2])
    return [np.hypot(x - centre[0], y - centre[1]) < radius for centre in centres]


def write(root: Path, draw: Draw, spacing_mm: Sequence[float], cases: int = 10) -> Path:
    """A data set of drawn volumes, in the layout of the Decathlon."""
    drawn = (draw(np.random.default_rng([7, number])) for number in range(cases))
    stored = (((300 + 100 * image).astype(np.int16), label.astype(np.uint8)) for image, label in drawn)
    affine = np.diag([*spacing_mm, 1.0])
    return write_drawn(root, stored, affine, labels=("background", "target"), channels=("MRI",), files="drawn")


def fitted(seconds: float) -> Any:
    """A proposal of which only a step counts."""
    return SimpleNamespace(step=SimpleNamespace(seconds=seconds), config=SimpleNamespace(finder=None))


def test_a_trial_is_two_hundred_steps_of_each_within_a_sixth_of_the_minutes() -> None:
    folds = Folds((), seed=0)
    assert not no_trial([fitted(0.2), fitted(0.45)], folds, 20.0)
    assert "3.3 of 20 minutes, more than 15%" in no_trial([fitted(0.2), fitted(0.5)], folds, 20.0)
    assert "--minutes" in no_trial([fitted(0.2), fitted(0.2)], folds, None)
    assert "one patient" in no_trial([fitted(0.2), fitted(0.2)], None, 20.0)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(ENCODER), reason="needs the extra [pretrained]")
@pytest.mark.parametrize(
    ("draw", "spacing_mm", "minutes", "given", "winner"),
    [
        # Headers that say of independent slices that they lie close: a volume's network convolves across them first.
        pytest.param(independent_slices, (2.0, 2.0, 0.5), 2.0, [], SLICES, id="slices"),
        # Thick slices, of which the rules would take a network on slices.
        pytest.param(rods, (1.0, 1.0, 2.5), 10.0, ["training.max_iterations=50"], VOLUMES, id="volumes"),
    ],
)
def test_the_trial_finds_the_kind_that_can_tell_the_target(
    draw: Draw,
    spacing_mm: Sequence[float],
    minutes: float,
    given: list[str],
    winner: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seconds are those of the processor, so that what else runs on the machine changes nothing; some dozen steps are
    enough for drawings."""
    clock = SimpleNamespace(perf_counter=time.process_time)
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(step, "time", clock)
    monkeypatch.setattr(try_out, "TRIAL_STEPS", 10)
    root = write(tmp_path / "drawn", draw, spacing_mm)
    made = plan(root, output=tmp_path / "plan.yaml", minutes=minutes, overrides=given, progress=False)
    content = json.loads((tmp_path / "plan.json").read_text())
    dice = {name: trial["dice"] for name, trial in content["trials"].items()}
    loser = SLICES if winner == VOLUMES else VOLUMES
    assert dice[winner] > dice[loser] + CLEAR, dice
    assert content["chosen"] == made.proposal.kind.name == winner
    assert made.config.network.spatial_dims == (2 if winner == SLICES else 3)
    text = (tmp_path / "plan.yaml").read_text()
    assert f"the best in a trial: Dice {dice[winner]:.3f} (the others: {loser} {dice[loser]:.3f})" in text

    content["trials"] = {winner: content["trials"][loser], loser: content["trials"][winner]}
    (tmp_path / "swapped.json").write_text(json.dumps(content))
    swapped = plan(again=tmp_path / "swapped.json", output=tmp_path / "again.yaml", progress=False)
    assert swapped.proposal.kind.name == loser, "swapping the scores swaps the choice"
