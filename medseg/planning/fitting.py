"""A kind of network fitted to data, machine and minutes: patch and batch follow from measured steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.config.schema import Config
from medseg.config.stages import second_share
from medseg.core.errors import ConfigError
from medseg.data.splits.folds import Folds
from medseg.engine.memory import OutOfMemory
from medseg.planning.candidates import Kind
from medseg.planning.config import choose_all
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.overrides import overridden
from medseg.planning.planes import PlaneSampling
from medseg.planning.rules import Choice, Machine, Sampling
from medseg.planning.step import Step

ATTEMPTS = 4
NEAR = 0.1  # measured seconds that differ by less from those that the patch was chosen by need no other patch
TRAINING = 0.95  # of the minutes; the rest is validation


@dataclass(frozen=True)
class Proposal:
    """One kind of network, as it would be trained.

    Args:
        sampling: with the measured seconds of a step, and the steps that the minutes hold of it.
        memory_gib: of the training, measured.
    """

    kind: Kind
    sampling: Sampling | PlaneSampling
    choices: list[Choice]
    config: Config
    step: Step
    memory_gib: float


@dataclass(frozen=True)
class Fitter:
    """What a plan is made for.

    Args:
        named: choices that the data gave: what their labels mean, who the patients are.
        config_of: choices -> the config that they are; raises ConfigError where what was given is wrong.
        measure: what is measured, by its name, and the config -> the costs of a step.
    """

    found: Fingerprint
    machine: Machine
    minutes: float | None
    folds: Folds | None
    pattern: str | None
    root: Path
    named: Sequence[Choice]
    overrides: Sequence[str]
    config_of: Callable[[list[Choice]], Config]
    measure: Callable[[str, Config], Step]

    def fit_all(self, kinds: Sequence[Kind]) -> list[Proposal]:
        """Of each kind that fits; raises ConfigError where none does."""
        proposals = [proposal for kind in kinds if (proposal := self.fit(kind)) is not None]
        if not proposals:
            what = f"{self.machine.memory_gib:.3g} GiB hold not even a step on the smallest patch"
            raise ConfigError(what, "give --memory-gib more, or resample the images to larger voxels")
        return proposals

    def fit(self, kind: Kind) -> Proposal | None:
        """The proposal; None where the images do not fit the network, or the memory not even the smallest step.

        Raises:
            OutOfMemory: the GPU is full of something else.
            ConfigError: what was given takes more than the memory.
        """
        time_factor = memory_factor = 1.0
        taken, full = 0.0, None
        fitting: tuple[Sampling | PlaneSampling, float, Step, float] | None = None
        for _ in range(ATTEMPTS):
            sampling = kind.make(time_factor, memory_factor)
            if sampling is None:
                break
            config = self.config_of(self.choices(sampling))
            fixed = sampling.memory_gib - sampling.activations_gib
            try:
                step, full = self.measure(_measured(kind, config), config), None
            except OutOfMemory as error:
                full = OutOfMemory(error.problems)  # without the frames, which hold the step's tensors
                memory_factor *= 1.5 * max(1.0, (self.machine.memory_gib - fixed) / sampling.activations_gib)
                continue
            taken = fixed + step.kept_gib
            if taken > self.machine.memory_gib:
                memory_factor *= 1.05 * step.kept_gib / sampling.activations_gib
                continue
            fitting = sampling, second_share(config), step, taken
            wrong = step.seconds / sampling.step_seconds
            if self.minutes is None or abs(wrong - 1) <= NEAR:
                break
            time_factor *= wrong
        if fitting is None and full is not None:
            raise full
        if fitting is None and taken > self.machine.memory_gib:
            raise ConfigError(
                f"a step takes {taken:.3g} GiB of {self.machine.memory_gib:.3g}", "give --memory-gib more"
            )
        return None if fitting is None else self._proposal(kind, *fitting)

    def choices(self, sampling: Sampling | PlaneSampling) -> list[Choice]:
        """The whole config, with what was found and what was given."""
        chosen = choose_all(self.found, self.machine, sampling, self.minutes, self.folds, self.pattern, self.root)
        own = [choice for choice in self.named if choice.key.startswith("data.")]
        others = [choice for choice in self.named if choice not in own]
        return overridden([chosen[0], *own, *chosen[1:], *others], self.overrides)

    def _proposal(
        self, kind: Kind, sampling: Sampling | PlaneSampling, share: float, step: Step, taken: float
    ) -> Proposal:
        """Of a network that has such a share of the minutes."""
        steps = None if self.minutes is None else int(TRAINING * 60 * self.minutes * share / step.seconds)
        fitted = replace(sampling, step_seconds=step.seconds, steps=steps)
        choices = [
            replace(one, reason=one.reason.replace("{measured}", f"{taken:.2g}")) for one in self.choices(fitted)
        ]
        return Proposal(kind, fitted, choices, self.config_of(choices), step, taken)


def _measured(kind: Kind, config: Config) -> str:
    """What a step is measured of."""
    patch = "x".join(map(str, config.training.patch_size))
    return f"{kind.name}, patch {patch}, batch {config.training.batch_size}"
