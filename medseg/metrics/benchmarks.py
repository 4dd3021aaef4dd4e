"""The figures of natural-image benchmarks, by the rules of their official programs: one confusion matrix of all images.

    voc         VOCevalseg of the PASCAL VOC devkit
    cityscapes  evalPixelLevelSemanticLabeling of cityscapesScripts
    ade20k      evaluationCode of CSAILVision/sceneparsing

They differ in what a class counts that occurs in neither truth nor prediction, and in what a prediction may hold.
`metrics/summary.py` makes the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from medseg.config.cards import Card
from medseg.core.errors import DataError, Problem, did_you_mean
from medseg.core.labels import Labels
from medseg.data.cases.values import ranges, unknown_values
from medseg.metrics.confusion import confusion, value_counts
from medseg.metrics.instances import FIRST, Instance, count_instances
from medseg.metrics.misread import misread

POOLED = "one confusion matrix of all images, in which pixels that are ignored in the truth do not count; "
CONVENTIONS = {
    "voc": POOLED
    + "IoU = TP / (TP + FP + FN) of each class; a prediction must name a class everywhere; a class in neither "
    "truth nor prediction has no IoU, and then their mean has none either",
    "cityscapes": POOLED
    + "IoU = TP / (TP + FP + FN) of each evaluated class and, on merged classes, of each category; what "
    "is predicted as a class that is not evaluated is missed; a class in neither truth nor prediction is left out of "
    "the mean; iIoU weighs the TP and FN of each object by the mean size of its class over its own size, FP are "
    "plain pixels, and groups count neither as TP nor as FN",
    "ade20k": POOLED
    + "IoU = TP / (TP + FP + FN) of each class; what is predicted as no class is missed; a class in neither "
    "truth nor prediction counts 0; score = (pixel accuracy + mean IoU) / 2",
}


@dataclass
class Tally:
    """What was counted so far; tallies of images, of parts of a data set or of several processes add up with `+=`.

    All counts are whole numbers, and the order of the additions changes no figure.
    """

    matrix: np.ndarray
    """int64 (values, values) of `Benchmark.values`; rows are the truth."""
    instances: list[Instance] | None = None
    """Its objects; None if they are not known for every image."""
    cases: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.matrix += other.matrix
        self.cases += other.cases
        if self.instances is None or other.instances is None:
            self.instances = None
        else:
            self.instances += other.instances
        return self


@dataclass(frozen=True)
class Benchmark:
    """What is scored, and by whose rules.

    Args:
        labels: the classes, and the values that are ignored in the truth. Every class is scored, the background too.
        convention: a key of `CONVENTIONS`.
        categories: value of a class, evaluated or not -> its category; used by `cityscapes`.
        instance_pixels: value of a class with annotated objects, evaluated or not -> their mean size in pixels.

    Raises:
        DataError: an unknown convention.
    """

    labels: Labels
    convention: str
    categories: Mapping[int, str] = field(default_factory=dict)
    instance_pixels: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise DataError(f"unknown convention {self.convention!r}", did_you_mean(self.convention, CONVENTIONS))

    @classmethod
    def of_card(cls, card: Card, convention: str | None = None) -> Benchmark:
        """The data set's own benchmark, or by another convention."""
        return cls(
            labels=card.labels,
            convention=convention or card.convention,
            categories={entry.value: entry.category for entry in card.classes.values() if entry.category},
            instance_pixels={
                entry.value: entry.instance_pixels for entry in card.classes.values() if entry.instance_pixels
            },
        )

    @cached_property
    def values(self) -> tuple[int, ...]:
        """Every value that a label may hold, in the order of the matrix: classes, then what is ignored."""
        return (*self.labels.values, *self.labels.ignored)

    @cached_property
    def predictable(self) -> frozenset[int]:
        """The values that a prediction may hold; 255 for "ignore" is none, wherever a label holds it."""
        also = {
            "voc": (),
            "cityscapes": self.labels.also_ignored,
            "ade20k": (*self.labels.also_ignored, *((0,) if self.labels.ignore_index == 0 else ())),
        }
        return frozenset((*self.labels.values, *also[self.convention]))

    @property
    def empty(self) -> Tally:
        """Nothing counted yet."""
        return Tally(np.zeros((len(self.values),) * 2, dtype=np.int64), [])

    def count(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        instances: np.ndarray | None = None,
        *,
        names: tuple[str, str, str] = ("the truth", "the prediction", "the instances"),
    ) -> Tally:
        """The tally of one image.

        Args:
            truth, prediction: uint8 maps of one shape.
            instances: uint16 map of Cityscapes' instanceIds.
            names: what to call the three in an error: their files.

        Raises:
            DataError: another shape, or a value that is no class; it names the file and the values.
        """
        same_shape(truth, prediction, names[0], names[1])
        counts = confusion(truth, prediction)
        problems = [
            unknown_values(counts.sum(axis=1), names[0], self.values),
            unknown_values(counts.sum(axis=0), names[1], self.predictable),
        ]
        if any(problems):
            found = [problem for problem in problems if problem]
            hint = misread(counts, self.labels)
            raise DataError([replace(one, remedy=f"{one.remedy}; {hint}") for one in found] if hint else found)
        tally = Tally(counts[np.ix_(self.values, self.values)], None, 1)
        if instances is not None:
            same_shape(truth, instances, names[0], names[2])
            tally.instances = self._instances(instances, prediction, names[2])
        return tally

    def _instances(self, instances: np.ndarray, prediction: np.ndarray, name: str) -> list[Instance]:
        found = count_instances(instances, prediction, self.categories)
        strange = sorted({one.value for one in found} - set(self.instance_pixels))
        if strange:
            what = f"holds objects of classes that have none: {', '.join(f'{value}...' for value in strange)}"
            expected = f"expected {FIRST} x class + number for the classes {ranges(self.instance_pixels)}"
            raise DataError(Problem(name, what, expected))
        return [one for one in found if one.value in self.labels.values]


def from_train_ids(mask: np.ndarray, labels: Labels, name: str) -> np.ndarray:
    """Places among the evaluated classes (Cityscapes' trainIds) -> their values, uint8.

    255, the trainId of what is not evaluated, becomes the first class that is not (Cityscapes: 0, unlabeled).

    Raises:
        DataError: another value; it names the file (`name`) and the values.
    """
    known = range(len(labels.values))
    table = np.zeros(256, dtype=np.uint8)
    table[: len(known)] = labels.values
    table[255] = labels.also_ignored[0] if labels.also_ignored else 0
    if problem := unknown_values(value_counts(mask), name, {*known, *([255] if labels.also_ignored else [])}):
        raise DataError(problem)
    return table[mask]


def same_shape(one: np.ndarray, other: np.ndarray, name: str, other_name: str) -> None:
    """Raise DataError, with the names of both files, if two masks differ in size."""
    if one.shape != other.shape:
        sizes = [" x ".join(map(str, array.shape)) for array in (one, other)]
        what = f"is {sizes[1]} (rows x columns), but {name} is {sizes[0]}"
        raise DataError(Problem(other_name, what, "score masks at the original resolution of their labels"))
