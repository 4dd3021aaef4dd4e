"""`medseg score`: any method's masks against their labels, by the rules of a benchmark; no model is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from medseg.core.conventions import CONVENTIONS
from medseg.core.errors import ConfigError, DataError, Problem, did_you_mean
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.core.parallel import in_processes
from medseg.data.cases.layouts.picture_lists import entries_of
from medseg.data.cases.masks import MaskPair, find_masks, match_masks
from medseg.data.cases.values import meanings, unknown_values
from medseg.data.files.images import (
    Image,
    case_name,
    grid_difference,
    label_values,
    laid_on,
    read_image,
    read_label,
)
from medseg.data.files.pictures import is_picture
from medseg.data.files.reading import now, reading
from medseg.data.files.text import read_lines
from medseg.engine.places import Place, check_places, door, is_empty
from medseg.metrics.benchmarks import Benchmark, Tally, from_train_ids, same_shape
from medseg.metrics.confusion import value_counts, where_values
from medseg.metrics.metric import Metric, load_metrics
from medseg.metrics.misread import misread
from medseg.metrics.nnunet import nnunet_summary
from medseg.metrics.score import CaseScore, score_case
from medseg.metrics.summary import BenchmarkTable
from medseg.metrics.table import MetricsTable
from medseg.runs.described import Described, described

Result = TypeVar("Result")

NEW = "give a new file"
SHOWN = 20  # problems printed; JSON has them all
ON_GRID = "write the mask on the grid of its image"


@dataclass(frozen=True)
class ScoreReport:
    """What was scored, and what could not be: exit code 1 if there is any of that.

    Args:
        by_nnunet: the same as nnU-Net's evaluation writes it, see `metrics.nnunet`; None of a benchmark's figures.
    """

    dataset: str
    table: BenchmarkTable | MetricsTable
    problems: tuple[Problem, ...]
    without_truth: tuple[str, ...]
    notes: tuple[str, ...] = ()
    by_nnunet: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The summary of the table and the cases that are missing from it, for JSON."""
        problems = [asdict(problem) for problem in self.problems]
        more = {"problems": problems, "without_truth": list(self.without_truth), "notes": list(self.notes)}
        return {"dataset": self.dataset, **self.table.summary(), **more}

    def text(self) -> str:
        """The table, and in words what it leaves out."""
        lines = [self.table.text(), f"data set: {self.dataset}", *self.notes]
        if self.without_truth:
            some = ", ".join(self.without_truth[:3]) + ", ..." * (len(self.without_truth) > 3)
            lines.append(f"not scored, since there is no label: {len(self.without_truth)} predictions ({some})")
        if self.problems:
            lines.append(f"LEFT OUT: {len(self.problems)} cases failed and are in none of these figures")
        return "\n".join(lines)

    def shown_problems(self) -> list[Problem]:
        """The first problems, for a terminal."""
        rest = len(self.problems) - SHOWN
        return [*self.problems[:SHOWN], *([Problem("", f"and {rest} more; --json lists all")] if rest > 0 else [])]


