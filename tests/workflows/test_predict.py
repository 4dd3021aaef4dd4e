"""What `medseg predict` gives beside the masks: volumes, time and memory."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import RunError
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from tests.tiny import finish, medseg


def ml(mask: Path, values: list[int]) -> float:
    image = nib.load(mask)
    return np.isin(np.asarray(image.dataobj), values).sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000


@pytest.mark.slow
def test_volumes_of_all_masks_in_one_table(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Also of a case that was predicted by an earlier command."""
    run, root = trained
    first, second = sorted((root / "imagesTs").iterdir())
    (tmp_path / "in").mkdir()
    shutil.copy(first, tmp_path / "in")
    predict(run, input=tmp_path / "in", output=tmp_path / "out")
    shutil.copy(second, tmp_path / "in")
    process = medseg("predict", "--run", run, "--input", tmp_path / "in", "--output", tmp_path / "out", cwd=tmp_path)
    out, _ = finish(process)
    rows = list(csv.DictReader((tmp_path / "out" / "volumes.csv").open()))
    assert [row["case"] for row in rows] == [file.name.removesuffix(".nii.gz") for file in (first, second)]
    for row, file in zip(rows, (first, second), strict=True):
        mask = tmp_path / "out" / file.name
        assert float(row["organ_ml"]) == pytest.approx(ml(mask, [1]), abs=1e-3)
        assert float(row["lesion_ml"]) == pytest.approx(ml(mask, [2]), abs=1e-3)
        assert re.search(rf"^{row['case']} +{float(row['organ_ml']):.2f} ", out, re.MULTILINE)
    assert "1 cases predicted, 2 masks" in out
    peak = re.search(r"^\d+\.\d s, peak memory (\d+\.\d\d) GiB$", out, re.MULTILINE)
    assert peak, out
    assert 0.05 < float(peak[1]) < 4


def contents(folder: Path) -> dict[Path, tuple]:
    """Everything in a folder, and when it was last touched."""
    found = {path: path.stat() for path in [folder, *folder.rglob("*")]}
    return {path: (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size) for path, stat in found.items()}


@pytest.mark.parametrize("kind", ["run", "folds"])
def test_nothing_of_the_run_is_touched(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """So a run on a read-only disk predicts and is scored, and two predictions do not disturb each other."""
    run, root = request.getfixturevalue("trained" if kind == "run" else "crossed")
    before = contents(run)
    assert predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    evaluate(run, output=tmp_path / "scores")
    assert contents(run) == before
    assert {path.name for path in (tmp_path / "scores").iterdir()} >= {"metrics.json", "metrics.csv", "report.html"}


def test_an_evaluation_writes_only_its_own_folder(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    before = contents(run)
    evaluate(run)
    after = contents(run)
    changed = {path.relative_to(run).parts[0] for path in after if path != run and after[path] != before.get(path)}
    assert changed == {"eval"}


def test_the_yaml_of_the_run_is_not_needed(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Config, data facts and weights are enough; what stands in `configs/` is neither read nor executed."""
    run, root = tmp_path / "run", trained[1]
    for name in ("config.yaml", "data.json", "models/model.pt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained[0] / name, run / name)
    (run / "configs").mkdir()
    (run / "configs" / "inference.yaml").write_text("run: [$exit(3)]\n")
    masks = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert len(masks) == 2


def test_a_place_that_cannot_be_written_to_is_said_first(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Before anything is predicted, and as one message."""
    run, root = trained
    (tmp_path / "file").touch()
    for call in (
        lambda place: predict(run, input=root / "imagesTs", output=place),
        lambda place: evaluate(run, output=place),
    ):
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(RunError, match=r"cannot be written to: .*\n    -> give .*--output DIR"):
                call(place)


def test_masks_that_are_not_ours_are_not_replaced(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    shutil.copytree(root / "labelsTr", tmp_path / "project" / "masks")
    before = contents(tmp_path / "project" / "masks")
    with pytest.raises(RunError, match=r"holds files that are not medseg's"):
        evaluate(run, output=tmp_path / "project")
    assert contents(tmp_path / "project" / "masks") == before


def test_a_damaged_record_of_the_machine_stops_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = tmp_path / "run", trained[1]
    shutil.copytree(trained[0], run, ignore=shutil.ignore_patterns("cache"))
    (run / "environment.json").write_text("{")
    assert len(predict(str(run), input=str(root / "imagesTs"), output=str(tmp_path / "masks"))) == 2
    assert evaluate(str(run))["cases"] == 2
