from __future__ import annotations

from pathlib import Path

import pytest

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.engine.outputs import pending_cases


def test_a_map_never_takes_the_place_of_another_cases_mask(tmp_path: Path) -> None:
    cases = [Case(name, (f"{name}.nii.gz",)) for name in ("a", "a_probability_b")]
    assert pending_cases(cases, str(tmp_path), maps=["entropy"]) == cases
    with pytest.raises(DataError, match="a_probability_b_probability_c"):
        pending_cases(cases, str(tmp_path), maps=["probability_b_probability_c", "probability_c"])
