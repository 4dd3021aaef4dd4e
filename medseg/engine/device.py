"""What the hardware decides: device, precision, memory layout, seeds and the process group."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as distributed
from threadpoolctl import threadpool_limits

from medseg.core.errors import ConfigError, DataError, MedsegError, Problem, RunError
from medseg.engine.memory import keep_freed_memory

Result = TypeVar("Result")

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other's work, such as a share of the cases to preprocess."""
SILENCE = timedelta(minutes=1)
"""After how long one that waits says so."""
_patient: list[distributed.ProcessGroup] = []  # the group that is joined with `process_group` waits in it

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU of this process when there is one, else the CPU.

    Raises:
        ConfigError: a GPU is asked for by name and this machine has none.
    """
    if name == "auto":
        name = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        what = f"{name} asked for, but PyTorch sees no GPU here"
        raise ConfigError(Problem("device", what, "use auto or cpu"))
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, float16 on older GPUs, else float32."""
    if name != "auto":
        if name == "float16" and device.type == "cpu":
            what = "float16 has no loss scaling on a CPU"
            raise ConfigError(Problem("precision", what, "use auto, bfloat16 or float32"))
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    flags = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends.cpu, "get_cpu_capability") else ""
    has_bfloat16 = flags == "AVX512" and torch.cpu._is_avx512_bf16_supported()  # AMX implies it too
    return torch.bfloat16 if has_bfloat16 or torch.cpu._is_amx_tile_supported() else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The autocast context for `precision`; float32 switches it off."""
    enabled = precision != torch.float32
    return torch.autocast(device.type, dtype=precision if enabled else torch.bfloat16, enabled=enabled)


def memory_format(spatial_dims: int) -> torch.memory_format:
    """Channels last: the layout in which oneDNN and cuDNN compute convolutions fastest."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def prepare(seed: int, deterministic: bool = False) -> None:
    """Seed every generator, set cuDNN, the allocator and NumPy's threads up; the first thing that a bundle does.

    Args:
        seed: seed of python, numpy and torch, so that the weights of a network do not depend on the process.
        deterministic: only deterministic algorithms on a GPU (slower); a CPU is deterministic anyway.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    set_up(deterministic)
    leave_cores_to_torch()


def set_up(deterministic: bool = False) -> None:
    """cuDNN, TF32 and the allocator as `prepare` sets them; no generator is touched."""
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic or torch.are_deterministic_algorithms_enabled():  # the call itself imports PyTorch's compiler
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not deterministic
    else:
        keep_freed_memory()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def leave_cores_to_torch() -> None:
    """One thread for NumPy's products: its threads spin for a while after each, on the cores that PyTorch's work on."""
    threadpool_limits(1, user_api="blas")


def local_rank() -> int:
    """Number of this process on its machine, as `torchrun` says."""
    return int(os.environ.get("LOCAL_RANK", 0))


def rank() -> int:
    """Number of this process among all of them, also before they have joined and after they have parted again."""
    return distributed.get_rank() if distributed.is_initialized() else int(os.environ.get("RANK", 0))


def _place() -> int:
    """Number of this process among those that it has joined; 0 where it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes when started by `torchrun`; leave again whatever happens."""
    joined = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not distributed.is_initialized()
    if joined:
        choose_device()  # each process takes its own GPU before NCCL opens one
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        _patient.append(distributed.new_group(backend="gloo", timeout=PATIENCE))
    try:
        yield
    finally:
        if joined:
            _patient.clear()
            distributed.destroy_process_group()
            # A trained network stands in circles of references and holds the group; Gloo's threads must end with the
            # group, before Python does: PyTorch aborts the process where one of them lets go of a tensor later.
            gc.collect()


def gather(objects: list) -> list:
    """The lists of all processes joined in the order of ranks; uneven lengths are fine."""
    if world_size() == 1:
        return objects
    parts: list = [None] * world_size()
    with _waiting() as group:
        distributed.all_gather_object(parts, objects, group=group)
    return [item for part in parts for item in part]


@contextlib.contextmanager
def _waiting() -> Iterator[distributed.ProcessGroup | None]:
    """The group in which processes wait for each other's work; over NCCL they would be aborted after ten minutes.

    Raises:
        RunError: another process has ended, or says nothing for `PATIENCE`.
    """
    over = threading.Event()
    if _place() <= 1:  # of many that wait for one, one says so
        threading.Thread(target=_say_waiting, args=(over,), daemon=True).start()
    try:
        yield _patient[0] if _patient else None
    except RuntimeError as error:
        raise _left_alone() from error
    finally:
        over.set()


def _left_alone() -> RunError:
    minutes = PATIENCE.total_seconds() / 60
    what = f"another process has ended, or did not answer for {minutes:g} minutes"
    remedy = "what it printed says why; the same command goes on from what is saved and preprocessed"
    return RunError(Problem(f"process {rank()} of {world_size()}", what, remedy))


class Largest:
    """The largest of a number of every process, found out while they compute."""

    def __init__(self) -> None:
        self._number = torch.zeros(1, dtype=torch.int32)
        self._work: distributed.Work | None = None

    def ask(self, number: int) -> None:
        """Begin; every process does, at the same place."""
        self._number = torch.tensor([number], dtype=torch.int32)
        if world_size() > 1:
            group = _patient[0] if _patient else None
            self._work = distributed.all_reduce(self._number, distributed.ReduceOp.MAX, group=group, async_op=True)

    def answer(self) -> int:
        """That of the last `ask`; raises RunError where another process has ended."""
        if self._work is not None:
            try:
                self._work.wait()
            except RuntimeError as error:
                raise _left_alone() from error
        self._work = None
        return int(self._number)


def _say_waiting(over: threading.Event) -> None:
    """Say that this process waits, after a minute and then each time when it has waited twice as long, until `over`."""
    who, most = f"process {_place()} of {world_size()}", PATIENCE.total_seconds() / 60
    started, waited = time.monotonic(), 0.0
    while not over.wait(max(waited, SILENCE.total_seconds())):
        waited = time.monotonic() - started
        what = "the others are still at work (reading, preprocessing or scoring cases)"
        print(f"{who} has waited for {waited / 60:.0f} min: {what}; it waits {most:g} min at most", file=sys.stderr)


def shard(cases: Sequence) -> list:
    """The cases of this process: `cases[number::world_size]`, unpadded, so that no case counts twice in evaluation."""
    return list(cases)[_place() :: world_size()]


def place(network: torch.nn.Module, device: torch.device, spatial_dims: int) -> torch.nn.Module:
    """The network on the device, its weights in channels-last order."""
    return network.to(device, memory_format=memory_format(spatial_dims))  # type: ignore[call-overload]


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch, its tensors on the device; `sample` stays: this process reads it, and would wait for a GPU."""
    return {
        key: value.to(device, non_blocking=True) if torch.is_tensor(value) and key != "sample" else value
        for key, value in batch.items()
    }


