"""Paths by the names of links, and folders behind links, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.core.files import absolute, walk


def test_links_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store" / "inner").mkdir(parents=True)
    (tmp_path / "store" / "blob").touch()
    (tmp_path / "a.nii").symlink_to(tmp_path / "store" / "blob")
    (tmp_path / "folder").symlink_to(tmp_path / "store" / "inner")
    monkeypatch.chdir(tmp_path)
    assert absolute("a.nii") == tmp_path / "a.nii"
    assert absolute("./store/../a.nii") == tmp_path / "a.nii"
    assert absolute("folder") == tmp_path / "folder"
    assert absolute("folder/../blob").resolve() == tmp_path / "store" / "blob", "behind the link, as the system has it"
    assert absolute("nowhere/../b") == tmp_path / "b"
    with pytest.raises(ValueError, match="null byte"):
        absolute("a\0b")


def test_a_folder_behind_links_is_walked_once(tmp_path: Path) -> None:
    for name in ("city/a", "other/b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").touch()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "city" / "loop").symlink_to(tmp_path / "set")
    found = sorted(path.name for path in walk(tmp_path / "set") if path.is_file())
    assert found == ["1.png", "1.png", "2.png"]
