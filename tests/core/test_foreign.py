"""Errors of the system, of PyTorch and of MONAI become messages; those of medseg's own making stay what they are."""

from __future__ import annotations

import csv
import errno
import json
import os
import pickle
import zlib
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

from medseg.core import foreign
from medseg.core.errors import DataError, MedsegError, Problem, SystemFailure
from medseg.core.foreign import SYSTEM, causes, explained, lacks_memory, unwrapped


def raised(work: Callable[[], Any]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def by_monai(error: Exception) -> Exception:
    """The error as MONAI hands it over that makes a component in which it is raised."""
    from monai.bundle import ConfigParser

    def fail() -> None:
        raise error

    return raised(lambda: ConfigParser({"part": {"_target_": fail}}).get_parsed_content("part"))


def by_worker(error: Exception) -> Exception:
    """The error as PyTorch hands it over from a process that loads data."""
    try:
        raise error
    except Exception:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    return raised(wrapped.reraise)


WRAPPED = (lambda error: error, by_monai, by_worker)


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("number", SYSTEM, ids=lambda number: errno.errorcode[number])
def test_every_error_of_the_system_has_a_cause_and_a_remedy(number: int, wrapped: Any) -> None:
    known = explained(wrapped(OSError(number, "said by the system", "/place/file")))
    assert isinstance(known, SystemFailure)
    [problem] = known.problems
    assert (problem.what, problem.remedy) == SYSTEM[number]
    assert problem.where == "/place/file" or wrapped is by_worker
    assert known.exit_code == 2


def test_another_error_of_the_system_says_what_that_says() -> None:
    known = explained(OSError(errno.ENOTTY, "x", "device"))
    assert known is not None
    assert "Inappropriate ioctl" in str(known)
    assert "device: " in str(known)


def batch_norm() -> None:
    torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))


def instance_norm() -> None:
    torch.nn.InstanceNorm2d(3)(torch.zeros(1, 3, 1, 1))


MADE = {
    "a norm layer gets a single value": raised(batch_norm),
    "a norm layer gets a single": raised(instance_norm),
    "is for GPUs": ValueError("SyncBatchNorm expected input tensor to be on GPU or XPU"),
    "syncbatch is for": ValueError("SyncBatchNorm layers only work with GPU modules"),
    "there is no more memory": raised(lambda: torch.empty(2**60)),
    "no more memory": raised(lambda: np.empty(2**45)),
    "damaged JSON": raised(lambda: json.loads("{")),
    "damaged CSV": raised(lambda: list(csv.reader(["a" * 200_000]))),
    "damaged file": raised(lambda: zlib.decompress(b"nothing")),
    "should be text in UTF-8": raised(lambda: b"\xff".decode()),
    "is not UTF-8": raised(lambda: "caf\udce9.nii".encode()),
    "nested too deeply": raised(lambda: json.loads("[" * 100_000)),
    "a character 0": raised(lambda: os.stat("a\0b")),
    "killed by the system (Killed)": RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
    "killed by the system:": RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
    "that loads data was killed": BrokenProcessPool("A process in the process pool was terminated abruptly"),
    "no more shared memory": RuntimeError(
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out "
        "of shared memory. Please try to raise your shared memory limit."
    ),
    "have no more shared memory": RuntimeError(
        "unable to write to file </torch_28_3929_0>: No space left on device (28)"
    ),
    "as many files open": RuntimeError("received 0 items of ancdata"),
    "PyTorch fails in itself: pool INTERNAL": RuntimeError('pool INTERNAL ASSERT FAILED at "x.cpp":64, please report'),
    "the GPU, or its driver, fails": RuntimeError("CUDA error: an illegal memory access was encountered\nmore"),
    "lost one another": RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"),
    "memory: CUDA out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("words", MADE)
def test_what_libraries_raise_has_a_cause_and_a_remedy(words: str, wrapped: Any) -> None:
    error = MADE[words]
    if wrapped is by_worker and not isinstance(error, (RuntimeError, OSError, MemoryError)):
        pytest.skip("a loader's process is one that reads images, whose errors are a case's")
    known = explained(wrapped(error))
    assert isinstance(known, SystemFailure)
    [problem] = known.problems
    assert words in problem.what or wrapped is by_worker
    assert problem.remedy
    assert "Traceback" not in str(known)
    assert len(str(known)) < 600


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_users_mistake_comes_out_as_itself(wrapped: Any) -> None:
    known = explained(wrapped(DataError(Problem("scan.nii", "is empty", "remove it"))))
    assert str(known) == "scan.nii: is empty\n    -> remove it"
    assert isinstance(known, MedsegError)
    assert not isinstance(known, SystemFailure)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyError, AttributeError, RuntimeError, ValueError, TypeError])
def test_a_mistake_of_medseg_is_none_of_these(kind: type[Exception]) -> None:
    error = by_monai(kind("what no user can do"))
    assert explained(error) is None
    assert type([*causes(error)][-1]) is kind
    with pytest.raises(RuntimeError), unwrapped():
        raise error


def test_unwrapped_keeps_the_whole_chain_for_the_log() -> None:
    error = by_monai(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(SystemFailure, match="disk is full") as caught, unwrapped():
        raise error
    assert caught.value.__cause__ is error


def test_a_failure_reaches_another_process_with_its_remedy() -> None:
    known = explained(OSError(errno.EROFS, "x", "disk"))
    copy = pickle.loads(pickle.dumps(known))
    assert str(copy) == str(known)
    assert copy.problems == known.problems


def test_a_full_memory_is_known_whoever_says_so() -> None:
    for words, error in MADE.items():
        assert (lacks_memory(error) is not None) == ("memory" in words and "shared" not in words), words
    assert "2.00 GiB" in str(lacks_memory(by_monai(MADE["memory: CUDA out of memory"])))


def test_circles_of_causes_end() -> None:
    one, other = KeyError("a"), KeyError("b")
    one.__cause__, other.__cause__ = other, one
    assert len([*causes(one)]) == 2


def test_a_name_that_is_not_utf8_can_be_printed() -> None:
    assert foreign.shown_path(b"caf\xe9.nii") == "caf\\udce9.nii"
    assert foreign.shown_path("café.nii") == "café.nii"
