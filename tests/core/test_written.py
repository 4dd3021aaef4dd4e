"""What medseg wrote in a folder is known by its account, which says of itself whether it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import RunError
from medseg.core.files import replace_file
from medseg.core.written import WRITTEN, is_changed, is_known, written_down

TABLE = "metrics.csv"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    with written_down(tmp_path, [TABLE, "more.csv"]):
        replace_file(tmp_path / TABLE, "mine\n")
        replace_file(tmp_path / "more.csv", "more\n")
    return tmp_path / TABLE


def test_an_account_is_read_back(table: Path) -> None:
    folder = table.parent
    assert not is_changed(folder, table)
    assert is_known(folder, table)
    assert not is_known(folder, folder / "other.csv")
    table.write_text("theirs\n")
    assert is_changed(folder, table)
    (folder / WRITTEN).unlink()
    assert not is_changed(folder, table), "nobody knows who wrote it"


def test_that_of_an_older_version_has_no_digest(table: Path) -> None:
    file = table.parent / WRITTEN
    content = json.loads(file.read_text())
    del content["sha256"]
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    assert not is_changed(table.parent, table)
    table.write_text("theirs\n")
    assert is_changed(table.parent, table)
    with written_down(table.parent, [TABLE]):
        replace_file(table, "anew\n")
    assert set(json.loads(file.read_text())) == {*content, "sha256"}


def test_a_damaged_account_is_no_empty_one(table: Path) -> None:
    """Whatever bit of it is turned, whatever is cut off."""
    folder, file = table.parent, table.parent / WRITTEN
    whole, theirs = file.read_bytes(), "theirs\n"
    table.write_text(theirs)
    random = np.random.default_rng(0)
    damaged = [whole[:-1], whole[: len(whole) // 2], b"", b"[]", b"null", b'{"metrics.csv": "0"}', b"{" * 99_999]
    for at in random.integers(0, len(whole), 200):
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << int(random.integers(8)))]) + whole[at + 1 :])
    for content in damaged:
        file.write_bytes(content)
        for ask in (is_changed, is_known):
            with pytest.raises(RunError, match="damaged") as refused:
                ask(folder, table)
            assert "remove the file" in refused.value.problems[0].remedy
        with pytest.raises(RunError, match="damaged"), written_down(folder, [TABLE]):
            replace_file(table, "ours\n")
        assert table.read_text() == theirs
        assert {one.name for one in folder.iterdir()} == {WRITTEN, TABLE, "more.csv"}
