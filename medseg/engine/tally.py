"""Cases of a benchmark: counted into one confusion matrix, whose figures are written when all are through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from monai.transforms import MapTransform

from medseg.core.files import replace_file
from medseg.core.tables import write_table
from medseg.data.cases.layouts.cityscapes import instances_beside
from medseg.data.files.images import label_values, read_image
from medseg.metrics.benchmarks import Benchmark, Tally
from medseg.metrics.summary import BenchmarkTable


class TallyMaskd(MapTransform):
    """Count the mask `pred` against the case's label file, at the original resolution; the counts are in `tally`.

    Args:
        benchmark: what is scored, and by whose rules.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        super().__init__("pred")
        self.benchmark = benchmark

    def __call__(self, data: Mapping) -> dict:
        truth = label_values(read_image(data["label_path"], channel_axis=False), self.benchmark.labels.counts_as)[0]
        objects = instances_beside(Path(data["label_path"])) if self.benchmark.instance_pixels else None
        instances = None if objects is None else read_image(objects, channel_axis=False).array[0]
        names = (str(data["label_path"]), f"the mask of {data['case']}", str(objects))
        return {**data, "tally": self.benchmark.count(truth, np.asarray(data["pred"])[0], instances, names=names)}


def mean_iou_of_cases(benchmark: Benchmark, tallies: Mapping[str, Tally]) -> dict[str, float]:
    """Case -> mean IoU over the classes in its truth or prediction, the worst first: only to find what to look at."""
    means = {}
    for case, tally in tallies.items():
        rows = BenchmarkTable(benchmark, tally).summary()["classes"].values()
        known = [row["iou"] for row in rows if row["state"] != "absent"]
        means[case] = sum(known) / len(known) if known else 0.0
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0])))


def write_benchmark(table: BenchmarkTable, tallies: Mapping[str, Tally], folder: Path) -> None:
    """Write `metrics.json` (the summary, and every case's mean IoU) and `metrics.csv` (a row a class)."""
    summary = table.summary()
    cases = mean_iou_of_cases(table.benchmark, tallies)
    document = json.dumps({**summary, "mean_iou_of_cases": cases}, indent=2, allow_nan=False)
    replace_file(folder / "metrics.json", document + "\n")
    rows = [{"class": name, **row, "convention": table.convention} for name, row in summary["classes"].items()]
    write_table(folder / "metrics.csv", rows)
