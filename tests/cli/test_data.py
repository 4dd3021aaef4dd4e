"""The verbs of a data set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any


def test_check_returns_the_code_of_its_report(medseg: Any, replace: Any) -> None:
    report = SimpleNamespace(exit_code=2, text=lambda: "bad data", as_dict=lambda: {"errors": 1})
    calls = replace("medseg.workflows.check", "check", report)
    assert medseg("check", "folder", "--layout", "msd") == (2, "chatter\nbad data\n", "")
    assert calls == [((Path("folder"),), {"layout": "msd", "card": None})]
