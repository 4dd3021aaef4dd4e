from __future__ import annotations

import json

import monai
import pytest
import torch

from medseg.engine import machine
from medseg.workflows.doctor import as_text, doctor


def test_facts_of_this_machine() -> None:
    facts = doctor()
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["packages"]["monai"] == monai.__version__
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["disk_free_gib"] > 0
    assert facts["device"]["precision"] in ("float32", "bfloat16", "float16")
    assert len(facts["device"]["gpus"]) == torch.cuda.device_count()
    assert json.loads(json.dumps(facts)) == facts
    assert f"torch {torch.__version__}" in as_text(facts)


def test_a_missing_package_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REQUIRED", ("torch", "no-such-package"))
    facts = doctor()
    assert facts["problems"][0]["what"] == "not installed: no-such-package"
    assert "pip install" in as_text(facts)
    assert "no-such-package MISSING" in as_text(facts)


def test_no_room_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_machine", lambda: dict.fromkeys(("memory_free_gib", "disk_free_gib"), 0.5))
    assert [problem["what"].split()[1] for problem in doctor()["problems"]] == ["0.5", "0.5"]
