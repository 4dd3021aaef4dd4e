"""The one end of every evaluation: the table's files, report, pictures in TensorBoard, what is printed, what failed."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.bundle.trained import Trained
from medseg.config.load import dump_config
from medseg.core.errors import PartialFailure, Problem, RunError
from medseg.core.tables import read_table
from medseg.data.cases.case import Case
from medseg.data.files.images import Image, label_values, read_image
from medseg.engine.cohort import FAILURES, CohortReport, write_failures
from medseg.engine.device import rank
from medseg.engine.machine import environment
from medseg.engine.outputs import mask_paths
from medseg.engine.resume import HISTORY
from medseg.engine.tally import mean_iou_of_cases
from medseg.metrics.benchmarks import Tally
from medseg.metrics.lesions import LesionScore, lesion_text, write_lesions
from medseg.metrics.summary import BenchmarkTable
from medseg.metrics.table import MetricsTable
from medseg.review.benchmark import write_benchmark_report
from medseg.review.html import write_report
from medseg.review.overlay import overlay_figure
from medseg.review.picture import picture_figure
from medseg.review.tensorboard import Board
from medseg.runs.folder import read_environment

FOUND_NOTHING = """\
warning: every target is missed in every case. The likely causes:
  - it has trained for too short a time: is the loss in history.csv still falling? give it more epochs or minutes
  - image and label do not belong together: look at the pictures in the report, and at `medseg check`
  - the intensities are lost: preprocessing.window_hu of a CT, or preprocessing.normalization, does not fit the images
  - patches hardly ever show a target: raise training.foreground_probability, or the patch_size
  - these images are of another kind than those that it was trained on"""


@dataclass(frozen=True)
class Results:
    """What was scored, and what could not be.

    Args:
        table: None where no case could be scored.
        lesions: of the targets whose parts are scored one by one.
        failures: a problem for each case that failed, `where` being the case.
        tallies: case -> what was counted in it; of a `BenchmarkTable`.
    """

    table: MetricsTable | BenchmarkTable | None
    lesions: Sequence[LesionScore] = ()
    failures: Sequence[Problem] = ()
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @classmethod
    def of(cls, cohort: CohortReport) -> Results:
        """Those of one cohort."""
        failures = [Problem(failure.case, failure.reason) for failure in cohort.failures]
        return cls(cohort.table, cohort.lesions, failures, cohort.tallies)

    @classmethod
    def joined(cls, parts: Sequence[Results]) -> Results:
        """Those of several cohorts of other cases each, scored case by case."""
        tables = [part.table for part in parts if isinstance(part.table, MetricsTable)]
        return cls(
            MetricsTable.joined(tables) if tables else None,
            [score for part in parts for score in part.lesions],
            [problem for part in parts for problem in part.failures],
        )


@dataclass(frozen=True)
class Review:
    """Shows and tells what an evaluation gave.

    Args:
        run: what was evaluated; its history and environment are told too.
        output: the folder of table and `masks/`.
        cases: every labelled case by name.
        report: the page that is written.
        board: TensorBoard log that shows the pictures too.
    """

    run: Trained
    output: Path
    cases: Mapping[str, Case]
    report: Path
    board: Path | None = None

    def conclude(
        self, results: Results, *, joined: bool = False, said: Sequence[str] = (), title: str = "report"
    ) -> dict[str, Any]:
        """Write, show and print the results; of several processes the first does it.

        Args:
            joined: the results are put together from several cohorts, so that their table is not written yet.
            said: lines to print first.
            title: what the report is called there.

        Returns:
            The summary of the table.

        Raises:
            RunError: no case could be scored.
            PartialFailure: some cases failed; everything about the others is written.
        """
        table = results.table
        if table is None:
            raise RunError(list(results.failures) or "there is no case to score")
        if rank() == 0:
            if isinstance(table, MetricsTable):
                if joined:
                    self._write(table, results)
                self._medical(table)
                if table.finds_nothing:
                    print(FOUND_NOTHING, file=sys.stderr)
            else:
                self._pictures(table, results.tallies)
            lesions = [lesion_text(results.lesions)] if results.lesions else []
            print(*said, table.text(), *lesions, f"{title}: {self.report}", sep="\n")
        summary = table.summary()
        if results.failures:
            what = f"{len(results.failures)} cases failed, the others are scored"
            raise PartialFailure([*results.failures, Problem(str(self.output / FAILURES), what)], result=summary)
        return summary

    def _write(self, table: MetricsTable, results: Results) -> None:
        table.write(self.output)
        if results.lesions:
            write_lesions(results.lesions, self.output)
        write_failures(self.output, results.failures)

    def _medical(self, table: MetricsTable) -> None:
        labels, overlays = self.run.facts.labels, []
        for rank_name, names in table.extremes(1).items():
            for name in names:
                image, truth, mask = self._read(name)
                scores = [score for score in table.scores if score.case == name]
                dice = [value for score in scores if (value := score.metrics.get("dice")) is not None]
                mean = f", mean Dice {sum(dice) / len(dice):.3f}" if dice else ""
                maps = (label_values(truth, labels.counts_as), label_values(mask))
                picture = overlay_figure(image, *maps, labels=labels, title=name, scores=scores)
                overlays.append((f"{rank_name}: {name}{mean}", picture))
        summary = table.summary()
        write_report(self.report, summary=summary, table=table, overlays=overlays, labels=labels, **self._common())
        means = {f"final/{one}/{name}": row[one] for name, row in summary["targets"].items() for one in table.columns}
        self._log(overlays, means)

    def _pictures(self, table: BenchmarkTable, tallies: Mapping[str, Tally]) -> None:
        ranked = mean_iou_of_cases(table.benchmark, tallies)
        names = list(ranked)
        chosen = dict.fromkeys((names[0], names[len(names) // 2], names[-1]))
        overlays = []
        for rank_name, name in zip(("worst", "median", "best"), chosen, strict=False):
            image, truth, mask = self._read(name)
            maps = (label_values(truth, self.run.facts.labels.counts_as), label_values(mask))
            note = f"mean IoU of its classes {ranked[name]:.3f}"
            picture = picture_figure(image.array, *maps, labels=self.run.facts.labels, title=name, note=note)
            overlays.append((f"{rank_name}: {name}, {note}", picture))
        write_benchmark_report(self.report, table=table, cases=ranked, overlays=overlays, **self._common())
        summary = table.summary()
        means = {f"final/iou/{name}": row["iou"] for name, row in summary["classes"].items()}
        self._log(overlays, means | {"final/mean_iou": summary["mean_iou"]})

    def _common(self) -> dict[str, Any]:
        """What both kinds of report say of the run."""
        name, description = self.run.config.name, self.run.config.description
        return {
            "title": f"{name}: {description}" if description else name,
            "history": _history(self.run.folder / HISTORY),
            "config_text": dump_config(self.run.config),
            "environment": read_environment(self.run.folder) or environment(),
        }

    def _read(self, name: str) -> tuple[Image, Image, Image]:
        """Image, label and mask of a case."""
        case = self.cases[name]
        (file,) = mask_paths(self.output / "masks", name, case.first)
        mask = read_image(file, channel_axis=False)
        image = case.read_image()
        return image, case.read_label(image), mask

    def _log(self, overlays: Sequence[tuple[str, bytes]], means: Mapping[str, float | None]) -> None:
        """The pictures, and the figures at the last epoch, in the log of the run."""
        if self.board is None:
            return
        board, history = Board(self.board), _history(self.run.folder / HISTORY)
        step = int(history[-1]["epoch"]) if history else 0
        for caption, picture in overlays:
            board.overlay(f"cases/{caption.split(':')[0]}", picture, step)
        board.scalars(means, step)
        board.close()


def _history(path: Path) -> list[dict[str, float]]:
    """Raises RunError where the file holds anything but the numbers that the training wrote."""
    if not path.exists():
        return []
    try:
        rows = [{key: float(value) for key, value in row.items() if value} for row in read_table(path)]
        for row in rows:
            int(row["epoch"])
    except (ValueError, KeyError, OverflowError, csv.Error) as error:  # not UTF-8 is a ValueError too
        raise RunError(Problem(str(path), "damaged", "remove it, or bring it back from a copy of the run")) from error
    return rows
