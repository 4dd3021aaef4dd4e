from __future__ import annotations

import os
import threading
import time

import pytest

from medseg.core import parallel
from medseg.core.errors import DataError, Problem
from medseg.core.parallel import every_result, in_processes, in_threads


def test_threads_give_results_in_order_and_are_prepared() -> None:
    prepared: list[int] = []

    def work(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)  # the first is the last to be ready
        return number * number

    found = list(in_threads(work, range(6), 3, prepare=lambda: prepared.append(threading.get_ident())))
    assert found == [0, 1, 4, 9, 16, 25]
    assert 1 <= len(prepared) == len(set(prepared)) <= 3
    assert threading.get_ident() not in prepared


def test_there_are_as_many_threads_as_cores_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = parallel.ThreadPoolExecutor

    def pool(workers: int, **options: object) -> object:
        asked.append(workers)
        return real(workers, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", pool)
    for cores in (3, 64):
        monkeypatch.setattr(parallel, "count_cores", lambda cores=cores: cores)
        assert list(in_threads(abs, [-1])) == [1]
    assert asked == [3, parallel.MOST_THREADS]


def process_of(_: int) -> int:
    return os.getpid()


def test_few_items_stay_in_this_process_and_many_do_not() -> None:
    assert set(in_processes(process_of, range(parallel.FEW), 2)) == {os.getpid()}
    assert os.getpid() not in set(in_processes(process_of, range(2 * parallel.FEW), 2))
    assert list(in_processes(abs, [-n for n in range(20)], 2)) == list(range(20))


def test_every_problem_is_told_at_once_and_other_errors_as_they_are() -> None:
    def work(number: int) -> int:
        if number % 2:
            raise DataError([Problem(f"case {number}", "is odd"), Problem(f"case {number}", "is not even")])
        return number

    assert every_result(work, [0, 2, 4]) == [0, 2, 4]
    with pytest.raises(DataError) as caught:
        every_result(work, range(4))
    assert [problem.where for problem in caught.value.problems] == ["case 1", "case 1", "case 3", "case 3"]
    with pytest.raises(ZeroDivisionError):
        every_result(lambda number: 1 // number, [0])