def in_shares(work: Callable[[int, int], object]) -> None:
    """Call `work(number, processes)` for its share in every process; then, when all are ready, `work(0, 1)` in each,
    which finds on disk what the others did.

    Raises:
        DataError: of all shares together, in every process; another error of a share is raised in all too.
    """
    if world_size() == 1:
        work(0, 1)
        return
    failure = None
    try:
        work(_place(), world_size())
    except Exception as error:  # the others wait, and have to hear of it
        failure = error
    failures = [error for error in gather([_portable(failure)]) if error is not None]
    problems = [problem for error in failures if isinstance(error, DataError) for problem in error.problems]
    if failures:
        other = next((error for error in failures if not isinstance(error, DataError)), None)
        raise _told(other or DataError(problems))
    work(0, 1)


def in_first_process(work: Callable[[], Result]) -> Result | None:
    """What `work` gives in the first process, while the others wait and get None: for what only one may write.

    What it raises there is raised in all.
    """
    result, failure = _tried(work)
    _shared([], failure)
    return result


def of_first_process(work: Callable[[], Result]) -> Result:
    """What `work` gives in the first process, for all of them: what has to be decided alike. It can be pickled.

    What it raises there is raised in all.
    """
    result, failure = _tried(work)
    (shared,) = _shared([result], failure)
    return cast(Result, shared)


@contextlib.contextmanager
def of_first(context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Enter a context in the first process alone, for all: what it raises on the way in is raised in all."""
    with contextlib.ExitStack() as stack:
        in_first_process(lambda: stack.enter_context(context))
        yield


def _tried(work: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    """What `work` gives in the first process, or what it raises."""
    if _place() != 0:
        return None, None
    try:
        return work(), None
    except Exception as error:  # the others wait, and have to hear of it
        return None, error


def _shared(results: list[Any], failure: Exception | None) -> list[Any]:
    """The results of the first process, in all; raises its failure in all."""
    told = failure
    if world_size() > 1:
        sent = [*results, _portable(failure)]
        with _waiting() as group:
            distributed.broadcast_object_list(sent, group=group)
        *results, told = sent
    error = failure or told  # of the first process its own, which knows where it comes from
    if error is not None:
        raise _told(error)
    return results


def _told(error: Exception) -> Exception:
    """The error, which all processes raise: but the first, they leave it to that one to say it."""
    if isinstance(error, MedsegError):
        error.told = _place() != 0
    return error


def _portable(error: Exception | None) -> Exception | None:
    """The error, or what it says where another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def speaks() -> bool:
    """Whether this process is the one that prints, also where the processes have not joined, or have parted again."""
    return rank() == 0
