"""Files that are whole, but not in their places yet: those of a case come into them together (`outputs.commit`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medseg.core.files import writing_name


@dataclass
class Staged:
    """A case's files that are whole, but not in their places yet: pairs of where they are and where they go."""

    files: list[tuple[Path, Path]] = field(default_factory=list)

    def add(self, place: Path, own: Path) -> Path:
        """Where to write a file first.

        Args:
            place: where it goes.
            own: the folder of what is medseg's own.
        """
        own.mkdir(parents=True, exist_ok=True)
        self.files.append((own / writing_name(place.name), place))
        return self.files[-1][0]


@contextmanager
def staging(staged: Staged) -> Iterator[Staged]:
    """The files vanish if anything fails."""
    try:
        yield staged
    except BaseException:
        for file, _ in staged.files:
            file.unlink(missing_ok=True)
        raise
