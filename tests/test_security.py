"""docs/security.md says what stops what: each module and each test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line.strip("|").split("|")
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "`tests/" in line
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_what_is_said_to_stop_something_is_there(row: list[str]) -> None:
    *_, stopped, held = row
    (module,) = re.findall(r"`([\w/]+\.py)`", stopped)
    assert (ROOT / "medseg" / module).is_file()
    ((file, name),) = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", held)
    assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_the_page_is_found() -> None:
    assert len(ROWS) > 25
    links = re.findall(r"\]\(([\w/]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"SECURITY.md", "docs/security.md"} <= {*links}
    assert all((ROOT / link).is_file() for link in links)
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
