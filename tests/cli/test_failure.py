"""A command that fails says so in one screen, keeps the traceback in a log, and goes on when it is given again."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg.cli import failure
from medseg.core.errors import DataError, Problem
from medseg.core.foreign import SYSTEM
from tests.tiny import finish, same_weights, torchrun, train_arguments

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Fails = Callable[[str, str], int | None]
_fails: Fails | None = None
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Asks, before a file is opened to be written, a folder made or a file renamed, whether the system refuses."""
    if _fails is None or event not in ("open", "os.mkdir", "os.rename"):
        return
    path, *rest = arguments
    if event == "open" and not (isinstance(rest[1], int) and rest[1] & WRITES):
        return
    place = os.fsdecode(rest[0] if event == "os.rename" else path) if isinstance(path, (str, bytes, Path)) else ""
    if (number := _fails(event, place)) is not None:
        raise OSError(number, os.strerror(number), place)


@pytest.fixture
def refuse() -> Iterator[Callable[[Fails], None]]:
    """refuse(fails): the system refuses operations as `fails(event, path)` says, which gives an errno or None."""
    global _fails, _installed
    if not _installed:  # a hook stays for ever
        sys.addaudithook(_hook)
        _installed = True

    def begin(fails: Fails) -> None:
        global _fails
        _fails = fails

    yield begin
    _fails = None


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Once:
    """Refuses the first operation of each kind below a folder: an event, and a name but for what counts in it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = str(folder), number
        self.seen: set[tuple[str, str]] = set()
        self.refused: list[tuple[str, str]] = []

    def __call__(self, event: str, place: str) -> int | None:
        name = os.path.basename(place)
        if not place.startswith(self.folder) or name.startswith("medseg-error"):
            return None
        kind = (event, re.sub(r"[0-9a-f]{8,}|\d+", "N", name))
        if kind in self.seen:
            return None
        self.seen.add(kind)
        self.refused.append(kind)
        return self.number


def check_screen(code: int, err: str, place: Path) -> None:
    """A message that fits a screen, and a log where it says."""
    assert code in (1, 2), err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "%|" not in line]) < 40, err
    if match := re.search(r"the traceback is in (\S+)", err):
        assert Path(match[1]).is_relative_to(place)
        assert "Traceback" in Path(match[1]).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EACCES, marks=pytest.mark.campaign)])
def test_a_training_whose_writes_fail_one_after_the_other_ends_as_if_none_had(
    medseg: Any, tiny_msd: Any, tmp_path: Path, logs: Path, refuse: Any, number: int
) -> None:
    root = tiny_msd(cases=4)
    plain = train_arguments(root, tmp_path / "plain")
    assert medseg(*plain)[0] == 0
    run = tmp_path / "run"
    once = Once(run, number)
    refuse(once)
    code, attempts = 2, 0
    while code:
        before, attempts = len(once.refused), attempts + 1
        code, _, err = medseg(*train_arguments(root, run))
        if code:
            assert len(once.refused) > before, err
            check_screen(code, err, tmp_path.parent)
    assert attempts > 8, once.refused
    assert same_weights(tmp_path / "plain" / "models" / "model.pt", run / "models" / "model.pt")


@pytest.mark.slow
def test_a_prediction_whose_writes_fail_one_after_the_other_ends_as_if_none_had(
    medseg: Any, trained: tuple[Path, Path], tmp_path: Path, logs: Path, refuse: Any
) -> None:
    run, root = trained
    once = Once(tmp_path / "masks", errno.ENOSPC)
    refuse(once)
    arguments = ["predict", "--run", str(run), "--input", str(root / "imagesTr"), "--output", str(tmp_path / "masks")]
    code, attempts = 2, 0
    while code:
        before, attempts = len(once.refused), attempts + 1
        code, _, err = medseg(*arguments)
        if code:
            assert len(once.refused) > before, err
            check_screen(code, err, tmp_path.parent)
            assert "the disk is full" in err or "cannot be written to" in err
    assert attempts > 3, once.refused
    assert not [*run.glob("medseg-error-*")], "the run is only read"
    names = {file.name for file in (root / "imagesTr").iterdir()}
    assert {file.name for file in (tmp_path / "masks").glob("*.nii.gz")} == names


@pytest.mark.parametrize("number", SYSTEM, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_whatever_the_system_says_is_a_message(
    medseg: Any, replace: Any, tmp_path: Path, logs: Path, verb: str, number: int
) -> None:
    if number == errno.EPIPE:
        pytest.skip("who reads the output has gone: nobody is told")
    replace(f"medseg.workflows.{verb}", verb, OSError(number, "said", "/place"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mask.nii.gz").touch()
    given = ["--input", "x"] if verb == "predict" else []
    code, _, err = medseg(verb, "--run", "x", *given, "--output", str(tmp_path / "out"))
    check_screen(code, err, tmp_path)
    assert err.startswith(f"error: /place: {SYSTEM[number][0]}\n    -> {SYSTEM[number][1]}\n")
    [log] = tmp_path.glob("out/medseg-error-*.log")
    assert f"the traceback is in {log}" in err


def test_a_log_that_cannot_be_written_lies_elsewhere_or_nowhere(
    medseg: Any, replace: Any, tmp_path: Path, logs: Path, refuse: Any
) -> None:
    replace("medseg.workflows.evaluate", "evaluate", MemoryError("no more"))
    (tmp_path / "metrics.json").touch()
    refuse(lambda event, place: errno.ENOSPC if str(tmp_path) in place else None)
    code, _, err = medseg("evaluate", "--run", "x", f"--output={tmp_path}")
    check_screen(code, err, logs)
    assert f"the traceback is in {logs}" in err
    refuse(lambda event, place: errno.EROFS if "medseg-error" in place else None)
    code, _, err = medseg("evaluate", "--run", "x", f"--output={tmp_path}")
    assert (code, err.splitlines()[-1]) == (2, "    the traceback could be written nowhere")


def test_there_may_be_no_temporary_folder(medseg: Any, replace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", full)
    replace("medseg.workflows.evaluate", "evaluate", MemoryError("no more"))
    code, _, err = medseg("evaluate", "--run", "x")
    assert (code, err.splitlines()[-1]) == (2, "    the traceback could be written nowhere")


@pytest.mark.parametrize(
    ("arguments", "folders"),
    [
        (["--output", "out"], ["out"]),
        (["--run=run"], ["run"]),
        (["--run", "run", "--output", "out"], ["out"]),
        (["--run", "run", "--output", "none"], []),
        (["--run", "a\0b", "--output", "file"], []),
        (["--output"], []),
        (["--run", "empty"], []),
        (["--run", "x" * 5000], []),
    ],
)
def test_where_a_log_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], folders: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name in ("out", "run", "empty"):
        (tmp_path / name).mkdir()
    for name in ("out", "run"):
        (tmp_path / name / "file").touch()
    assert [*failure.written_folders(arguments)] == [Path(name) for name in folders]


def test_a_message_has_no_line_without_end_and_can_be_printed() -> None:
    text = failure.text_of(DataError(Problem("caf\udce9", "x" * 100_000, "mend it")))
    assert len(text) < 1200
    assert text.encode().endswith(b"mend it")


@pytest.mark.slow
def test_a_mistake_is_one_message_whatever_the_number_of_processes(tmp_path: Path) -> None:
    process = torchrun(2, "train", "--config", "demo", "--set", "data.root=nowhere", cwd=tmp_path)
    _, err = finish(process, expect=1)
    assert err.count("nowhere: no such folder") == 1
