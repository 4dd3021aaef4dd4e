"""`import medseg`: instant, typed, and what the command line calls, used here as a user would, in a script."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import medseg
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import sys
from pathlib import Path

import medseg

assert "torch" not in sys.modules, "importing medseg is instant"
import nibabel
import numpy as np

root, folder, *overrides = sys.argv[1:]
root, folder = Path(root), Path(folder)
(folder / "mine.yaml").write_text("name: mine")
config = medseg.load_config(folder / "mine.yaml", [f"data.root={root}", *overrides])
run = medseg.train(config, run=folder / "run")
before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
assert medseg.evaluate(run, output=folder / "scores")["cases"] == 1
scan = next((root / "imagesTs").iterdir())
[saved] = medseg.predict(run, input=scan, output=folder / "masks")

predictor = medseg.Predictor.from_run(run)
mask = predictor(scan)
image, expected = nibabel.load(scan), nibabel.load(saved)
assert np.array_equal(mask.array, np.asarray(expected.dataobj)), "as medseg predict"
assert np.allclose(mask.affine, image.affine)
voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
assert abs(mask.volume_ml["lesion"] - (mask.array == 2).sum() * voxel_ml) < 1e-3

array = np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0)
again = predictor(array, affine=image.affine)
assert np.array_equal(again.array, mask.array)
for one, name in ((mask, "file"), (again, "array")):
    written = nibabel.load(one.save(folder / f"{name}.nii.gz"))
    assert np.array_equal(np.asarray(written.dataobj), mask.array)
    assert np.allclose(written.affine, image.affine)
for wrong in (array[0], array[:1]):
    try:
        predictor(wrong, affine=image.affine)
    except medseg.MedsegError as error:
        assert "expected 2 channels (T1, T2)" in str(error)
    else:
        raise AssertionError("an array of one channel was taken")
assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}, "nothing of the run is touched"
print("done")
"""


@pytest.mark.slow
def test_a_script_trains_scores_and_predicts(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd(channels=("T1", "T2"))
    overrides = [f"{key}={value}" for key, value in TINY.items()]
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(root), str(tmp_path), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("done\n"), done.stderr


def test_what_is_promised_is_there_and_typed() -> None:
    """The imports that a type checker sees are those that happen."""
    tree = ast.parse((ROOT / "medseg" / "__init__.py").read_text())
    (seen,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in seen.body for alias in node.names}  # type: ignore[attr-defined]
    assert typed == {name: f"medseg.{home}" for name, home in medseg._HOMES.items()}
    assert sorted(typed) == medseg.__all__
    for name in medseg.__all__:
        assert getattr(medseg, name).__doc__
        assert name in dir(medseg)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        medseg.trian  # noqa: B018


SCORES = """
from pathlib import Path

import numpy as np
from PIL import Image

import medseg
from medseg.core.parallel import FEW

folder = Path(__file__).parent
with (folder / "starts.txt").open("a") as file:
    file.write("started\\n")
for kind in ("truth", "masks"):
    (folder / kind).mkdir(exist_ok=True)
    for number in range(2 * FEW):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / kind / f"2007_{number:06}.png")
report = medseg.score(folder / "masks", folder / "truth", dataset="voc2012", workers=2, progress=False)
print(__spec__, Path(__file__).name, report.table.summary()["cases"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", [False, True])
def test_a_script_without_a_guard_is_not_run_again_by_the_processes_that_it_starts(
    module: bool, tmp_path: Path
) -> None:
    (tmp_path / "scores.py").write_text(SCORES)
    command = [sys.executable, *(["-m", "scores"] if module else [str(tmp_path / "scores.py")])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "starts.txt").read_text() == "started\n"
    assert done.stdout.endswith(" scores.py 16\n")
    assert done.stdout.startswith("ModuleSpec" if module else "None"), "as it was before"
