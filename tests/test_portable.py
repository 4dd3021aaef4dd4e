"""People have Windows and macOS: what only POSIX has is asked for first, and loaders may be spawned."""

from __future__ import annotations

import ast
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medseg.workflows.train import train
from tests.test_layers import MODULES, name_of
from tests.tiny import same_weights, tiny_config

ONLY_POSIX = {
    "os": "fork forkpty getuid geteuid getgid getegid getgroups getpgid getpgrp setsid setpgid killpg wait nice uname"
    " sched_getaffinity sched_setaffinity statvfs fstatvfs sysconf getloadavg chown lchown fchown fchmod mkfifo mknod"
    " sync fdatasync posix_fadvise posix_fallocate sendfile pread pwrite openpty ttyname register_at_fork lockf chroot"
    " O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC O_DSYNC O_CLOEXEC RTLD_NOW",
    "signal": "SIGKILL SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGSTOP SIGCONT SIGXCPU alarm setitimer"
    " pthread_kill pthread_sigmask siginterrupt sigwait pause",
    "time": "tzset clock_gettime pthread_getcpuclockid",
}
NAMES = {f"{module}.{name}" for module, names in ONLY_POSIX.items() for name in names.split()}
MODULES_OF_POSIX = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "posix", "syslog", "readline", "curses"}
MIGHT_FAIL = {"os.link", "os.symlink"}  # they are there, and refused by many a file system, or without rights


def unguarded(source: str) -> Iterator[str]:
    """Uses of what only POSIX has that nothing asks for: no `hasattr`, `getattr`, `try`, nor a look at the platform."""

    def walk(node: ast.AST, guarded: bool) -> Iterator[str]:
        if isinstance(node, ast.Try):
            for part in ("body", "handlers", "orelse", "finalbody"):
                for child in getattr(node, part):
                    yield from walk(child, guarded or part == "body")
            return
        if isinstance(node, ast.With):
            guarded = guarded or any("suppress(" in ast.unparse(item) for item in node.items)
        if isinstance(node, ast.If | ast.IfExp):
            asks = any(word in ast.unparse(node.test) for word in ("hasattr", "platform", "os.name"))
            guarded = guarded or asks
        if isinstance(node, ast.FunctionDef):  # `if sys.platform ...: return` at its beginning
            first = " ".join(ast.unparse(one) for one in node.body[:3] if isinstance(one, ast.If))
            guarded = guarded or "sys.platform" in first or "os.name" in first
        used = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if not guarded and used in NAMES | MIGHT_FAIL:
            yield f"line {node.lineno}: {used}"  # type: ignore[attr-defined]
        if not guarded:
            yield from (f"import {name}" for name in imported if name in MODULES_OF_POSIX)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, guarded)

    yield from walk(ast.parse(source), False)


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_what_only_posix_has_is_asked_for_first(file: Path) -> None:
    assert not [*unguarded(file.read_text(encoding="utf-8"))]


def test_what_is_unguarded_is_found() -> None:
    for line in ("os.fork()", "import fcntl", "from resource import getrusage", "x = signal.SIGKILL", "os.link(a, b)"):
        assert [*unguarded(line)], line
        assert [*unguarded(f"def f():\n    try:\n        pass\n    except OSError:\n        {line}")], line
        assert not [*unguarded(f"try:\n    {line}\nexcept (OSError, AttributeError):\n    pass")], line
        assert not [*unguarded(f"if sys.platform != 'win32':\n    {line}")], line
    assert not [*unguarded("n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1")]


@pytest.mark.slow
def test_a_training_whose_loaders_are_spawned_is_that_without(
    tiny_msd: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows and macOS: all that is given to a process of the loader is pickled."""
    config = tiny_config(tiny_msd(cases=2), training__max_epochs=1, data__validation=0.0)
    train(config, run=tmp_path / "alone")
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        workers = config.training.model_copy(update={"workers": 1})
        train(config.model_copy(update={"training": workers}), run=tmp_path / "spawned")
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert same_weights(*(tmp_path / run / "models" / "model.pt" for run in ("alone", "spawned")))
