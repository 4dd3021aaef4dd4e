"""`medseg evaluate`: the best weights of a run on cases that training did not see, as a table and a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.bundle.facts import DataFacts
from medseg.bundle.run import run_bundle
from medseg.bundle.write import write_bundle
from medseg.config.load import dump_config
from medseg.config.schema import Config
from medseg.core.errors import PartialFailure, Problem, RunError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import load_cases
from medseg.data.files.images import Image, label_values, read_image
from medseg.engine.cohort import CohortReport, mask_path
from medseg.engine.device import first_process_first, process_group, rank
from medseg.engine.tally import mean_iou_of_cases
from medseg.metrics.benchmarks import Tally
from medseg.metrics.lesions import lesion_text
from medseg.metrics.summary import BenchmarkTable
from medseg.metrics.table import MetricsTable
from medseg.review.benchmark import write_benchmark_report
from medseg.review.html import write_report
from medseg.review.overlay import overlay_figure
from medseg.review.picture import picture_figure
from medseg.review.tensorboard import Board
from medseg.runs.decision import read_decided, say_cleaning


def evaluate(
    run: Path, *, data: Path | None = None, split: str | None = None, postprocess: bool = True
) -> dict[str, Any]:
    """Score a run and write `eval/`, `report.html` and the TensorBoard overlays.

    Args:
        run: the folder of a run.
        data: another data set, all of whose labelled cases are scored (into `eval-NAME/`); default: the held-out cases
            of the run's own.
        split: an official split of the data set (into `eval-SPLIT/`); default: the held-out one.
        postprocess: False leaves out what `medseg postprocess` decided.

    Returns:
        The summary of the metrics table.

    Raises:
        PartialFailure: some cases failed; everything about the others is written, the failed are in `failed.csv`.
        MedsegError: the folder is no run, or no case could be scored.
    """
    config, facts = read_decided(run, postprocess)
    say_cleaning(config)
    names = ["eval", *([data.resolve().name] if data else []), *([split] if split else [])]
    output, own = run / "-".join(names), len(names) == 1
    overrides: dict[str, Any] = {"output_dir": str(output)}
    if data is not None:
        overrides |= {"dataset_dir": str(data.resolve()), "dataset#data#cases#section": "all"}
    if split is not None:
        overrides |= {"dataset#data#cases#section": "validation", "dataset#data#cases#splits": {"validation": split}}
    with process_group():
        first_process_first(lambda: write_bundle(config, output=run, facts=facts) if rank() == 0 else None)
        cohort: CohortReport = run_bundle(run, "evaluate", **overrides).parser.get_parsed_content("handlers#1")
    if cohort.table is None:
        raise RunError([Problem(f.case, f.reason) for f in cohort.failures] or "there is no case to score")
    if rank() == 0:
        root = str(data or config.data.root)
        cases = {case.name: case for case in load_cases(root, "all", layout=config.data.layout)}
        review = Review(run, output, config, facts, cases, own)
        if isinstance(cohort.table, MetricsTable):
            review.medical(cohort.table)
        else:
            review.pictures(cohort.table, cohort.tallies)
        print(cohort.table.text())
        if cohort.lesions:
            print(lesion_text(cohort.lesions))
        print(f"report: {review.report}")
    if cohort.failures:
        raise PartialFailure(
            [Problem(f.case, f.reason) for f in cohort.failures]
            + [Problem(str(output / "failed.csv"), f"{len(cohort.failures)} cases failed, the others are scored")],
            result=cohort.table.summary(),
        )
    return cohort.table.summary()


class Review:
    """The report, and the same pictures in TensorBoard if it is of the run's own held-out cases."""

    def __init__(
        self, run: Path, output: Path, config: Config, facts: DataFacts, cases: Mapping[str, Case], own: bool
    ) -> None:
        self.output, self.facts, self.cases = output, facts, cases
        self.report = (run if own else output) / "report.html"
        self.history = _history(run / "history.csv")
        self.common: dict[str, Any] = {
            "title": f"{config.name}: {config.description}" if config.description else config.name,
            "history": self.history,
            "config_text": dump_config(config),
            "environment": json.loads((run / "environment.json").read_text()),
        }
        self.board = run / "tensorboard" if own else None

    def medical(self, table: MetricsTable) -> None:
        overlays = []
        for rank_name, names in table.extremes(1).items():
            for name in names:
                image, truth, mask = self._read(name)
                scores = [score for score in table.scores if score.case == name]
                dice = [score.dice for score in scores if score.dice is not None]
                mean = f", mean Dice {sum(dice) / len(dice):.3f}" if dice else ""
                maps = (label_values(truth, self.facts.labels.counts_as), label_values(mask))
                picture = overlay_figure(image, *maps, labels=self.facts.labels, title=name, scores=scores)
                overlays.append((f"{rank_name}: {name}{mean}", picture))
        summary = table.summary()
        labels = self.facts.labels
        write_report(self.report, summary=summary, table=table, overlays=overlays, labels=labels, **self.common)
        means = {
            f"final/{metric}/{target}": values[metric]
            for target, values in summary["targets"].items()
            for metric in ("dice", "iou", "hd95_mm", "surface_dice")
        }
        self._log(overlays, means)

    def pictures(self, table: BenchmarkTable, tallies: Mapping[str, Tally]) -> None:
        ranked = mean_iou_of_cases(table.benchmark, tallies)
        names = list(ranked)
        chosen = dict.fromkeys((names[0], names[len(names) // 2], names[-1]))
        overlays = []
        for rank_name, name in zip(("worst", "median", "best"), chosen, strict=False):
            image, truth, mask = self._read(name)
            maps = (label_values(truth, self.facts.labels.counts_as), label_values(mask))
            note = f"mean IoU of its classes {ranked[name]:.3f}"
            picture = picture_figure(image.array, *maps, labels=self.facts.labels, title=name, note=note)
            overlays.append((f"{rank_name}: {name}, {note}", picture))
        write_benchmark_report(self.report, table=table, cases=ranked, overlays=overlays, **self.common)
        summary = table.summary()
        means = {f"final/iou/{name}": row["iou"] for name, row in summary["classes"].items()}
        self._log(overlays, means | {"final/mean_iou": summary["mean_iou"]})

    def _read(self, name: str) -> tuple[Image, Image, Image]:
        """Image, label and mask of a case."""
        case = self.cases[name]
        mask_file = mask_path(self.output / "masks", name, case.first)
        return case.read_image(), case.read_label(), read_image(mask_file, channel_axis=False)

    def _log(self, overlays: Sequence[tuple[str, bytes]], means: Mapping[str, float | None]) -> None:
        if self.board is None:
            return
        board = Board(self.board)
        step = int(self.history[-1]["epoch"]) if self.history else 0
        for caption, picture in overlays:
            board.overlay(f"cases/{caption.split(':')[0]}", picture, step)
        board.scalars(means, step)
        board.close()


def _history(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
