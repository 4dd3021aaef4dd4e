"""Pictures evaluated by several processes: the files of one process, to the last digit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.workflows.train import train
from tests.pictures import camvid_cpu, pairs_overrides, write_cityscapes, write_pairs
from tests.tiny import finish, medseg, together

LEARNT = [  # enough to find cars: there are no statistics of batches that must settle first
    "network.norm=group",
    "training.weight_average=0",
    "training.optimizer.learning_rate=0.01",
    "training.iterations_per_epoch=30",
    "training.max_iterations=30",
    "inference.scales=[1]",
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "convention"),
    [(write_pairs, "voc"), (write_cityscapes, "cityscapes")],
)
def test_two_processes_write_the_files_of_one(tmp_path: Path, write: Callable[..., Path], convention: str) -> None:
    root = write(tmp_path / "data", val=3)  # uneven: two pictures for one process, one for the other
    data = pairs_overrides(root) if convention == "voc" else ["data.card=cityscapes", f"data.root={root}"]
    run = train(camvid_cpu(*data, *LEARNT), run=tmp_path / "run")
    shutil.rmtree(run / "eval")
    finish(medseg("evaluate", "--run", run, cwd=tmp_path))  # a process of its own, as many threads as each of the two
    expected = files_of(run / "eval")
    summary = json.loads(expected["metrics.json"])
    assert (summary["convention"], summary["cases"]) == (convention, 3)
    assert len(summary["mean_iou_of_cases"]) == 3
    if convention == "cityscapes":
        assert summary["mean_iiou"] > 0, "cars must be found, or iIoU tells nothing"
    assert sum(name.startswith("masks/") and name.endswith(".png") for name in expected) == 3

    shutil.rmtree(run / "eval")
    for process in together(2, "evaluate", "--run", run, cwd=tmp_path):
        finish(process)
    assert files_of(run / "eval") == expected, "figures, masks and all"
    assert (run / "eval" / "report.html").is_file()
