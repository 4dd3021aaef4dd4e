"""Along which axes images are mirrored. Between a left and a right class a mirror image would be an impossible one.

A network that is trained on mirror images cannot tell such a pair apart. So what the names say counts whatever was
measured, and too little evidence is no permission: only cases that show a pair the other way round are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from medseg.planning.evidence import unlike_its_mirror
from medseg.planning.fingerprint import LEAST_CASES, CasePrint, Fingerprint

LEFT_RIGHT = {2: 1, 3: 0}  # the axis that a name speaks of: columns of a picture, the first one of R-A-S
SAYING = {"left", "right", "links", "rechts", "gauche", "droite", "droit", "izquierda", "derecha", "sinistra", "destra"}
PAIRED = {"l": "r", "lt": "rt", "lh": "rh", "lft": "rgt", "sin": "dex"}  # alone such letters may mean anything else
WORDS = re.compile(r"[^\W\d_]+")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])")
LIKE_SIZE = 2.0  # times as large, at most, is a kidney, a lung or a ventricle as the other one
APART = 0.6  # of a side of a cube of their volume, at least: hemispheres 0.85, kidneys 3, a core in its oedema 0.3
CONSISTENT = 0.9  # share of the evidence in which one lies on the same side of the other


class Pair(NamedTuple):
    """Two classes that lie on either side along an axis, as far as so many cases show."""

    one: str
    other: str
    axis: int
    cases: int


def choose_flips(found: Fingerprint) -> tuple[list[int], str]:
    """Axes of the image that may be mirrored, and why not the others."""
    fixed, named, pairs = found.one_sided_axes(), named_sides(found), pairs_on_either_side(found)
    beside = sorted({pair.axis for pair in pairs} - set(fixed))
    pictures = found.spatial_dims == 2 and len(found.cases) >= LEAST_CASES
    unlike = unlike_its_mirror(found.mirror_likeness) if pictures else []
    sides = [LEFT_RIGHT[found.spatial_dims]] if named else []
    never = {*fixed, *beside, *unlike, *sides}
    allowed = [axis for axis in range(found.spatial_dims) if axis not in never]
    reasons = []
    if named:
        reasons.append(f"{found.directions(sides)} {' and '.join(named)} would be the other way round")
    if fixed:
        reasons.append(f"{found.directions(fixed)} classes keep their order in over 90 % of the cases")
    for axis in beside:
        pair = next(pair for pair in pairs if pair.axis == axis)
        either = f"{pair.one} and {pair.other}, of like size, lie on either side"
        reasons.append(f"{found.directions([axis])} {either} in what few cases show ({pair.cases})")
    if unlike:
        reasons.append(f"{found.directions(unlike)} the mean picture is unlike its mirror image")
    if reasons:
        return allowed, f"{'; '.join(reasons)}: not mirrored"
    if len(found.cases) < LEAST_CASES:
        return allowed, f"{len(found.cases)} cases are too few to see whether classes keep an order along an axis"
    return allowed, "no order of the classes along any axis was found, so mirror images are possible ones"


def named_sides(found: Fingerprint) -> list[str]:
    """The classes (or regions) whose names say left or right, the first two of them."""
    names = list(dict.fromkeys((*found.classes, *found.targets)))
    words = {name: tuple(WORDS.findall(CAMEL.sub(" ", name).lower())) for name in names}
    known = set(words.values())
    mirrored = {**PAIRED, **{right: left for left, right in PAIRED.items()}}
    said = []
    for name, own in words.items():
        others = {(*own[:n], mirrored[word], *own[n + 1 :]) for n, word in enumerate(own) if word in mirrored}
        if SAYING & set(own) or others & known:
            said.append(name)
    return said[:2]


def pairs_on_either_side(found: Fingerprint) -> list[Pair]:
    """Pairs of classes of like size that lie side by side in what few cases show them; none among nested regions.

    Pairs that ten cases hold together are left to `Fingerprint.one_sided_axes`. Of pictures, whose classes may lie
    anywhere, a pair counts only where chance is unlikely to bring about one such pair.
    """
    if set(found.targets) != set(found.classes):
        return []
    cases = {name: [case for case in found.cases if name in case.centres_mm] for name in found.classes}
    alike = [pair for pair in combinations(found.classes, 2) if _of_like_size(cases[pair[0]], cases[pair[1]], pair)]
    pairs = [pair for one, other in alike if (pair := _side_by_side(found, cases, one, other))]
    if found.spatial_dims == 3:
        return pairs
    return [pair for pair in pairs if len(alike) * 2.0 ** (1 - pair.cases) <= 1]


def _of_like_size(some: list[CasePrint], others: list[CasePrint], names: tuple[str, str]) -> bool:
    if not some or not others:
        return False
    sizes = [_volume(cases, name) for cases, name in zip((some, others), names, strict=True)]
    return max(sizes) <= LIKE_SIZE * min(sizes)


def _volume(cases: list[CasePrint], name: str) -> float:
    """The median, in mm3 or mm2."""
    return float(np.median([case.voxels[name] * np.prod(case.spacing_mm) for case in cases]))


def _side_by_side(found: Fingerprint, cases: Mapping[str, list[CasePrint]], one: str, other: str) -> Pair | None:
    together = [case for case in cases[one] if other in case.centres_mm]
    if len(together) >= LEAST_CASES:
        return None
    enough = min(len(cases[one]), len(cases[other])) >= LEAST_CASES
    if together and not enough:
        offsets = np.array([np.subtract(case.centres_mm[one], case.centres_mm[other]) for case in together])
        count = len(together)
    else:  # by their places in the image, of each case against each
        first, second = (np.array([_place(case, name) for case in cases[name]]) for name in (one, other))
        extent = np.mean([_extent(case) for case in found.cases], axis=0)
        offsets = (first[:, None] - second[None]).reshape(-1, found.spatial_dims) * extent
        count = min(len(first), len(second))
    axis = int(np.abs(np.median(offsets, axis=0)).argmax())
    along = offsets[:, axis]
    side = np.mean([_volume(cases[name], name) for name in (one, other)]) ** (1 / found.spatial_dims)
    share = max((along > 0).mean(), (along < 0).mean())
    lies = share >= CONSISTENT and abs(np.median(along)) >= APART * side
    return Pair(one, other, axis, count) if lies else None


def _extent(case: CasePrint) -> np.ndarray:
    return np.array(case.shape) * np.array(case.spacing_mm)


def _place(case: CasePrint, name: str) -> np.ndarray:
    """The centre, each axis from 0 to 1."""
    return np.array(case.centres_mm[name]) / _extent(case)
