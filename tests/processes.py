"""`python -m MODULE ...` as a process of its own that need not import PyTorch anew.

A server imports the libraries once and forks every process from there (`multiprocessing`'s fork server). medseg itself
is not among them: each process imports its own. What is left out is the start of Python.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "ignite.engine",
    "ignite.handlers",
    "matplotlib.pyplot",
    "monai.bundle",
    "monai.engines",
    "nibabel",
    "PIL.Image",
    "pydantic",
    "ruamel.yaml",
    "scipy.ndimage",
    "SimpleITK",
    "tifffile",
    "torch.distributed",
    "torch.utils.tensorboard",
    "typer",
)
HOLD = """
import sys
from pathlib import Path
from medseg.core.files import writing_name
from medseg.core.lock import writing_to
folder = Path(sys.argv[1])
with writing_to(folder, "", only=sys.argv[2]):
    (folder / writing_name("model.pt")).write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.read()
"""
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*LIBRARIES])


class Module:
    """A module that runs in a process of its own, with one thread, so that results repeat.

    Args:
        module: its name, as after `python -m`.
        arguments: what follows.
        cwd: the folder that it runs in.
        environment: variables besides those of this process.
    """

    def __init__(
        self, module: str, arguments: Sequence[str | Path], *, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._output = tempfile.TemporaryDirectory()
        self._files = [Path(self._output.name, name) for name in ("out", "err")]
        words = [module, *map(str, arguments)]
        variables = {"PYTHONPATH": str(ROOT), **(environment or {})}  # of what it starts itself
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # of the server, which starts with the first process
        try:
            self._process = _CONTEXT.Process(target=_run, args=(words, str(cwd), variables, self._files))
            self._process.start()
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, -N if signal N ended it; None while it runs."""
        return self._process.exitcode

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def finish(self, seconds: float = 300) -> tuple[int, str, str]:
        """Wait for it: its exit code, and what it printed to standard output and error.

        Raises:
            TimeoutError: it takes longer; it is ended.
        """
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        if code is None:
            raise TimeoutError(f"still running after {seconds} s\n{out}\n{err}")
        self._output.cleanup()
        return code, out, err


def _run(words: list[str], cwd: str, variables: Mapping[str, str], files: Sequence[Path]) -> None:
    """In the new process: `python -m` with these words, standard output and error into files."""
    for number, path in ((0, Path(os.devnull)), *zip((1, 2), files, strict=True)):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, "r" if number == 0 else "w", buffering=1, closefd=False) for number in range(3)
    )
    multiprocessing.set_start_method(None, force=True)  # the module decides for itself, as in any other process
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = words
    sys.path[:0] = [cwd, str(ROOT)]  # as `python -m` has it
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


@contextmanager
def writer_of(folder: Path, only: str = "") -> Iterator[subprocess.Popen]:
    """Another process that writes to the folder, or to one file in it, and holds its lock."""
    command = [sys.executable, "-c", HOLD, str(folder), only]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()
