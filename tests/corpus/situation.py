"""A situation: files that code writes, and what medseg has to make of them.

    @warned(__name__, "sform and pixdim disagree")
    def unit_sform_with_other_pixdim(folder: Path) -> Subjects:
        ...
        yield folder                                # a data set: judged by `medseg check`
        yield Reading(folder / "a.nii", by_itk)     # a file: voxels (and affine) as somebody else's reader gives them
        yield lambda: plan(folder)                  # a call: ends well, or by a MedsegError

The verdict is of all subjects together: `read` finds nothing, `warned` warns of what the words say and of nothing else,
`refused` is an error (a finding of `check`, or a MedsegError of the call) with all the words in it. A `Reading` has to
agree whatever the verdict, but where the file itself is refused.

What handles a situation can be taken away: `without(__name__, "medseg.data.files.formats.LPS", np.eye(4))` names
what to patch, and some situation of the room has to fail then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.core.errors import MedsegError
from medseg.data.files.images import read_image
from medseg.workflows.check import check

Verdict = Literal["read", "warned", "refused"]


@dataclass(frozen=True)
class Reading:
    """What a file holds by another reader.

    Args:
        voxels: `(x, y[, z])`, or with channels first `(C, x, y[, z])`.
        affine: 4x4, voxel index -> RAS+ millimetres; not compared if None.
        tolerance: of voxels, absolute; 0 for the very same.
    """

    path: Path
    voxels: np.ndarray
    affine: np.ndarray | None = None
    tolerance: float = 0.0

    def compare(self) -> None:
        image = read_image(self.path)
        expected = self.voxels if self.voxels.ndim == image.array.ndim else self.voxels[None]
        assert image.array.shape == expected.shape, f"shape {image.array.shape}, not {expected.shape}"
        difference = np.abs(image.array.astype(np.float64) - expected.astype(np.float64))
        assert difference.max() <= self.tolerance, f"{self.path.name}: voxels differ by {difference.max()}"
        if self.affine is not None:
            np.testing.assert_allclose(image.affine, self.affine, rtol=1e-5, atol=1e-4)


@dataclass(frozen=True)
class Checked:
    """A data set for `medseg check` with its options."""

    root: Path
    layout: str = "auto"
    card: str | None = None


Subject = Path | Checked | Reading | Callable[[], object]
Subjects = Iterable[Subject]


@dataclass(frozen=True)
class Situation:
    room: str
    name: str
    verdict: Verdict
    words: tuple[str, ...]
    make: Callable[[Path], Subjects]

    def judge(self, folder: Path) -> None:
        """Raises AssertionError where something else comes of it than has to."""
        errors: list[str] = []
        warnings: list[str] = []
        for subject in self.make(folder):
            try:
                for level, text in _findings(subject):
                    (errors if level == "error" else warnings).append(text)
            except MedsegError as error:
                errors.append(str(error))
        said = "\n".join(errors + warnings)
        if self.verdict == "refused":
            assert errors, f"not refused; said: {said or 'nothing'}"
        else:
            assert not errors, said
            assert bool(warnings) == (self.verdict == "warned"), said or "no warning"
        missing = [word for word in self.words if word not in said]
        assert not missing, f"{missing} not said in: {said}"
        if self.verdict == "warned":
            other = [text for text in warnings if not any(word in text for word in self.words)]
            assert not other, f"warned of something else: {other}"


def _findings(subject: Subject) -> Iterable[tuple[str, str]]:
    if isinstance(subject, Reading):
        subject.compare()
        return []
    if isinstance(subject, Path):
        subject = Checked(subject)
    if isinstance(subject, Checked):
        report = check(subject.root, layout=subject.layout, card=subject.card, progress=False)
        return [
            (found.level, f"{found.kind}: {found.case} {found.file}: {found.detail} ({found.remedy})")
            for found in report.findings
        ]
    subject()
    return []


SITUATIONS: list[Situation] = []
HANDLINGS: dict[str, list[tuple[str, Any]]] = defaultdict(list)


def _registered(verdict: Verdict, room: str, words: tuple[str, ...]) -> Callable[..., Any]:
    def register(make: Callable[[Path], Subjects]) -> Callable[[Path], Subjects]:
        SITUATIONS.append(Situation(room.rpartition(".")[2], make.__name__, verdict, words, make))
        return make

    return register


def read(room: str) -> Callable[..., Any]:
    """It is read right, and nothing is said."""
    return _registered("read", room, ())


def warned(room: str, *words: str) -> Callable[..., Any]:
    """It is read, and each warning says one of the words; each word is said."""
    return _registered("warned", room, words)


def refused(room: str, *words: str) -> Callable[..., Any]:
    """It is an error that says all the words."""
    return _registered("refused", room, words)


def without(room: str, name: str, instead: Any) -> None:
    """Patch `name` ("package.module.attribute") with `instead`: some situation of the room has to fail then."""
    HANDLINGS[room.rpartition(".")[2]].append((name, instead))
