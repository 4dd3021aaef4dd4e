"""Which kinds of network a data set is worth trying, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from medseg.core.errors import ConfigError
from medseg.planning.finder import choose_stages, is_clear, is_worth_it, part_of_volume
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.network import ANISOTROPY
from medseg.planning.planes import ENCODER, LEAST_SIDE, PlaneSampling, choose_planes
from medseg.planning.record import Trial
from medseg.planning.rules import Machine, Sampling, choose_sampling

VOLUMES, SLICES, PICTURES, PLAIN = "3d", "2.5d", "2d pretrained", "2d"
STAGES = "3d two stages"
THICK = 1.5  # by the voxels, where the headers cannot be believed
ALIKE_AXES = 1.2  # less says nothing of which axis slices lie along: then the axial ones
SAID = {
    VOLUMES: "3D U-Net on patches of volumes",
    STAGES: "3D U-Net in the region that another one finds on a coarse grid",
    SLICES: f"2D U-Net on pretrained {ENCODER}, on slices with their neighbours",
    PICTURES: f"2D U-Net on pretrained {ENCODER}",
    PLAIN: "2D U-Net",
}


@dataclass(frozen=True)
class Kind:
    """A kind of network. `make` takes measured over estimated time and memory of a step, and gives None where not even
    the smallest step fits the memory, or the images do not fit the network."""

    name: str
    make: Callable[[float, float], Sampling | PlaneSampling | None]

    @property
    def said(self) -> str:
        return SAID[self.name]


@dataclass(frozen=True)
class Shortlist:
    """Kinds in the order in which the rules prefer them, why so, and what would have stood there."""

    kinds: tuple[Kind, ...]
    why: str
    missing: str = ""


def shortlist(
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    outputs: int,
    *,
    weights: str | None,
    only: Sequence[str] | None = None,
) -> Shortlist:
    """What is worth trying.

    Raises:
        ConfigError: no kind goes with what was given.

    Args:
        outputs: channels of the logits.
        weights: how to get the pretrained weights; None: they are at hand.
        only: names of the kinds that go with what was given.
    """
    name, plain = (SLICES, VOLUMES) if found.spatial_dims == 3 else (PICTURES, PLAIN)

    axis: int | None = None
    pretrained_first, why = True, "the encoder has seen pictures before"
    if found.spatial_dims == 3:
        axis, pretrained_first, why = _slices(found)
    plane = [a for a in range(found.spatial_dims) if a != axis]
    large = float(np.percentile(found.shapes(cropped=False)[:, plane].max(1), 75)) >= LEAST_SIDE
    kinds, missing = [Kind(plain, partial(choose_sampling, found, machine, minutes, outputs))], ""
    if not large:
        why = f"the images are too small for the pretrained encoder (below {LEAST_SIDE} pixels)"
    elif weights is not None:
        missing = f"a {SAID[name]} would be tried, but the weights are not installed: {weights}"
    else:
        planes = Kind(name, partial(_planes, found, machine, minutes, axis))
        kinds = [planes, *kinds] if pretrained_first else [*kinds, planes]
    if found.spatial_dims == 3:
        kinds, why = _with_stages(kinds, found, machine, minutes, outputs, why, asked=only == [STAGES])
    if only is None:
        return Shortlist(tuple(kinds), why, missing)
    if missing and name in only:  # asked for: then without its weights
        kinds.append(Kind(name, partial(_planes, found, machine, minutes, axis, pretrained=False)))
    fitting = tuple(kind for kind in kinds if kind.name in only)
    if not fitting:
        wanted = name in only and not large
        what = why if wanted else f"the images have {found.spatial_dims} dimensions"
        raise ConfigError(f"no network fits what was given: {what}", "leave network.spatial_dims and data.context out")
    return Shortlist(fitting, "as given", missing)


def _with_stages(
    kinds: Sequence[Kind],
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    outputs: int,
    why: str,
    *,
    asked: bool,
) -> tuple[list[Kind], str]:
    """The kinds, and two stages among them where that is worth it or asked for; why they stand in this order."""
    stages = Kind(STAGES, partial(choose_stages, found, machine, minutes, outputs))
    if asked:
        return [*kinds, stages], why
    plain = None if found.spacing_doubt() else choose_sampling(found, machine, minutes, outputs)
    if plain is None:  # without true millimetres there is no margin
        return list(kinds), why
    patches, share = part_of_volume(found, plain)
    if not is_worth_it(patches, share):
        return list(kinds), why
    if not is_clear(patches, share, plain.steps) or kinds[0].name != VOLUMES:
        return [*kinds, stages], why
    return [stages, *kinds], f"a volume is {patches:.0f} patches, and the box of its targets {share:.2g} of it"


def decide(kinds: Sequence[Kind], trials: Mapping[str, Trial], rules: str, untried: str = "") -> tuple[Kind, str]:
    """The kind to train, and why: the better one in the trials, where all were tried; else the first by the rules.

    Args:
        kinds: in the order of the rules.
        rules: why they stand in this order.
        untried: why there was no trial, where there was none.
    """
    if len(kinds) == 1:
        return kinds[0], rules
    if any(kind.name not in trials for kind in kinds):
        return kinds[0], f"{rules}; by rules, since {untried or 'nothing was tried'}"
    tried = [kind for kind in kinds if not trials[kind.name].failed]
    failed = "; ".join(f"{kind.name} failed: {trials[kind.name].failed}" for kind in kinds if kind not in tried)
    if not tried:
        return kinds[0], f"{rules}; by rules, since every trial failed ({failed})"
    best = max(tried, key=lambda kind: trials[kind.name].dice)
    others = [f"{kind.name} {trials[kind.name].dice:.3f}" for kind in tried if kind is not best]
    beside = ", ".join([*others, *([failed] if failed else [])])
    return best, f"the best in a trial: Dice {trials[best.name].dice:.3f} (the others: {beside})"


def _planes(
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    axis: int | None,
    time_factor: float,
    memory_factor: float,
    pretrained: bool = True,
) -> PlaneSampling | None:
    return choose_planes(
        found,
        machine,
        minutes,
        slices_along=axis,
        pretrained=pretrained,
        time_factor=time_factor,
        memory_factor=memory_factor,
    )


def _slices(found: Fingerprint) -> tuple[int, bool, str]:
    """The axis across which volumes would be cut, whether their slices are thick, and why."""
    slices = found.slices()
    if doubt := found.spacing_doubt():
        return slices.axis, slices.evidence > THICK, doubt
    ratio = max(slices.headers, slices.evidence)
    by = "by their spacing" if slices.headers >= slices.evidence else "as their voxels differ"
    thick = ratio > ANISOTROPY
    axis = slices.axis if ratio > ALIKE_AXES else 2
    why = f"slices lie {ratio:.2g} times as far apart as pixels, {by}"
    return axis, thick, why + (": thick" if thick else f", no more than {ANISOTROPY:g} times")
