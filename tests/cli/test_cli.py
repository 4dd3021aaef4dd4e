"""What all verbs share: help, exit codes, mistakes, speed."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from medseg import cli
from medseg.core.errors import DataError, PartialFailure, Problem


@pytest.mark.parametrize("arguments", [("--help",), ("validate", "demo")])
def test_quick_commands_are_quick_and_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from medseg.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'torch', 'numpy', 'monai', 'nibabel'} & sys.modules.keys()), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert not done.stderr.strip()
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if seconds[-1] < 0.5:
            return
    # Of the processor, not of the clock, and the best of three: other work on the machine is not what is measured.
    assert min(seconds) < 0.5


def test_python_m_medseg_is_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "medseg", "--help"], capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert [verb for verb in listed if not verb.startswith("-")][: len(cli.ORDER)] == list(cli.ORDER)


def test_every_place_is_that_of_a_verb_of_one_family() -> None:
    verbs = [command.callback.__name__ for family in cli.FAMILIES for command in family.app.registered_commands]
    assert len(set(verbs)) == len(verbs)
    assert len(set(cli.ORDER)) == len(cli.ORDER)
    assert set(cli.ORDER) <= set(verbs)


def test_a_verb_without_a_place_comes_last() -> None:
    group = cli.Ordered(commands=dict.fromkeys(("made_up", "doctor", "demo")))
    assert group.list_commands(None) == ["demo", "doctor", "made_up"]


def test_every_verb_has_help(medseg: Any) -> None:
    for verb in cli.ORDER:
        code, out, _ = medseg(verb, "--help")
        assert code == 0
        assert f"medseg {verb}" in out


@pytest.mark.parametrize(
    "arguments", [(), ("trian",), ("train",), ("validate",), ("predict", "--run", "x"), ("--nope",)]
)
def test_bad_usage_is_exit_code_2(medseg: Any, arguments: tuple[str, ...]) -> None:
    assert medseg(*arguments)[0] == 2


@pytest.mark.parametrize(("error", "code"), [(DataError, 2), (PartialFailure, 1)])
def test_a_users_mistake_is_a_message(medseg: Any, replace: Any, error: type, code: int) -> None:
    replace("medseg.workflows.evaluate", "evaluate", error([Problem("case_1", "is empty", "remove it")]))
    assert medseg("evaluate", "--run", "x") == (code, "chatter\n", "error: case_1: is empty\n    -> remove it\n")


def test_a_programmers_mistake_is_one_screen_and_its_traceback_a_file(
    medseg: Any, replace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    replace("medseg.workflows.evaluate", "evaluate", ZeroDivisionError("oops"))
    code, _, err = medseg("evaluate", "--run", "x")
    assert code == 70
    assert len(err.splitlines()) == 3
    assert "unexpected: ZeroDivisionError: oops" in err
    assert "report it" in err
    [log] = tmp_path.iterdir()
    assert str(log) in err
    text = log.read_text()
    assert "medseg evaluate --run x" in text
    assert text.splitlines()[-1] == "ZeroDivisionError: oops"
