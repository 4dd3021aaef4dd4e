"""`medseg evaluate`: the best weights of a run on cases that training did not see, as a table and a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from medseg.bundle.facts import DataFacts
from medseg.bundle.run import run_bundle
from medseg.bundle.write import write_bundle
from medseg.config.errors import PartialFailure, Problem, RunError
from medseg.config.load import dump_config
from medseg.config.schema import Config
from medseg.data.cases import load_cases
from medseg.data.images import label_values, read_image
from medseg.engine.cohort import CohortReport, mask_path
from medseg.engine.device import first_process_first, process_group, rank
from medseg.metrics.table import MetricsTable
from medseg.review.html import write_report
from medseg.review.overlay import overlay_figure
from medseg.review.tensorboard import Board
from medseg.workflows.run_folder import read_run


def evaluate(run: Path, *, data: Path | None = None) -> dict[str, Any]:
    """Score a run and write `eval/`, `report.html` and the TensorBoard overlays.

    Args:
        run: the folder of a run.
        data: another data set, all of whose labelled cases are scored (into `eval-NAME/`); default: the held-out cases
            of the run's own.

    Returns:
        The summary of the metrics table.

    Raises:
        PartialFailure: some cases failed; everything about the others is written, the failed are in `failed.csv`.
        MedsegError: the folder is no run, or no case could be scored.
    """
    config, facts = read_run(run)
    output = run / ("eval" if data is None else f"eval-{data.resolve().name}")
    overrides: dict[str, Any] = {"output_dir": str(output)}
    if data is not None:
        overrides |= {"dataset_dir": str(data.resolve()), "dataset#data#cases#section": "all"}
    with process_group():
        first_process_first(lambda: write_bundle(config, output=run, facts=facts) if rank() == 0 else None)
        cohort: CohortReport = run_bundle(run, "evaluate", **overrides).parser.get_parsed_content("handlers#1")
    if cohort.table is None:
        raise RunError([Problem(f.case, f.reason) for f in cohort.failures] or "there is no case to score")
    if rank() == 0:
        _review(run, output, config, facts, cohort.table, data)
        print(cohort.table.text())
        print(f"report: {output.parent / 'report.html' if data is None else output / 'report.html'}")
    if cohort.failures:
        raise PartialFailure(
            [Problem(f.case, f.reason) for f in cohort.failures]
            + [Problem(str(output / "failed.csv"), f"{len(cohort.failures)} cases failed, the others are scored")],
            result=cohort.table.summary(),
        )
    return cohort.table.summary()


def _review(run: Path, output: Path, config: Config, facts: DataFacts, table: MetricsTable, data: Path | None) -> None:
    """The report, and the same overlays in TensorBoard."""
    root = str(data or config.data.root)
    cases = {case["case"]: case for case in load_cases(root, "all", layout=config.data.layout)}
    overlays = []
    for rank_name, names in table.extremes(1).items():
        for name in names:
            image, truth = read_image(cases[name]["image"]), read_image(cases[name]["label"])
            mask = read_image(mask_path(output / "masks", name))
            scores = [score for score in table.scores if score.case == name]
            dice = [score.dice for score in scores if score.dice is not None]
            caption = f"{rank_name}: {name}, mean Dice {sum(dice) / len(dice):.3f}" if dice else f"{rank_name}: {name}"
            picture = overlay_figure(
                image, label_values(truth), label_values(mask), labels=facts.labels, title=name, scores=scores
            )
            overlays.append((caption, picture))
    history = _history(run / "history.csv")
    write_report(
        (run if data is None else output) / "report.html",
        title=f"{config.name}: {config.description}" if config.description else config.name,
        summary=table.summary(),
        table=table,
        history=history,
        overlays=overlays,
        config_text=dump_config(config),
        environment=json.loads((run / "environment.json").read_text()),
        labels=facts.labels,
    )
    if data is None:
        board = Board(run / "tensorboard")
        step = int(history[-1]["epoch"]) if history else 0
        for caption, picture in overlays:
            board.overlay(f"cases/{caption.split(':')[0]}", picture, step)
        for target, values in table.summary()["targets"].items():
            means = {
                f"final/{metric}/{target}": values[metric] for metric in ("dice", "iou", "hd95_mm", "surface_dice")
            }
            board.scalars({tag: value for tag, value in means.items() if value is not None}, step)
        board.close()


def _history(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