def score(
    prediction: str | Path,
    truth: str | Path,
    *,
    dataset: str,
    convention: str | None = None,
    cases: Path | None = None,
    train_ids: bool = False,
    tolerance_mm: float = 1.0,
    metrics: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> ScoreReport:
    """Score every mask of a folder.

    Args:
        prediction, truth: folders of masks: PNG, TIFF, NIfTI, NRRD or MetaImage, in subfolders too.
        dataset: what says the classes and the ignored values, perhaps the files' names: a card of `datasets/`, or the
            path of one, of a `dataset.json` (or its folder), or of a run.
        convention: by whose rules, if not by those of the card.
        cases: a text file of the cases to score, one name a line; default: every label.
        train_ids: the predictions hold places among the evaluated classes (Cityscapes' trainIds) instead of values.
        tolerance_mm: tolerance of the surface Dice, in the medical convention.
        metrics: names of metrics of installed packages, beside medseg's own, in the medical convention.
        workers: processes; the figures do not depend on it.

    Raises:
        ConfigError: no such card, convention or metric; a benchmark's convention without a card.
        DataError: a folder is missing or empty, or not one case could be scored.
    """
    prediction, truth = Path(prediction), Path(truth)
    given = described(dataset)
    chosen = _rules(given, convention)
    if chosen != "medical" and given.card is None:
        remedy = "give a card, which says which classes a benchmark evaluates, or --convention medical"
        raise ConfigError(f"the convention {chosen!r} needs a card, and {dataset} is none", remedy)
    with reading(given.rules or now()):
        listed = None if cases is None else read_list(cases, find_masks(truth, given.layout))
        matched = match_masks(prediction, truth, given.layout, listed)
        pairs, problems = matched.pairs, list(matched.problems)
        notes: tuple[str, ...] = ()
        table: BenchmarkTable | MetricsTable
        by_nnunet: dict[str, Any] | None = None
        if chosen == "medical" or given.card is None:
            by_case = ByCase(given.labels, tolerance_mm, train_ids, load_metrics(metrics))
            rows = list(_successes(by_case, pairs, problems, workers, progress))
            counted, table = len(rows), MetricsTable([score for row in rows for score in row.scores])
            by_nnunet = nnunet_summary(
                ((row.truth, row.prediction, row.scores, row.voxels) for row in rows), given.labels
            )
        else:
            benchmark = Benchmark.of_card(given.card, chosen)
            objects = chosen == "cityscapes" and bool(benchmark.instance_pixels)
            if objects and not any(pair.instances for pair in pairs):
                objects, notes = False, ("no iIoU: there are no *_instanceIds beside the labels",)
            total = benchmark.empty
            for tally in _successes(ByBenchmark(benchmark, objects, train_ids), pairs, problems, workers, progress):
                total += tally
            counted, table = total.cases, BenchmarkTable(benchmark, total)
            if hint := misread(total.matrix, benchmark.labels, benchmark.values):
                notes = (*notes, f"NOTE: {hint}")
        if not counted:
            raise DataError(problems[:SHOWN])
        return ScoreReport(given.name, table, tuple(problems), matched.without_truth, notes, by_nnunet)


def _rules(given: Described, convention: str | None) -> str:
    """By whose rules masks are scored."""
    chosen = convention or given.convention
    if chosen not in CONVENTIONS:
        raise ConfigError(f"unknown convention {chosen!r}", did_you_mean(chosen, CONVENTIONS))
    return chosen


@contextmanager
def nnunet_file(file: Path, dataset: str, convention: str | None = None) -> Iterator[Callable[[ScoreReport], None]]:
    """What writes `summary.json` as nnU-Net does, into a new file, while nobody else writes it.

    Args:
        dataset, convention: as those of `score`.

    Raises:
        ConfigError: the file is there; by these rules nnU-Net has no figures.
        RunError: its folder cannot be written to.
    """

    def check() -> None:
        if file.is_file() and not file.is_symlink() and not is_empty(file):
            raise ConfigError(f"--nnunet-summary: {file} exists", NEW)
        check_places([Place(file, file.parent, "the summary")], remedy=NEW, error=ConfigError)
        if _rules(described(dataset), convention) != "medical":
            raise ConfigError("--nnunet-summary: nnU-Net has no figures by this convention", "--convention medical")

    def write(report: ScoreReport) -> None:
        replace_file(file, json.dumps(report.by_nnunet, indent=4) + "\n")  # with NaN, as nnU-Net writes it

    with door(file.parent, check, only=file.name, remedy=NEW):
        yield write


@dataclass(frozen=True)
class ByBenchmark:
    """One pair of masks -> its tally; `objects`: with the instanceIds, which then must be there."""

    benchmark: Benchmark
    objects: bool
    train_ids: bool

    def __call__(self, pair: MaskPair) -> Tally:
        truth, prediction = read_pair(pair, self.benchmark.labels if self.train_ids else None)
        objects, names = None, (str(pair.truth), str(pair.prediction), str(pair.instances))
        if self.objects:
            if pair.instances is None:
                raise DataError(Problem(pair.case, "has no *_instanceIds beside its label, as other cases have"))
            objects = read_image(pair.instances, channel_axis=False).array[0]
        return self.benchmark.count(label_values(truth)[0], prediction, objects, names=names)


@dataclass(frozen=True)
class Scored:
    """The files of a case, the score of each of its targets, and how many voxels it has that are not ignored."""

    truth: str
    prediction: str
    scores: tuple[CaseScore, ...]
    voxels: int


@dataclass(frozen=True)
class ByCase:
    """One pair of masks -> the metrics of its targets."""

    labels: Labels
    tolerance_mm: float
    train_ids: bool
    metrics: Mapping[str, Metric]

    def __call__(self, pair: MaskPair) -> Scored:
        truth, prediction = read_pair(pair, self.labels if self.train_ids else None)
        values = label_values(truth, self.labels.counts_as)[0]
        known = meanings(self.labels)
        written = {value: name for value, name in known.items() if value not in self.labels.ignored}
        problems = [
            unknown_values(value_counts(values), str(pair.truth), known),
            unknown_values(value_counts(prediction), str(pair.prediction), written),
        ]
        if any(problems):
            raise DataError([problem for problem in problems if problem])
        scores = score_case(
            prediction,
            values,
            case=pair.case,
            labels=self.labels,
            spacing_mm=truth.spacing_mm,
            tolerance_mm=self.tolerance_mm,
            by=self.metrics,
        )
        counted = values.size - int(where_values(values, self.labels.ignored).sum())
        return Scored(str(pair.truth), str(pair.prediction), tuple(scores), counted)


def read_pair(pair: MaskPair, train_ids: Labels | None) -> tuple[Image, np.ndarray]:
    """The label with its grid, and the prediction's values on the same grid.

    Raises:
        DataError: an unreadable file, values that are no classes, or, between volumes, another grid.
    """
    truth, prediction = read_label(pair.truth), read_label(pair.prediction)
    truth = laid_on(truth, prediction)
    volumes = not (is_picture(pair.truth) or is_picture(pair.prediction))
    if volumes and (difference := grid_difference(truth, prediction)):
        raise DataError(Problem(str(pair.prediction), f"lies on another grid than its label: {difference}", ON_GRID))
    same_shape(truth.array[0], prediction.array[0], str(pair.truth), str(pair.prediction))
    values = label_values(prediction)[0]
    return truth, values if train_ids is None else from_train_ids(values, train_ids, str(pair.prediction))


def read_list(file: Path, known: Collection[str] = ()) -> list[str]:
    """The names of cases in a text file, one a line, also with a folder and an ending; of several columns the first.

    Args:
        known: the names that there are: a line that is one of them is no columns, whatever is in it.
    """
    return [
        case_name(entries_of(line.strip(), lambda text: case_name(text) in known)[0]) for _, line in read_lines(file)
    ]


def attempt(work: Callable[[MaskPair], Result], pair: MaskPair) -> Result | Problem:
    """The result, or what is wrong with this case."""
    try:
        return work(pair)
    except DataError as error:
        first, rest = error.problems[0], error.problems[1:]
        what = "; ".join([f"{first.where}: {first.what}", *(f"{other.where}: {other.what}" for other in rest)])
        return Problem(pair.case, what, first.remedy)


def _successes(
    work: Callable[[MaskPair], Result],
    pairs: Sequence[MaskPair],
    problems: list[Problem],
    workers: int | None,
    progress: bool,
) -> Iterator[Result]:
    """What could be scored, in order; what could not is added to the problems."""
    outcomes = in_processes(partial(attempt, work), pairs, workers)
    for outcome in tqdm(outcomes, "scoring", len(pairs), unit="case", disable=None if progress else True, leave=False):
        if isinstance(outcome, Problem):
            problems.append(outcome)
        else:
            yield outcome
