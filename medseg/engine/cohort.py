"""A cohort of cases through the evaluator: masks saved, cases scored, failures listed.

The per-case steps are transforms at the end of the evaluator's postprocessing, so an error in one of them fails that
case alone. `CohortReport` writes what the whole cohort gave.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.config.coding import recoded
from medseg.core.errors import Problem
from medseg.core.labels import Labels
from medseg.core.tables import read_columns, write_table
from medseg.data.cases.kinds import other_scan, suspicions
from medseg.data.cases.values import class_values
from medseg.data.files.images import Image, read_label, voxel_ml
from medseg.data.files.pictures import is_picture
from medseg.data.training.region import REGION
from medseg.data.writers import OWN
from medseg.data.writers.base import writers_of
from medseg.engine.device import gather, rank
from medseg.engine.evaluator import Failure, succeeded
from medseg.engine.origin import ORIGIN, origin_of
from medseg.engine.outputs import FORMATS, commit, remove_older_table
from medseg.engine.staged import Staged, staging
from medseg.engine.tally import write_benchmark
from medseg.inference.cleaning.clean import clean_mask
from medseg.metrics.benchmarks import Benchmark, Tally
from medseg.metrics.confusion import target_voxels
from medseg.metrics.lesions import LesionScore, score_lesions, write_lesions
from medseg.metrics.metric import load_metrics
from medseg.metrics.score import score_case
from medseg.metrics.summary import BenchmarkTable
from medseg.metrics.table import MetricsTable

FAILURES = "failed.csv"
logger = logging.getLogger(__name__)
HEADER = ("case", "reason")


def write_failures(folder: Path, failures: Sequence[Problem]) -> None:
    """`failed.csv`: a row for each case that failed (`where` is the case); no file where none did."""
    file = folder / FAILURES
    remove_older_table(folder, FAILURES, ",".join(HEADER))
    rows = [dict(zip(HEADER, (problem.where, problem.what), strict=True)) for problem in failures]
    if not rows:
        file.unlink(missing_ok=True)
        return
    write_table(file, rows, HEADER)


def is_failures(file: Path) -> bool:
    """Whether the file is such a table."""
    return read_columns(file) == list(HEADER)


class CleanMaskd(MapTransform):
    """Clean the mask `pred` (1, *native_spatial), see `clean_mask`; what was done goes along as `postprocessing`.

    Args:
        labels: what the values mean.
        steps: arguments of `clean_mask`.
    """

    def __init__(self, labels: Labels, steps: Mapping[str, Any]) -> None:
        super().__init__("pred")
        self.labels, self.steps = labels, dict(steps)

    def __call__(self, data: Mapping) -> dict:
        mask, affine = np.asarray(data["pred"])[0], torch.as_tensor(data["native_affine"]).cpu()
        cleaned = clean_mask(mask, self.labels, voxel_ml=voxel_ml(affine.numpy(), mask.ndim), **self.steps)
        done = {**self.steps, "changed_voxels": int((cleaned != mask).sum())}
        return {**data, "pred": MetaTensor(torch.from_numpy(cleaned[None]), affine=affine), "postprocessing": done}


class SaveMaskd(MapTransform):
    """Write the mask `pred` (1, *native_spatial) on the grid of its image, and a JSON sidecar with volumes.

    Of a picture, and of any other two-dimensional image, the sidecar has the classes' shares of the pixels.

    Args:
        output_dir: folder of the masks, made if missing.
        labels: names in the header and in the sidecar.
        model: what made the mask (name, version, ...), into the sidecar.
        recode: pairs (own value, value in the file), see `config.coding`; the case keeps its own values.
        formats: names of writers; "auto" is the image's own.
        origin: digests of what makes the masks, see `origin.py`; into the sidecar with those of the image and the mask.
        kinds: of scan that the network was trained on, of each channel; what looks like another one is a warning in the
            sidecar.
        channels: names of the image's channels, where a case may lack some (its numbers are in `missing`): the sidecar
            says which.
    """

    def __init__(
        self,
        output_dir: str,
        labels: Labels,
        model: Mapping[str, str] | None = None,
        recode: Sequence[Sequence[int]] = (),
        formats: Sequence[str] = FORMATS,
        origin: Mapping[str, str] | None = None,
        channels: Sequence[str] = (),
        kinds: Sequence[str | None] = (),
    ) -> None:
        super().__init__("pred")
        self.kinds = tuple(kinds)
        self.origin = None if origin is None else dict(origin)
        self.output_dir, self.labels, self.model = Path(output_dir), labels, dict(model or {})
        self.recode = {int(own): int(written) for own, written in recode}
        self.formats, self.channels = tuple(formats), tuple(channels)

    def __call__(self, data: Mapping) -> dict:
        mask, image, name = np.asarray(data["pred"])[0], Path(data["image_path"]), data["case"]
        written = _with_values(mask, self.recode) if self.recode else mask
        labels = recoded(self.labels, self.recode)
        origin: dict[str, str] | None = None
        with staging(data.get("staged") or Staged()) as staged:
            masks = []
            for writer in writers_of(image, self.formats):
                masks.append(staged.add(writer.file(self.output_dir, name), self.output_dir / OWN))
                writer.write_mask(masks[-1], written, like=image, labels=labels)
            steps = {"postprocessing": data["postprocessing"]} if "postprocessing" in data else {}
            amounts = self._amounts(mask, None if is_picture(image) else np.asarray(data["native_affine"]))
            missing = [self.channels[number] for number in data.get("missing", ())]
            lacking = {"missing_channels": missing} if self.channels else {}
            region = {REGION: data[REGION]} if REGION in data else {}
            warnings = self._warnings(data)
            said = {"warnings": warnings} if warnings else {}
            sidecar = {"case": name, "model": self.model, **said, **lacking, **region, **steps, **amounts}
            if self.origin is not None:
                sidecar[ORIGIN] = origin_of(self.origin, data["image_files"], masks[0])
                origin = {key: value for key, value in sidecar[ORIGIN].items() if key != "mask"}
            commit(self.output_dir, name, staged, sidecar, origin)
        return {**{key: value for key, value in data.items() if key != "staged"}, "warnings": warnings}

    def _warnings(self, data: Mapping) -> list[str]:
        """What was decided when the image was read, and where it seems to be of another kind of scan."""
        found = [*data.get("doubts", ()), *data.get("notes", ())]
        if self.kinds:
            if why := other_scan(data.get("kinds", ()), self.kinds):
                found.append(why)
            found += suspicions(self.kinds, data.get("measured", ()), data.get("missing", ()))
        return found

    def _amounts(self, mask: np.ndarray, affine: np.ndarray | None) -> dict[str, dict[str, float]]:
        """How much of each target there is: `volume_ml`, or `share` of the pixels where there is no volume."""
        counts = target_voxels(mask, self.labels)
        ml = None if affine is None else voxel_ml(affine, mask.ndim)
        if ml is None:
            return {"share": {name: round(count / max(mask.size, 1), 6) for name, count in counts.items() if count}}
        return {"volume_ml": {name: round(count * ml, 4) for name, count in counts.items()}}


def _with_values(mask: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    table = np.arange(max(int(mask.max(initial=0)), *values) + 1, dtype=np.uint16)
    for own, written in values.items():
        table[own] = written
    return table[mask]


class ScoreMaskd(MapTransform):
    """Compare the mask `pred` with the case's label file on the native grid; the scores are in `scores`.

    Args:
        labels: what the values mean.
        tolerance_mm: of the surface Dice.
        lesions: targets whose connected parts are scored one by one too, into `lesions`.
        metrics: names of metrics of installed packages, beside medseg's own.
    """

    def __init__(
        self, labels: Labels, tolerance_mm: float = 1.0, lesions: Sequence[str] = (), metrics: Sequence[str] = ()
    ) -> None:
        super().__init__("pred")
        self.labels, self.tolerance_mm, self.lesions = labels, tolerance_mm, tuple(lesions)
        self.metrics = load_metrics(metrics)

    def __call__(self, data: Mapping) -> dict:
        prediction = np.asarray(data["pred"])[0]
        grid = None
        if "native_affine" in data:
            affine = torch.as_tensor(data["native_affine"], dtype=torch.float64).cpu().numpy()
            grid = Image(prediction[None], affine, Path(data["image_path"]))
        truth = read_label(data["label_path"], grid)
        if prediction.shape == (*truth.shape, 1):  # a slice among volumes: scored as `medseg score` reads its files
            prediction = prediction[..., 0]
        values = class_values(truth, self.labels)[0]
        scores = score_case(
            prediction,
            values,
            case=data["case"],
            labels=self.labels,
            spacing_mm=truth.spacing_mm,
            tolerance_mm=self.tolerance_mm,
            by=self.metrics,
        )
        case = {**data, "scores": scores}
        if self.lesions:
            options = {"case": data["case"], "labels": self.labels, "targets": self.lesions}
            case["lesions"] = score_lesions(prediction, values, **options)
        return case


class CohortReport:
    """Write `metrics.json`, `metrics.csv` and `failed.csv` when all cases are through.

    Args:
        output_dir: where to.
        scored: whether the cases carry `scores` (evaluation) or not (prediction).
        benchmark: what the cases' `tally` is of, where one confusion matrix of all of them is scored.
        postprocessing: the steps that cleaned the masks, for the table.
    """

    def __init__(
        self,
        output_dir: str,
        scored: bool = True,
        benchmark: Benchmark | None = None,
        postprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.scored, self.benchmark = Path(output_dir), scored, benchmark
        self.postprocessing = postprocessing
        self.table: MetricsTable | BenchmarkTable | None = None
        self.failures: list[Failure] = []
        self.finished: list[str] = []
        self.warnings: list[tuple[str, str]] = []
        self.tallies: dict[str, Tally] = {}
        self.lesions: list[LesionScore] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Any) -> None:
        """Forget an earlier run of the engine."""
        self._scores: list = []
        self._lesions: list[LesionScore] = []
        self._tallies: list[tuple[str, Tally]] = []
        self._finished: list[str] = []
        self._warnings: list[tuple[str, str]] = []

    def collect(self, engine: Any) -> None:
        """Keep the scores of this case."""
        if succeeded(engine):
            self._finished.append(engine.state.output["case"])
            self._warnings += [(self._finished[-1], text) for text in engine.state.output.get("warnings", ())]
            self._scores += engine.state.output.get("scores", [])
            self._lesions += engine.state.output.get("lesions", [])
            if "tally" in engine.state.output:
                self._tallies.append((engine.state.output["case"], engine.state.output["tally"]))

    def write(self, engine: Any) -> None:
        """Gather all processes' cases; the first one writes the files."""
        scores, self.finished = gather(self._scores), gather(self._finished)
        self.failures, self.warnings = gather(engine.state.failures), gather(self._warnings)
        self.lesions = gather(self._lesions)
        self.tallies = dict(gather(self._tallies))
        if self.scored and scores:
            self.table = MetricsTable(scores, postprocessing=self.postprocessing)
        if self.benchmark is not None and self.tallies:
            total = self.benchmark.empty
            for tally in self.tallies.values():
                total += tally
            self.table = BenchmarkTable(self.benchmark, total)
        if rank() != 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        failures = [Problem(failure.case, failure.reason) for failure in self.failures]
        write_failures(self.output_dir, failures)
        if isinstance(self.table, MetricsTable):
            self.table.write(self.output_dir)
            if self.lesions:
                write_lesions(self.lesions, self.output_dir)
        elif self.table is not None:
            write_benchmark(self.table, self.tallies, self.output_dir)
