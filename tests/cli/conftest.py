"""The command line in this process, and recorders in the place of what its verbs call."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from medseg import cli


@pytest.fixture
def medseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process: medseg("configs") -> exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medseg", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[tuple, dict]]]:
    """replace(module, name, result): puts a recorder in the place of a workflow; gives the list of its calls."""

    def put(module: str, name: str, result: Any) -> list[tuple[tuple, dict]]:
        calls: list[tuple[tuple, dict]] = []

        def record(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            print("chatter")
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(importlib.import_module(module), name, record)
        return calls

    return put
