"""The one pool: the same work on many items, by threads or by processes, its results in the order of the items."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
from typing import Any, TypeVar

from tqdm import tqdm

from medseg.core.errors import DataError, Problem
from medseg.core.machine import count_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 8  # each holds a case or two in memory, and a disk serves no more at once
FEW = 8  # items a process: for fewer it is not worth starting one
HIDDEN = {"__spec__": None, "__file__": None}  # by what of `__main__` multiprocessing finds the program to import
_starting = Lock()
_carried: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []


class _WithoutMain(SpawnProcess):
    """A fresh process that does not import the program that starts it.

    A user's script without `if __name__ == "__main__"` would run once more in it. (joblib's loky hides it as well.)
    """

    def start(self) -> None:
        with _starting:
            main = vars(sys.modules["__main__"])
            known = {name: main[name] for name in HIDDEN if name in main}
            main.update(HIDDEN)
            try:
                super().start()
            finally:
                for name in HIDDEN:
                    del main[name]
                main.update(known)


class _Fresh(SpawnContext):
    """Fresh processes: a copy of this one would copy its threads' locks as well."""

    Process = _WithoutMain


def carry(now: Callable[[], Any], begin: Callable[[Any], None]) -> None:
    """Each process that `in_processes` starts begins with `begin(now())`, as it is where the processes are started.

    Both are functions of modules, and what is given is picklable.
    """
    _carried.append((now, begin))


def in_threads(
    work: Callable[[Item], Result],
    items: Collection[Item],
    workers: int | None = None,
    prepare: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """The results in the order of the items: for work that leaves the interpreter free (reading, NumPy, PyTorch).

    What the caller's context variables hold (`contextvars`), they hold for each item too.

    Args:
        workers: threads; default: one a core, at most `MOST_THREADS`.
        prepare: called once in each thread.
    """
    with ThreadPoolExecutor(workers or min(MOST_THREADS, count_cores()), initializer=prepare) as pool:
        here = copy_context()
        yield from pool.map(lambda item: here.copy().run(work, item), items)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Iterator[Result]:
    """The results in the order of the items: for work in Python itself; work, items and results must be picklable.

    What they are made of must be of modules: a process does not know what the program itself (`__main__`) defines.

    Args:
        workers: processes, at most; default: one a core.
    """
    workers = min(workers or count_cores(), max(1, len(items) // FEW))
    if workers == 1:
        yield from map(work, items)
        return
    given = [(begin, now()) for now, begin in _carried]
    with ProcessPoolExecutor(workers, mp_context=_Fresh(), initializer=_begin, initargs=(given,)) as pool:
        yield from pool.map(work, items, chunksize=max(1, min(8, len(items) // (4 * workers))))


def _begin(given: Sequence[tuple[Callable[[Any], None], Any]]) -> None:
    """Ctrl-C reaches all processes of a terminal: the one that started this one ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for begin, value in given:
        begin(value)


def every_result(
    work: Callable[[Item], Result],
    items: Collection[Item],
    workers: int | None = None,
    bar: str | None = None,
) -> list[Result]:
    """The results of all items, by threads as in `in_threads`.

    Args:
        bar: what to call a bar of the progress, which is shown in a terminal only; None: no bar.

    Raises:
        DataError: the problems of all items that failed with one, at once.
    """

    def attempt(item: Item) -> tuple[Result] | DataError:
        try:
            return (work(item),)
        except DataError as error:
            return error

    hidden = True if bar is None else None
    outcomes = in_threads(attempt, items, workers)
    shown = tqdm(outcomes, bar, len(items), unit="case", disable=hidden, leave=False)
    results: list[Result] = []
    problems: list[Problem] = []
    for outcome in shown:
        if isinstance(outcome, DataError):
            problems += outcome.problems
        else:
            results += outcome
    if problems:
        raise DataError(problems)
    return results
