"""A regular expression finds what `re` finds, and one that backtracks without end is refused instead."""

from __future__ import annotations

import re
import time

import pytest

from medseg.config.load import load_config
from medseg.core import patterns
from medseg.core.errors import ConfigError
from medseg.core.patterns import fault_of, search_all
from medseg.data.splits.patients import find_patients

NAMES = ["BraTS_001_t1", "case 7", "höhle_3", "a" * 30 + "!", "caf\udce9_1", ""]
HARMLESS = ["^[^_]+", r"(\d+)", r"_(\d+)(_t1)?$", "^(.+)_[a-z0-9]+$", "(a)|(b)", "x{2,3}y*", "", r"^(?P<who>\w+?)_"]
ENDLESS = ["(a+)+$", "(a*)*$", "(a|a)+$", "(a|aa)+$", "(?:a+b?)+$", "([a-z]+)*$", "^(a?){30}a{30}b"]


@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_is_found_is_what_re_finds(pattern: str) -> None:
    found = [re.search(pattern, name) for name in NAMES]
    assert search_all(pattern, NAMES, "key") == [one and one[min(1, one.re.groups)] for one in found]


@pytest.mark.parametrize("pattern", ENDLESS)
def test_one_that_would_not_end_is_stopped(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.6)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"patient_pattern: .* takes more than 0.6 s to search 1 names\n    -> "):
        find_patients(["a" * 40 + "!"], pattern, None)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("pattern", ["(", "*", "(?P<1>a)", "[", "(" * 5000, "a{2,1}"])
def test_what_is_none(pattern: str) -> None:
    assert fault_of(pattern)
    with pytest.raises(ConfigError, match="is no regular expression"):
        load_config("demo", [f"data.patient_pattern={pattern!r}"])
