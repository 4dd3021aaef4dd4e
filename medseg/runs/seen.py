"""Which images a run, or several, were trained on: found again by their content, under whatever name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medseg.bundle.trained import Trained
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.files.digests import CaseState, ImageState, Touched, hashed, with_digests
from medseg.runs.files import known_now, read_files
from medseg.runs.split import run_split

Sizes = tuple[int, ...]  # of the files of an image


@dataclass(frozen=True)
class Seen:
    """The images that somebody was trained on, and those that the weights began with before.

    Args:
        identities: of the images.
        sizes: theirs, as far as they are known.
        only_sizes: whether all are, so that a file of another size need not be read.
        known: digests of files that nobody touched since.
        verified: whether every image is known.
    """

    identities: frozenset[str]
    sizes: frozenset[Sizes]
    only_sizes: bool
    known: Mapping[Touched, str]
    verified: bool

    @classmethod
    def by(cls, members: Sequence[Trained]) -> Seen:
        """As the digests of these runs tell; a run that is older knows none."""
        seen, sizes, known, only_sizes, verified = set[str](), set[Sizes](), dict[Touched, str](), True, True
        for member in members:
            files = read_files(member.folder)
            if files is None:
                verified = False
                continue
            split = run_split(member)
            files = known_now(member, files, split)
            seen |= files.of_training(split)
            only_sizes = only_sizes and not files.trained_on
            verified = verified and files.whole and files.are_known(split.training)
            for name in split.training:
                sizes |= {_sizes(image) for image in _images(files.cases.get(name))}
            known |= {one.touched: one.sha256 for case in files.cases.values() for one in case.files if one.sha256}
        return cls(frozenset(seen), frozenset(sizes), only_sizes, known, verified)

    def among(self, cases: Sequence[Case]) -> list[str]:
        """Names of the cases all of whose images are among them; only what may be one of them is read.

        Raises:
            DataError: files are missing, or cannot be read.
        """

        def look(case: Case) -> bool:
            state = case.state()
            if self.only_sizes and not all(_sizes(image) in self.sizes for image in _images(state)):
                return False
            state = state.each(with_digests(self.known))
            return replace(state, label=None).each(lambda f: f if f.sha256 else hashed(f)).is_among(self.identities)

        found = every_result(look, cases) if self.identities else []
        return [case.name for case, one in zip(cases, found, strict=False) if one]


def _images(state: CaseState | None) -> list[ImageState]:
    return [] if state is None else [image for image in state.images if image is not None]


def _sizes(image: ImageState) -> Sizes:
    return tuple(file.touched[1] for file in image.files)
