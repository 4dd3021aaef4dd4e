"""Errors that tell a person what to do next.

Every error that a user can cause is a `MedsegError`: the command line prints it without a traceback and exits with its
`exit_code` (2: bad usage, config or data; 1: finished, but some cases failed).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One finding: where it is (file, line, key or case), what was got and expected, and what to do about it."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line}\n    -> {self.remedy}" if self.remedy else line


class MedsegError(Exception):
    """A mistake outside the program, with all its findings at once."""

    exit_code = 2
    told = False  # whether the first of several processes says it, for this one too

    def __init__(self, problems: str | Problem | Sequence[Problem], remedy: str = "") -> None:
        if isinstance(problems, str):
            problems = Problem("", problems, remedy)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def line(self) -> str:
        """What is wrong and what to do, on one line, for a message that says where."""
        return "; ".join(f"{one.what}: {one.remedy}" if one.remedy else one.what for one in self.problems)


class ConfigError(MedsegError):
    """The config, or a `--set`, says something impossible."""


class DataError(MedsegError):
    """The data on disk are not what the config or their own description says."""


class RunError(MedsegError):
    """A run folder cannot be used as asked: another config, a damaged or missing checkpoint."""


class SystemFailure(RunError):
    """The machine stopped medseg (disk, memory, rights, another process), or a library did: see `core.foreign`.

    The error that it was made of is its cause, whose traceback the command line keeps in a log file.
    """


class PartialFailure(MedsegError):
    """The command finished, but some cases failed (they are listed in `failed.csv`).

    Args:
        result: what the command gave for the other cases, as it would have returned it; plain types.
    """

    exit_code = 1

    def __init__(self, problems: str | Problem | Sequence[Problem], result: Mapping[str, Any] | None = None) -> None:
        super().__init__(problems)
        self.result = dict(result or {})


def mistake_in(error: BaseException | None) -> MedsegError | None:
    """The mistake of a user inside the errors that others (MONAI, mostly) wrap around it, if there is one."""
    while error is not None and not isinstance(error, MedsegError):
        error = error.__cause__ or error.__context__
    return error


def count_of(number: int, noun: str) -> str:
    """`3 cases`, `1 case`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], shown: int = 5) -> str:
    """The first of many names, and how many more there are."""
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


@contextmanager
def below(key: str) -> Iterator[None]:
    """Inside it the problems of a user's mistake are those of a section of the config: `merge` is `data.merge`.

    For the layer that takes arguments out of a config, since those that take them know of none.
    """
    try:
        yield
    except MedsegError as error:
        raise type(error)(
            [replace(one, where=f"{key}.{one.where}" if one.where else key) for one in error.problems]
        ) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'unet'?"` when something close exists, else the list of known names, if there are any."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
