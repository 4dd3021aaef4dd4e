"""A file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

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
