"""Where an evaluation looks for cases: another data set has a layout of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medseg.workflows.evaluate import evaluate
from tests.workflows.test_ensemble import changed


@pytest.mark.slow
def test_another_data_set_may_have_another_layout(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """The layout that the config names is that of its own data."""
    run, root = trained
    for kind in ("images", "labels"):
        shutil.copytree(root / f"{kind}Tr", tmp_path / "other" / kind)
    named = changed(run, tmp_path / "run", data={"layout": "msd"})
    assert evaluate(named, data=tmp_path / "other")["cases"] == 6
    assert (named / "eval-other" / "metrics.csv").is_file()
    assert evaluate([named, run], data=tmp_path / "other", output=tmp_path / "both")["cases"] == 6
