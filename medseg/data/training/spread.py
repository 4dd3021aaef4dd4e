"""An order of cases in which the first few stand for all: targets, those without any, and patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler

from medseg.data.splits.patients import find_patients
from medseg.data.training.cache import CachedDataset

FEW = 2  # cases with each target that come before everything else


class SpreadOut(Sampler[int]):
    """Indices of preprocessed cases, the same every time.

    No patient has a second case before each has one. Then each target comes in `FEW` cases, the rarest first; after
    that, in any beginning of the order, as often as in all cases, and so do cases without any target.

    Args:
        dataset: the cases, with their labels.
        targets: name -> label values.
        seed: which of equally good cases come first.
        patient_pattern: who the patients are, as `find_patients`; default: as the data set says.
        patient_table: the same.
    """

    def __init__(
        self,
        dataset: CachedDataset,
        targets: Mapping[str, Sequence[int]],
        seed: int = 0,
        patient_pattern: str | None = None,
        patient_table: str | None = None,
    ) -> None:
        self.dataset, self.targets, self.seed = dataset, targets, seed
        self.patient_pattern, self.patient_table = patient_pattern, patient_table
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        if not self._order:  # not before the cases are in the cache
            self._order = spread_out(self._occurrences(), self._patients(), self.seed)
        return iter(self._order)

    def _occurrences(self) -> np.ndarray:
        found = np.zeros((len(self.dataset), len(self.targets)), dtype=bool)
        for row in range(len(self.dataset)):
            values = self.dataset.entry(row).voxels.keys()
            found[row] = [not values.isdisjoint(wanted) for wanted in self.targets.values()]
        return found

    def _patients(self) -> list[str]:
        cases = self.dataset.data
        known = {case.name: case.patient for case in cases if case.patient is not None}
        who = find_patients([case.name for case in cases], self.patient_pattern, self.patient_table, known)
        return [who.get(case.name, case.name) for case in cases]


def spread_out(occurs: np.ndarray, patients: Sequence[str], seed: int) -> list[int]:
    """The order of `SpreadOut`: `occurs` (cases, targets) of bool says which target is in which case."""
    occurs = np.concatenate([occurs, ~occurs.any(1, keepdims=True)], 1).astype(float)  # the last: without any
    total, rest = occurs.sum(0), list(np.random.default_rng(seed).permutation(len(occurs)))
    wanted, share = np.minimum(total, FEW), total / max(len(occurs), 1)
    taken, seen = np.zeros(occurs.shape[1]), Counter[str]()
    order: list[int] = []
    while rest:
        fewest = min(seen[patients[case]] for case in rest)
        there = [case for case in rest if seen[patients[case]] == fewest]
        need = (taken < wanted) / np.maximum(share, 1 / len(occurs)) + share * (len(order) + 1) - taken
        case = there[int(np.argmax(occurs[there] @ need))]
        rest.remove(case)
        order.append(int(case))
        seen[patients[case]] += 1
        taken += occurs[case]
    return order
