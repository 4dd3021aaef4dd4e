"""A file appears whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import medseg
from medseg.core.files import replace_file, replacing


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "scan.nii.gz"
    replace_file(path, "old µ")
    with replacing(path) as writing:
        assert writing.name.endswith("scan.nii.gz")
        writing.write_text("half of")
        assert path.read_text(encoding="utf-8") == "old µ"
        writing.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as writing:
            writing.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_durable_file_is_on_the_disk_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("synced"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replaced"), replace(*names)))
    with replacing(tmp_path / "quick") as writing:
        writing.write_text("a")
    assert done == ["replaced"]
    with replacing(tmp_path / "kept", durable=True) as writing:
        writing.write_text("b")
    assert done == ["replaced", "synced", "replaced"]
    assert (tmp_path / "kept").read_text() == "b"


def test_nobody_else_moves_a_file_into_its_place() -> None:
    """Whole or not at all is written once: `os.replace` and its like stand in `core/files.py` alone."""
    package = Path(medseg.__file__).parent
    moving = re.compile(r"os\.(?:replace|rename)\(|\.rename\(|\bpart\.replace\(|os\.fsync\(")
    found = {file.relative_to(package).as_posix() for file in package.rglob("*.py") if moving.search(file.read_text())}
    assert found == {"core/files.py"}
