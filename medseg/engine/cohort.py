"""A cohort of cases through the evaluator: masks saved, cases scored, failures listed.

The per-case steps are transforms at the end of the evaluator's postprocessing, so an error in one of them fails that
case alone. `CohortReport` writes what the whole cohort gave.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.transforms import MapTransform

from medseg.config.labels import Labels
from medseg.data.images import label_values, read_image, write_mask
from medseg.engine.device import gather, rank
from medseg.engine.evaluator import Failure, succeeded
from medseg.metrics.table import MetricsTable, score_case


def pending_cases(cases: Sequence[dict], output_dir: str, overwrite: bool = False) -> list[dict]:
    """The cases without a mask in `output_dir` yet (all of them if `overwrite`)."""
    return [case for case in cases if overwrite or not mask_path(output_dir, case["case"]).exists()]


def mask_path(output_dir: str | Path, case: str) -> Path:
    """Where the mask of a case is saved."""
    return Path(output_dir) / f"{case}.nii.gz"


class SaveMaskd(MapTransform):
    """Write the mask `pred` (1, *native_spatial) as NIfTI on the grid of its image, with volumes in a JSON sidecar.

    Args:
        output_dir: folder of the masks, made if missing.
        labels: names in the header and in the sidecar.
        model: what made the mask (name, version, ...), into the sidecar.
    """

    def __init__(self, output_dir: str, labels: Labels, model: Mapping[str, str] | None = None) -> None:
        super().__init__("pred")
        self.output_dir, self.labels, self.model = Path(output_dir), labels, dict(model or {})

    def __call__(self, data: Mapping) -> dict:
        mask = np.asarray(data["pred"])[0]
        voxel_ml = abs(np.linalg.det(np.asarray(data["native_affine"])[:3, :3])) / 1000
        sidecar = {
            "case": data["case"],
            "model": self.model,
            "volume_ml": {
                name: round(float(np.isin(mask, values).sum() * voxel_ml), 4)
                for name, values in self.labels.targets.items()
            },
        }
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = mask_path(self.output_dir, data["case"])
        path.with_name(f"{data['case']}.json").write_text(json.dumps(sidecar, indent=2) + "\n")
        image = data["image_path"]
        write_mask(path, mask, like=image if isinstance(image, str) else image[0], labels=self.labels)
        return dict(data)


class ScoreMaskd(MapTransform):
    """Compare the mask `pred` with the case's label file on the native grid; the scores are in `scores`.

    Args:
        labels: what the values mean.
        tolerance_mm: of the surface Dice.
    """

    def __init__(self, labels: Labels, tolerance_mm: float = 1.0) -> None:
        super().__init__("pred")
        self.labels, self.tolerance_mm = labels, tolerance_mm

    def __call__(self, data: Mapping) -> dict:
        truth = read_image(data["label_path"])
        scores = score_case(
            np.asarray(data["pred"])[0],
            label_values(truth)[0],
            case=data["case"],
            labels=self.labels,
            spacing_mm=truth.spacing_mm,
            tolerance_mm=self.tolerance_mm,
        )
        return {**data, "scores": scores}


class CohortReport:
    """Write `metrics.json`, `metrics.csv` and `failed.csv` when all cases are through.

    Args:
        output_dir: where to.
        scored: whether the cases carry `scores` (evaluation) or not (prediction).
    """

    def __init__(self, output_dir: str, scored: bool = True) -> None:
        self.output_dir, self.scored = Path(output_dir), scored
        self.table: MetricsTable | None = None
        self.failures: list[Failure] = []
        self.finished: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Any) -> None:
        """Forget an earlier run of the engine."""
        self._scores: list = []
        self._finished: list[str] = []

    def collect(self, engine: Any) -> None:
        """Keep the scores of this case."""
        if succeeded(engine):
            self._finished.append(engine.state.output["case"])
            self._scores += engine.state.output.get("scores", [])

    def write(self, engine: Any) -> None:
        """Gather all processes' cases; the first one writes the files."""
        scores, self.finished = gather(self._scores), gather(self._finished)
        self.failures = gather(engine.state.failures)
        if self.scored and scores:
            self.table = MetricsTable(scores)
        if rank() != 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        failed = self.output_dir / "failed.csv"
        failed.unlink(missing_ok=True)
        if self.failures:
            with open(failed, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["case", "reason"])
                writer.writerows([failure.case, failure.reason] for failure in self.failures)
        if self.table is not None:
            self.table.write(self.output_dir)
