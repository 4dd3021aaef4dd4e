"""Which steps on finished masks help: the rule by which `medseg postprocess` keeps one or leaves it. Pure functions.

Greedy, on all cases: of the steps that pass the rule (`judge`) the one with the largest gain is kept, the others are
tried again on top of it, until none passes. Then the same choice is made without each fold and scored on that fold;
a target that does not gain there as well keeps no step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.config.postprocess import PostprocessConfig, Step, with_step

MINIMAL_GAIN = 0.0005  # of the mean Dice: half of the last digit that results are compared by
COLUMNS = ("true_positives", "false_positives", "false_negatives", "lesions", "found", "invented")
RULE = (
    f"kept if the target's mean Dice over the cases gains at least {MINIMAL_GAIN}, in at least as many cases as it "
    "loses, also without any one case, and no other target's mean falls; and if it gains too where the steps are "
    "chosen without the fold that is scored"
)

Attempt = Callable[[Sequence[PostprocessConfig]], np.ndarray]


@dataclass
class Trials:
    """What sets of steps give, each tried once: whole numbers (cases, targets, 6), see `COLUMNS`.

    Args:
        attempt: sets -> (sets, cases, targets, 6).
        targets: their names.
        folds: the fold of every case.
    """

    attempt: Attempt
    targets: Sequence[str]
    folds: np.ndarray
    results: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, sets: Sequence[PostprocessConfig]) -> list[np.ndarray]:
        keys = [str(one.cleaning) for one in sets]
        new = {key: one for key, one in zip(keys, sets, strict=True) if key not in self.results}
        if new:
            self.results |= dict(zip(new, self.attempt(list(new.values())), strict=True))
        return [self.results[key] for key in keys]


@dataclass(frozen=True)
class Tried:
    """One step on top of those kept before, and what became of it."""

    step: Step
    before: float
    after: float
    better: int
    worse: int
    kept: bool
    why: str
    on_top_of: tuple[str, ...] = ()
    invented: tuple[int, int] = (0, 0)
    found: tuple[int, int] = (0, 0)

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Choice:
    """What is kept, everything that was tried, and what the choice gives in cases that it was made without."""

    steps: PostprocessConfig
    tried: tuple[Tried, ...]
    held_out: np.ndarray
    dropped: dict[str, float]


def dice_of(results: np.ndarray) -> np.ndarray:
    """(..., 6) -> Dice per case and target; NaN where a target is neither in the truth nor in the mask."""
    found, invented, missed = (results[..., column].astype(float) for column in range(3))
    size = 2 * found + invented + missed
    return np.divide(2 * found, size, out=np.full(size.shape, np.nan), where=size > 0)


def mean_dice(results: np.ndarray) -> np.ndarray:
    """Mean over the cases that count, by the project's convention (`metrics/score.py`): (targets,), NaN if none."""
    dice = dice_of(results)
    count = (~np.isnan(dice)).sum(0)
    return np.divide(np.nansum(dice, 0), count, out=np.full(count.shape, np.nan), where=count > 0)


def judge(step: Step, before: np.ndarray, after: np.ndarray, targets: Sequence[str]) -> Tried:
    """Whether a step helps its target, see `RULE`.

    Args:
        before, after: (cases, targets, 6) without and with the step.
    """
    column = list(targets).index(step.target)
    one, other = dice_of(before)[:, column], dice_of(after)[:, column]
    # An invented target that goes away has no Dice any more: that is better, and its case counts no longer.
    better = int(((other > one) | (~np.isnan(one) & np.isnan(other))).sum())
    worse = int(((other < one) | (np.isnan(one) & ~np.isnan(other))).sum())
    means, new = mean_dice(before), mean_dice(after)
    gain = new[column] - means[column]
    fallen = [name for name, change in zip(targets, new - means, strict=True) if change < 0 and name != step.target]
    kept, why = False, ""
    if np.array_equal(before, after):
        why = "changes nothing"
    elif not gain >= MINIMAL_GAIN:
        why = "the mean falls" if gain < 0 else f"gains less than {MINIMAL_GAIN}"
    elif worse > better:
        why = "worse in more cases than better"
    elif not _without_any_case(one, other):
        why = "one case alone makes the gain"
    elif fallen:
        why = f"the mean of {', '.join(fallen)} falls"
    else:
        kept, why = True, "helps"
    sums = before[:, column].sum(0), after[:, column].sum(0)
    lesions = {name: tuple(int(s[COLUMNS.index(name)]) for s in sums) for name in ("invented", "found")}
    return Tried(step, float(means[column]), float(new[column]), better, worse, kept, why, **lesions)  # type: ignore[arg-type]


