"""What holds of every metric in the table, and of one that a package brings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import nibabel
import numpy as np
import pytest
import sklearn.metrics

from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from medseg.metrics import METRICS
from medseg.metrics.metric import CHARGES, Comparison, load_metrics
from medseg.metrics.score import FIELDS, score_case
from medseg.metrics.table import MetricsTable
from medseg.workflows.score import score

SPACING = (0.8, 1.5, 2.0)
LABELS = Labels(classes={"background": 0, "organ": 1})


def sklearn_(name: str) -> Callable[..., float]:
    return lambda predicted, true: getattr(sklearn.metrics, name)(true.ravel(), predicted.ravel())


def deepmind(name: str, argument: float) -> Callable[..., float]:
    def oracle(predicted: np.ndarray, true: np.ndarray) -> float:
        surfaces = pytest.importorskip("surface_distance", reason="the oracle needs the package surface-distance")
        return getattr(surfaces, name)(surfaces.compute_surface_distances(true, predicted, SPACING), argument)

    return oracle


ORACLES = {
    "dice": sklearn_("f1_score"),
    "iou": sklearn_("jaccard_score"),
    "precision": sklearn_("precision_score"),
    "recall": sklearn_("recall_score"),
    "hd95_mm": deepmind("compute_robust_hausdorff", 95),
    "surface_dice": deepmind("compute_surface_dice_at_tolerance", 1.6),
}


def compare(predicted: np.ndarray, true: np.ndarray) -> Comparison:
    return Comparison(predicted, true, SPACING, diagonal_mm=100.0, tolerance_mm=1.6)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.zeros((14, 12, 10), dtype=bool)
    true[3:10, 2:9, 2:8] = True
    return np.roll(true, rng.integers(-2, 3, 3), (0, 1, 2)) & (rng.random(true.shape) < 0.9), true


@pytest.mark.parametrize("name", METRICS.own)
def test_every_metric_is_what_another_program_says(name: str) -> None:
    assert name in ORACLES, "what computes it elsewhere?"
    metric = load_metrics()[name]
    for seed in range(4):
        assert metric(compare(*blobs(seed))) == pytest.approx(ORACLES[name](*blobs(seed)), abs=1e-6)


@pytest.mark.parametrize("name", METRICS.own)
def test_nothing_improves_by_missing_or_inventing(name: str) -> None:
    metric = load_metrics()[name]
    sign = 1 if metric.column.higher_is_better else -1
    empty = np.zeros_like(blobs(0)[0])
    perfect = metric(compare(blobs(0)[1], blobs(0)[1]))
    measured = [metric(compare(*blobs(seed))) for seed in range(4)]
    for charged in (metric(compare(empty, blobs(0)[1])), metric(compare(blobs(0)[1], empty))):
        assert all(sign * charged < sign * value <= sign * perfect for value in measured)
    assert metric(compare(empty, empty)) is None


@pytest.mark.parametrize("name", METRICS.own)
def test_a_column_says_what_it_is(name: str) -> None:
    column = load_metrics()[name].column
    assert column.title
    assert column.meaning
    assert column.charge in CHARGES
    assert name not in {*FIELDS, "n", "n_of", "states", "ci95", "micro", "convention"}, (
        "a place in metrics.json is taken"
    )
    titles = [metric.column.title for metric in load_metrics().values()]
    assert len(set(titles)) == len(titles)


def test_distances_are_computed_once_for_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    import medseg.metrics.metric as module

    calls, real = [], module.surface_distances
    monkeypatch.setattr(module, "surface_distances", lambda *given: calls.append(given) or real(*given))
    found = compare(*blobs(0))
    for metric in load_metrics().values():
        metric(found)
    assert len(calls) == 1


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a metric that an installed package brings."""
    site = tmp_path / "site"
    (site / "voxelplug-1.2.dist-info").mkdir(parents=True)
    (site / "voxelplug-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: voxelplug\nVersion: 1.2\n")
    entry = "[medseg.metrics]\nvolume_error = voxelplug:VolumeError\n"
    (site / "voxelplug-1.2.dist-info" / "entry_points.txt").write_text(entry)
    (site / "voxelplug.py").write_text(
        "from medseg.metrics.metric import Column, Metric\n\n"
        "class VolumeError(Metric):\n"
        "    column = Column('volume error', digits=1, higher_is_better=False, charge=\"the image's diagonal\")\n\n"
        "    def measure(self, found):\n"
        "        if found.counts.predicted == 3:\n"
        "            return float('nan')\n"
        "        return abs(found.counts.predicted / found.counts.true - 1)\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(METRICS, "_found", {})
    monkeypatch.delitem(sys.modules, "voxelplug", raising=False)
    assert metadata.version("voxelplug") == "1.2"
    return "volume_error"


def test_a_package_brings_a_metric_that_is_loaded_where_it_is_asked_for(plugin: str, tmp_path: Path) -> None:
    truth = np.zeros((5, 6, 7), np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    options = {"labels": LABELS, "spacing_mm": (1, 1, 1), "tolerance_mm": 1.0}
    assert plugin not in score_case(truth, truth, case="a", **options)[0].metrics
    assert "voxelplug" not in sys.modules, "nobody asked for it"
    by = load_metrics([plugin])
    (half,) = score_case(np.where(np.arange(7) == 1, truth, 0), truth, case="a", by=by, **options)
    assert (half.metrics[plugin], half.dice) == (0.5, pytest.approx(2 / 3))
    three = truth.copy()
    three[1:3, 1:3, 1:3] = 0
    three[1, 1, 1:4] = 1
    (undefined,) = score_case(three, truth, case="b", by=by, **options)
    assert undefined.metrics[plugin] is None
    table = MetricsTable([half, undefined])
    assert "volume error" in table.text().splitlines()[0]
    assert "volume error is missing in some cases, and counted in 1 of 2 (organ)" in table.text()
    assert (
        table.summary()["targets"]["organ"] | {plugin: 0.5, "n": 2, "n_of": {plugin: 1}}
        == (table.summary()["targets"]["organ"])
    )
    assert "the image's diagonal as HD95 and volume error" in table.convention_text
    table.write(tmp_path / "eval")


def test_a_table_of_a_package_that_is_not_here_any_more_is_read_and_shown(plugin: str, tmp_path: Path) -> None:
    by, box = load_metrics([plugin]), np.ones((4, 4), np.uint8)
    options = {"labels": LABELS, "spacing_mm": (1, 1), "tolerance_mm": 1.0, "by": by}
    table = MetricsTable(score_case(box, box, case="a", **options))
    table.write(tmp_path)
    sys.path.remove(str(tmp_path / "site"))
    METRICS._found.clear()
    assert plugin not in METRICS
    again = MetricsTable.read(tmp_path)
    assert again.text() == table.text()
    assert again.summary() == table.summary()


def test_folders_of_masks_are_scored_by_it_too(plugin: str, tmp_path: Path) -> None:
    for folder in ("truth", "masks"):
        (tmp_path / folder).mkdir()
        volume = np.arange(60).reshape(3, 4, 5).astype(np.uint8) % 3
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / folder / "hippocampus_1.nii.gz")
    options = {"dataset": "task04_hippocampus", "progress": False}
    report = score(tmp_path / "masks", tmp_path / "truth", metrics=[plugin], **options)
    assert report.table.summary()[f"mean_{plugin}"] == 0.0
    with pytest.raises(ConfigError, match="did you mean 'surface_dice'"):
        score(tmp_path / "masks", tmp_path / "truth", metrics=["surfaces_dice"], **options)
