"""Which axes a plan mirrors: none along which a class would become another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.planning.fingerprint import CasePrint, Fingerprint
from medseg.planning.mirroring import choose_flips
from tests.corpus.situation import Subjects, read, without

RANDOM = np.random.default_rng(0)
SHAPE = (100, 80, 60)
LEFT, RIGHT, MIDDLE = (25, 40, 30), (75, 40, 30), (50, 40, 30)
KIDNEY = 4000  # voxels of 1 mm3

Organs = Mapping[str, tuple[Sequence[float], int]]
"""Class -> its centre and its voxels."""


def measured(*cases: Organs, targets: Sequence[str] = (), shape: tuple[int, ...] = SHAPE) -> Fingerprint:
    """Scans with these organs, each a few millimetres from where it is said to be."""
    names = tuple(dict.fromkeys(name for case in cases for name in case))
    dims, even = len(shape), (1.0,) * len(shape)
    random = np.random.default_rng(1)
    prints = []
    for number, case in enumerate(cases):
        voxels = {name: case[name][1] if name in case else 0 for name in names}
        centres = {name: tuple(random.normal(centre[:dims], 3)) for name, (centre, _) in case.items()}
        prints.append(CasePrint(f"c{number}", "RAS", shape, even, shape, voxels, {}, centres, even))
    return Fingerprint("made", "MR", ("MRI",), names, tuple(targets or names), (), tuple(prints), even)


def mirrors(found: Fingerprint, *axes: int, why: str = "") -> Callable[[], None]:
    def planned() -> None:
        allowed, reason = choose_flips(found)
        assert allowed == list(axes), (allowed, reason)
        assert why in reason

    return planned


def both(one: str, other: str, size: int = KIDNEY) -> Organs:
    return {one: (LEFT, size), other: (RIGHT, int(size * 1.2))}


@read(__name__)
def names_say_left_and_right(folder: Path) -> Subjects:
    """However many cases there are, and whatever they show."""
    pairs = [("left kidney", "right kidney"), ("kidney_left", "kidney_right"), ("Left-Thalamus", "Right-Thalamus")]
    pairs += [("kidney_L", "kidney_R"), ("L lung", "R lung"), ("lung (L)", "lung (R)"), ("leftLung", "rightLung")]
    pairs += [("ctx-lh-cuneus", "ctx-rh-cuneus"), ("LLung", "RLung"), ("NIERE_LINKS", "NIERE_RECHTS")]
    for one, other in pairs:
        yield mirrors(measured(both(one, other)), 1, 2, why=f"left-right {one} and {other}")
        turned = measured(*[both(one, other), both(other, one)] * 6)
        yield mirrors(turned, 1, 2)


@read(__name__)
def a_name_alone_says_left(folder: Path) -> Subjects:
    yield mirrors(measured({"left atrium": (MIDDLE, KIDNEY)}), 1, 2, why="left atrium would be")


@read(__name__)
def regions_may_say_so_too(folder: Path) -> Subjects:
    found = measured(both("a", "b"), targets=("left", "whole"))
    yield mirrors(found, 1, 2)


@read(__name__)
def pictures_of_a_left_and_a_right(folder: Path) -> Subjects:
    """Their columns are left and right."""
    found = measured(*[{"left lung": ((40, 25), 900), "right lung": ((40, 75), 1000)}] * 4, shape=(80, 100))
    yield mirrors(found, 0)
    unnamed = measured(*[{"a": ((40, 25), 900), "b": ((40, 75), 1000)}] * 4, shape=(80, 100))
    yield mirrors(unnamed, 0, why="a and b, of like size")


@read(__name__)
def names_that_only_look_so(folder: Path) -> Subjects:
    for name in ("bright", "upright", "L1", "R2", "class_1", "copyright", "L", "l", "leftover", "rl"):
        yield mirrors(measured({name: (MIDDLE, KIDNEY)}), 0, 1, 2)
    yield mirrors(measured({"vertebra L 4": (MIDDLE, KIDNEY), "vertebra T 4": ((50, 40, 45), KIDNEY)}), 0, 1)


@read(__name__)
def few_cases_with_two_kidneys(folder: Path) -> Subjects:
    for count in (1, 2, 4, 8, 9, 12):
        found = measured(*[both("class_1", "class_2")] * count)
        allowed, reason = choose_flips(found)

        def planned(allowed: list[int] = allowed, reason: str = reason) -> None:
            assert 0 not in allowed, reason
            assert {1, 2} & set(allowed), reason

        yield planned


@read(__name__)
def kidneys_that_rarely_occur_together(folder: Path) -> Subjects:
    """Thirty scans of one or the other; two of both."""
    one, other = ({name: place} for name, place in both("class_1", "class_2").items())
    for together in (0, 1, 2, 5):
        yield mirrors(measured(*[one, other] * 15, *[one | other] * together), 1, 2, why="on either side")
    yield mirrors(measured(*[one] * 3, *[other] * 3), 1, 2)


@read(__name__)
def kidneys_among_other_organs(folder: Path) -> Subjects:
    case = {"liver": ((65, 40, 35), 90_000), "spine": (MIDDLE, 20_000), **both("class_1", "class_2")}
    yield mirrors(measured(*[case] * 5), 1, 2)


@read(__name__)
def a_pair_along_another_axis(folder: Path) -> Subjects:
    case = {"front": ((50, 60, 30), KIDNEY), "back": ((50, 20, 30), KIDNEY)}
    yield mirrors(measured(*[case] * 4), 0, 2, why="front-back")


@read(__name__)
def one_target_is_mirrored(folder: Path) -> Subjects:
    for count in (1, 8, 40):
        yield mirrors(measured(*[{"tumour": (LEFT, 500)}] * count), 0, 1, 2)


@read(__name__)
def nested_structures_are_mirrored(folder: Path) -> Subjects:
    """As regions, or as a core in its oedema, which is as large."""
    nested = {"oedema": (LEFT, 9000), "core": ((33, 41, 31), 6000)}
    regions = {"oedema": (LEFT, 9000), "core": ((45, 41, 31), 6000)}
    yield mirrors(measured(*[nested] * 5), 0, 1, 2)
    yield mirrors(measured(*[regions] * 5, targets=("whole tumour", "tumour core")), 0, 1, 2)


@read(__name__)
def an_organ_and_its_lesion_are_mirrored(folder: Path) -> Subjects:
    yield mirrors(measured(*[{"liver": ((65, 40, 35), 90_000), "lesion": ((95, 40, 35), 900)}] * 6), 0, 1, 2)


@read(__name__)
def two_kinds_of_lesion_anywhere_are_mirrored(folder: Path) -> Subjects:
    """What cases show the other way round is evidence: of twelve together, and of fifteen of each alone."""
    anywhere = [both(*names) for names in [("a", "b"), ("b", "a")] * 6]
    yield mirrors(measured(*anywhere), 0, 1, 2)
    alone = [{name: place} for case in anywhere for name, place in case.items()]
    yield mirrors(measured(*alone), 0, 1, 2)
    yield mirrors(measured(*anywhere[:4], anywhere[0], anywhere[0]), 0, 1, 2)


@read(__name__)
def many_classes_of_few_pictures_are_mirrored(folder: Path) -> Subjects:
    """Of so many pairs some lie one beside the other by chance; not so of two alone in enough pictures."""
    scenes = [
        {f"class {n}": (RANDOM.uniform(10, 90, 2), 500) for n in RANDOM.choice(12, 4, replace=False)} for _ in range(6)
    ]
    yield mirrors(measured(*scenes, shape=(100, 100)), 0, 1)


without(__name__, "medseg.planning.mirroring.SAYING", set())
without(__name__, "medseg.planning.mirroring.PAIRED", {})
without(__name__, "medseg.planning.mirroring.pairs_on_either_side", lambda _: [])
without(__name__, "medseg.planning.mirroring.APART", 0.0)
without(__name__, "medseg.planning.mirroring.LIKE_SIZE", 1e9)
without(__name__, "medseg.planning.mirroring.CONSISTENT", 0.0)