def _without_any_case(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the mean still gains when any one case is left out."""
    rest = []
    for values in (one, other):
        counted = ~np.isnan(values)
        number = counted.sum() - counted
        rest.append(
            np.divide(
                np.nansum(values) - np.nan_to_num(values), number, out=np.full(len(values), np.nan), where=number > 0
            )
        )
    return bool((rest[1] - rest[0] > 0).all())


def choose(trials: Trials, candidates: Sequence[Step], base: PostprocessConfig) -> Choice:
    """The steps that help on top of `base`.

    Raises:
        ValueError: there is no fold to leave out.
    """
    numbers = sorted(set(trials.folds.tolist()))
    if len(numbers) < 2:
        raise ValueError("the choice is checked on folds that it was made without: there must be two or more")
    (before,) = trials.of([base])
    dropped: dict[str, float] = {}
    while True:
        open_steps = [step for step in candidates if step.target not in dropped]
        steps, tried = _greedy(trials, open_steps, base, np.ones(len(trials.folds), dtype=bool))
        held_out = np.empty_like(before)
        for number in numbers:
            without, _ = _greedy(trials, open_steps, base, trials.folds != number)
            rows = trials.folds == number
            held_out[rows] = trials.of([without])[0][rows]
        gains = dict(zip(trials.targets, mean_dice(held_out) - mean_dice(before), strict=True))
        kept = {one.step.target for one in tried if one.kept}
        lost = {target: float(gains[target]) for target in sorted(kept) if not gains[target] > 0}
        if not lost:
            return Choice(steps, tuple(tried), held_out, dropped)
        dropped |= lost


def _greedy(
    trials: Trials, candidates: Sequence[Step], base: PostprocessConfig, rows: np.ndarray
) -> tuple[PostprocessConfig, list[Tried]]:
    steps, tried = base, []
    while True:
        done = {(step.kind, step.target) for step in steps.steps}
        left = [step for step in candidates if (step.kind, step.target) not in done]
        before, *after = trials.of([steps, *(with_step(steps, step) for step in left)])
        round_ = [
            judge(step, before[rows], result[rows], trials.targets) for step, result in zip(left, after, strict=True)
        ]
        best = max((one for one in round_ if one.kept), key=lambda one: one.gain, default=None)
        on_top_of = tuple(map(str, steps.steps))
        for one in round_:
            beaten = one.kept and one is not best
            why = "helps, another step helps more" if beaten else one.why
            tried.append(Tried(**{**vars(one), "kept": one is best, "why": why, "on_top_of": on_top_of}))
        if best is None:
            return steps, tried
        steps = with_step(steps, best.step)


def plain(choice: Choice, before: np.ndarray, after: np.ndarray, targets: Sequence[str]) -> dict[str, Any]:
    """Everything that was tried and what came of it, for `postprocessing.json`; plain types, no NaN."""
    means = [mean_dice(results) for results in (before, after, choice.held_out)]
    rows: dict[str, Any] = {}
    for column, target in enumerate(targets):
        lesions, found, invented = (COLUMNS.index(name) for name in ("lesions", "found", "invented"))
        rows[target] = {
            **{
                f"dice_{name}": _number(m[column])
                for name, m in zip(("before", "after", "held_out"), means, strict=True)
            },
            "lesions": int(before[:, column, lesions].sum()),
            "found": [int(results[:, column, found].sum()) for results in (before, after)],
            "invented": [int(results[:, column, invented].sum()) for results in (before, after)],
        }
        if target in choice.dropped:
            rows[target]["dropped"] = f"chosen without the fold that is scored: {choice.dropped[target]:+.4f}"
    tried = [
        {
            "step": one.step.kind,
            "target": one.step.target,
            **one.step.arguments,
            "on_top_of": list(one.on_top_of),
            "dice_before": _number(one.before),
            "dice_after": _number(one.after),
            "cases_better": one.better,
            "cases_worse": one.worse,
            "lesions_found": list(one.found),
            "lesions_invented": list(one.invented),
            "kept": one.kept,
            "why": one.why,
        }
        for one in choice.tried
    ]
    return {"rule": RULE, "minimal_gain": MINIMAL_GAIN, "targets": rows, "tried": tried}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
