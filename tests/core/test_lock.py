"""One writer a folder, and nothing that was being written stays when its writer is no more."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from medseg.core import lock, owner
from medseg.core.errors import RunError
from medseg.core.files import WRITING, replace_file, sweep, writing_name
from medseg.core.lock import LOCK, writing_to
from medseg.core.owner import Owner, owner_died
from tests.processes import writer_of


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that writes to `tmp_path / "run"`."""
    with writer_of(tmp_path / "run") as process:
        yield process


def test_only_one_writes_and_the_lock_of_the_dead_is_taken_over(holder: subprocess.Popen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with (
        pytest.raises(RunError, match=f"process {holder.pid} on .* is writing there\n    -> wait for it"),
        writing_to(run, ""),
    ):
        pass
    assert len(list(run.glob(f"{WRITING}*"))) == 1, "it lives: what it writes stays"
    holder.kill()
    holder.wait()
    with writing_to(run, ""):
        assert [file.name for file in run.iterdir()] == [LOCK], "what it was writing is gone"
        assert json.loads((run / LOCK).read_text())["process"] == os.getpid()
        with writing_to(run, ""):
            assert (run / LOCK).exists()
        assert (run / LOCK).exists(), "it was this process's before"
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', '{"host": "a", "process": "x", "start": ""}'])
def test_a_lock_that_was_not_written_to_its_end_is_nobodys(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with writing_to(tmp_path, ""):
        assert json.loads((tmp_path / LOCK).read_text()) == Owner.this().as_dict()


def test_another_machine_is_not_asked(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.write_text(json.dumps({"host": "another", "process": 1, "start": "1"}))
    with (
        pytest.raises(RunError, match=r"process 1 on another.*\n    -> if it is no more, remove the file .*"),
        writing_to(tmp_path, ""),
    ):
        pass
    assert "another" in lock.read_text()


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path: Path) -> None:
    me = Owner.this()
    (tmp_path / LOCK).write_text(json.dumps({**me.as_dict(), "process": os.getppid(), "start": "1"}))
    with writing_to(tmp_path, ""):
        pass


def test_a_folder_that_was_made_for_nothing_goes(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing_to(tmp_path / "new", ""):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with writing_to(tmp_path / "new", ""):
        replace_file(tmp_path / "new" / "file", "text")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["file"]


def _count(folder: Path, times: int) -> None:
    done = 0
    while done < times:
        try:
            with writing_to(folder, ""):
                file = folder / "count"
                replace_file(file, str(int(file.read_text()) + 1))
                done += 1
        except RunError:
            pass


def test_many_writers_never_meet(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = get_context("fork")
    processes = [context.Process(target=_count, args=(tmp_path, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert (tmp_path / "count").read_text() == "60"
    assert [file.name for file in tmp_path.iterdir()] == ["count"]


def _die_writing(folder: Path) -> None:
    (folder / writing_name("a.nii.gz")).write_bytes(b"half")
    (folder / writing_name("masks")).mkdir()
    os._exit(1)


def test_what_the_dead_were_writing_goes_with_the_next_write(tmp_path: Path) -> None:
    process = get_context("fork").Process(target=_die_writing, args=(tmp_path,))
    process.start()
    process.join()
    mine, others = tmp_path / writing_name("x"), tmp_path / f"{WRITING}abcdef-1-1-0-x"
    for file in (mine, others, tmp_path / f"{WRITING}1-model.pt", tmp_path / "notes"):
        file.touch()
    assert len(list(tmp_path.iterdir())) == 6
    sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {mine.name, others.name, f"{WRITING}1-model.pt", "notes"}


def test_names_of_what_is_being_written() -> None:
    names = [writing_name("x" * 250 + ".nii.gz") for _ in range(100)]
    assert len(set(names)) == 100
    assert all(name.endswith(".nii.gz") and len(name) < 100 for name in names)
    assert not owner_died(Owner.this().tag)
    assert not any(owner_died(tag) for tag in ("", "1", "a-b-c", "----", f"{Owner.this().tag}-9"))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_a_holder_that_another_container_does_not_see_lives(
    holder: subprocess.Popen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same name of a machine, but with numbers of processes of its own, where the holder's is nobody's."""
    monkeypatch.setattr(Owner, "dead", True)
    with pytest.raises(RunError, match=f"process {holder.pid} on"), writing_to(tmp_path / "run", ""):
        pass
    monkeypatch.setattr(owner, "_numbering", lambda: "pid:[4026532000]")
    sweep(tmp_path / "run")
    assert len(list((tmp_path / "run").glob(f"{WRITING}*"))) == 1, "what it writes stays"
    monkeypatch.undo()
    holder.kill()
    holder.wait()
    with writing_to(tmp_path / "run", ""):
        assert [file.name for file in (tmp_path / "run").iterdir()] == [LOCK]


def test_file_systems_without_links_or_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "not here")

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        with writing_to(tmp_path, ""):
            assert Owner.from_dict(json.loads((tmp_path / LOCK).read_text())) == Owner.this()
            with pytest.raises(FileExistsError):
                lock._create(tmp_path / LOCK)
        assert not list(tmp_path.iterdir())
        if lock.fcntl is not None:
            monkeypatch.setattr(lock.fcntl, "lockf", refuse)


def test_a_lock_that_is_being_written_is_nobodys_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LOCK).touch()
    monkeypatch.setattr(lock, "_is_locked", lambda _: True)
    with pytest.raises(RunError, match="other processes begin to write there too"), writing_to(tmp_path, ""):
        pass
    assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize("letter", ["a", "ä", "測", "😀"])
def test_a_file_of_any_name_is_locked(letter: str, tmp_path: Path) -> None:
    """Names are 255 bytes long at most, which are fewer letters of most alphabets."""
    for count in range(1, 251 // len(letter.encode()), 9):
        name = f"{letter * count}.yaml"
        with writing_to(tmp_path, "", only=name):
            (file,) = tmp_path.iterdir()
            assert file.name.startswith(f"{LOCK}-")
            (tmp_path / name).touch()
            other = f"{name[:-6]}x.yaml"
            with writing_to(tmp_path, "", only=other):
                assert len(list(tmp_path.glob(f"{LOCK}*"))) == 2, "two files have two locks"
        (tmp_path / name).unlink()
