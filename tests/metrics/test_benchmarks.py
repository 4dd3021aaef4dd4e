"""Figures of natural-image benchmarks against the official program of Cityscapes and transcriptions of the others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as Official
from PIL import Image

from medseg.config.cards import load_card
from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.metrics.benchmarks import Benchmark, Tally
from medseg.metrics.summary import BenchmarkTable

Pair = tuple[np.ndarray, np.ndarray]
CITYSCAPES = Benchmark.of_card(load_card("cityscapes"))
TOY = Labels({"a": 0, "b": 1, "c": 2}, ignore_index=255, background=None)


def tally(benchmark: Benchmark, pairs: list[tuple[np.ndarray, ...]]) -> Tally:
    total = benchmark.empty
    for pair in pairs:
        total += benchmark.count(*(array.astype(np.uint8) for array in pair[:2]), *pair[2:])
    return total


def figures(benchmark: Benchmark, pairs: list[tuple[np.ndarray, ...]]) -> dict[str, Any]:
    return BenchmarkTable(benchmark, tally(benchmark, pairs)).summary()


def ious(summary: dict[str, Any]) -> list[float | None]:
    return [row["iou"] for row in summary["classes"].values()]


def blocks(rng: np.random.Generator, values: list[int], shape: tuple[int, int] = (24, 40)) -> np.ndarray:
    """A label map of rectangles, as labels are."""
    small = rng.choice(values, size=(shape[0] // 4, shape[1] // 4))
    return small.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def spoiled(rng: np.random.Generator, truth: np.ndarray, values: list[int], share: float = 0.3) -> np.ndarray:
    """The truth with a share of its pixels replaced."""
    wrong = rng.random(truth.shape) < share
    return np.where(wrong, rng.choice(values, size=truth.shape), truth).astype(np.uint8)


# --- Cityscapes: the official program ------------------------------------------------------------------------------


def official(folder: Path, pairs: list[tuple[np.ndarray, ...]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What cityscapesScripts says; NumPy 2.4 has no `in1d` any more, so it gets that name back."""
    monkeypatch.setattr(np, "in1d", lambda array, values: np.isin(array, values).ravel(), raising=False)
    for name, value in {"quiet": True, "JSONOutput": False, "evalInstLevelScore": True}.items():
        monkeypatch.setattr(Official.args, name, value)
    truths, predictions = [], []
    for number, (truth, prediction, instances) in enumerate(pairs):
        stem = folder / f"aachen_{number:06}_000019"
        Image.fromarray(truth).save(f"{stem}_gtFine_labelIds.png")
        Image.fromarray(instances.astype(np.uint16)).save(f"{stem}_gtFine_instanceIds.png")
        Image.fromarray(prediction).save(f"{stem}_prediction.png")
        truths.append(f"{stem}_gtFine_labelIds.png")
        predictions.append(f"{stem}_prediction.png")
    return Official.evaluateImgLists(predictions, truths, Official.args)


def agree(summary: dict[str, Any], oracle: dict[str, Any]) -> None:
    def close(ours: float | None, theirs: float) -> bool:
        return math.isnan(theirs) if ours is None else math.isclose(ours, theirs, rel_tol=1e-12)

    for ours, theirs, key, mean, average in (
        ("classes", "classScores", "iou", "mean_iou", "averageScoreClasses"),
        ("classes", "classInstScores", "iiou", "mean_iiou", "averageScoreInstClasses"),
        ("categories", "categoryScores", "iou", "mean_category_iou", "averageScoreCategories"),
        ("categories", "categoryInstScores", "iiou", "mean_category_iiou", "averageScoreInstCategories"),
    ):
        for name, row in summary[ours].items():
            assert close(row.get(key), oracle[theirs][name]), (name, key, row, oracle[theirs][name])
        assert all(math.isnan(score) for name, score in oracle[theirs].items() if name not in summary[ours])
        assert close(summary[mean], oracle[average]), mean


def street(rng: np.random.Generator, values: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A truth, a prediction that also says ignored classes, and objects, a third of them groups."""
    truth = blocks(rng, values)
    numbers = blocks(rng, list(range(3)))
    single = (truth >= 24) & (blocks(rng, [0, 1, 2]) > 0)
    instances = np.where(single, truth.astype(int) * 1000 + numbers, truth)
    return truth, spoiled(rng, truth, [*values, *range(34)]), instances


@pytest.mark.parametrize("seed", range(12))
def test_cityscapes_equals_the_official_program(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    kept = rng.choice(34, size=rng.integers(3, 34), replace=False).tolist()  # so that classes are absent, too
    pairs = [street(rng, kept) for _ in range(3)]
    agree(figures(CITYSCAPES, pairs), official(tmp_path, pairs, monkeypatch))


def test_cityscapes_without_any_object_or_false_positive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.full((8, 8), 7, np.uint8)
    truth[:, 4:] = 26  # a group of cars: no object
    pairs = [(truth, truth, truth)]
    oracle = official(tmp_path, pairs, monkeypatch)
    summary = figures(CITYSCAPES, pairs)
    agree(summary, oracle)
    assert summary["classes"]["car"] | {"iou": 1.0, "iiou": None} == summary["classes"]["car"]
    assert summary["mean_iiou"] is None
    assert summary["categories"]["vehicle"] == {"iou": 1.0, "iiou": None}


def test_cityscapes_real_frame(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = test_data / "cityscapes_sample/gtFine/val/frankfurt"
    truth, instances = (
        np.asarray(Image.open(folder / f"frankfurt_000000_000294_gtFine_{kind}.png"))
        for kind in ("labelIds", "instanceIds")
    )
    rng = np.random.default_rng(0)
    shifted = np.roll(truth, (3, 7), (0, 1))
    pairs = [(truth, prediction, instances) for prediction in (truth, shifted, spoiled(rng, truth, list(range(34))))]
    agree(figures(CITYSCAPES, pairs), official(tmp_path, pairs, monkeypatch))


def test_an_object_counts_by_the_mean_size_of_its_class_over_its_own() -> None:
    truth = np.full((10, 10), 7, np.uint8)
    truth[:4] = 26
    instances = truth.astype(np.uint16)
    instances[:1], instances[1:4] = 26000, 26001  # 10 pixels, all found; 30 pixels, none found
    prediction = truth.copy()
    prediction[1:4] = 28  # a bus: the wrong class of the right category
    prediction[9, :5] = 26  # 5 invented pixels
    weight = 12794.0202738185
    summary = figures(CITYSCAPES, [(truth, prediction, instances)])
    assert summary["classes"]["car"]["iiou"] == pytest.approx(weight / (2 * weight + 5))
    assert summary["categories"]["vehicle"]["iiou"] == pytest.approx(2 * weight / (2 * weight + 5))
    assert summary["classes"]["bus"]["iiou"] == 0.0
    assert summary["classes"]["person"]["iiou"] is None


def test_objects_of_a_class_without_objects_are_refused() -> None:
    truth = np.full((4, 4), 7, np.uint8)
    with pytest.raises(DataError, match=r"roads\.png.*classes that have none: 7"):
        CITYSCAPES.count(truth, truth, np.full((4, 4), 7001, np.uint16), names=("t", "p", "roads.png"))


# --- VOC and ADE20K: their rules, written down here from their description -----------------------------------------


def voc_rules(pairs: list[Pair], classes: int) -> tuple[list[float], float]:
    """VOCevalseg: pixels whose truth is below 255 go into a confusion matrix; a plain mean."""
    counts = np.zeros((classes, classes))
    for truth, prediction in pairs:
        for true, predicted in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if true < 255:
                counts[true, predicted] += 1
    accuracies = []
    for j in range(classes):
        union = counts[j].sum() + counts[:, j].sum() - counts[j, j]
        accuracies.append(counts[j, j] / union if union else math.nan)
    return accuracies, sum(accuracies) / classes


def ade20k_rules(pairs: list[Pair], classes: int) -> tuple[list[float], float, float]:
    """demoEvaluation: areas of intersection and union image by image, then sums; an empty union counts 0."""
    intersection, union = np.zeros(classes), np.zeros(classes)
    correct = labelled = 0
    for truth, prediction in pairs:
        seen = truth > 0
        shown = prediction * seen
        correct += int(((shown == truth) & seen).sum())
        labelled += int(seen.sum())
        for k in range(1, classes + 1):
            both = int(((shown == k) & (truth == k)).sum())
            intersection[k - 1] += both
            union[k - 1] += np.finfo(float).eps + (shown == k).sum() + (truth == k).sum() - both
    iou = intersection / union
    return iou.tolist(), float(iou.mean()), correct / labelled


@pytest.mark.parametrize("seed", range(3))
def test_voc_equals_its_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    everything = [*range(21), 255]
    truths = [blocks(rng, everything) for _ in range(4)]
    pairs = [(truth, spoiled(rng, np.where(truth == 255, 0, truth), everything[:-1])) for truth in truths]
    if seed == 0:  # without one class anywhere, its IoU and the mean are undefined
        pairs = [tuple(np.where(array == 20, 0, array) for array in pair) for pair in pairs]
    expected, mean = voc_rules(pairs, 21)
    summary = figures(Benchmark.of_card(load_card("voc2012")), pairs)
    assert [math.nan if iou is None else iou for iou in ious(summary)] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert (summary["mean_iou"] is None) == (seed == 0)
    if seed:
        assert summary["mean_iou"] == pytest.approx(mean, abs=1e-9)


def test_voc_real_frames(test_data: Path) -> None:
    files = sorted((test_data / "VOCdevkit_sample/VOC2012/SegmentationClass").glob("*.png"))
    truths = [np.asarray(Image.open(file)) for file in files]  # palette pictures: their indices
    pairs = [(truth, np.roll(np.where(truth == 255, 0, truth), 9, 0)) for truth in truths]
    expected, _ = voc_rules(pairs, 21)
    summary = figures(Benchmark.of_card(load_card("voc2012")), pairs)
    assert [math.nan if iou is None else iou for iou in ious(summary)] == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert summary["pixels"] == sum(int((truth < 255).sum()) for truth in truths)


@pytest.mark.parametrize("seed", range(3))
def test_ade20k_equals_its_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = rng.choice(151, size=40, replace=False).tolist()
    pairs = [(truth := blocks(rng, some), spoiled(rng, truth, [0, *some])) for _ in range(3)]  # 0: no class
    expected, mean, accuracy = ade20k_rules(pairs, 150)
    summary = figures(Benchmark.of_card(load_card("ade20k")), pairs)
    assert ious(summary) == pytest.approx(expected, abs=1e-9)
    assert summary["mean_iou"] == pytest.approx(mean, abs=1e-9)
    assert summary["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert summary["score"] == pytest.approx((accuracy + mean) / 2, abs=1e-9)


def test_ade20k_real_frames(test_data: Path) -> None:
    folder = test_data / "ADEChallengeData2016_sample"
    files = sorted((folder / "annotations" / "validation").glob("*.png"))
    truths = [np.asarray(Image.open(file)) for file in files]
    pairs = [(truth, np.roll(truth, 5, 1)) for truth in truths]
    expected, mean, _ = ade20k_rules(pairs, 150)
    summary = figures(Benchmark.of_card(load_card("ade20k")), pairs)
    assert ious(summary) == pytest.approx(expected, abs=1e-9)
    assert summary["mean_iou"] == pytest.approx(mean, abs=1e-9)


# --- by hand -------------------------------------------------------------------------------------------------------


def toy(convention: str) -> Benchmark:
    return Benchmark(TOY, convention)


ABSENT = [np.array([[0] * 5 + [1] * 4]), np.array([[0] * 4 + [1] * 5])]  # IoU 4/5 and 4/5; c is nowhere
INVENTED = [np.array([[0] * 5 + [1] * 5]), np.array([[0] * 4 + [2] + [1] * 5])]  # one pixel of c, wrongly


@pytest.mark.parametrize(
    ("convention", "pair", "expected", "mean"),
    [
        ("voc", ABSENT, [0.8, 0.8, None], None),
        ("cityscapes", ABSENT, [0.8, 0.8, None], 0.8),
        ("ade20k", ABSENT, [0.8, 0.8, 0.0], 1.6 / 3),
        *((convention, INVENTED, [0.8, 1.0, 0.0], 0.6) for convention in ("voc", "cityscapes", "ade20k")),
    ],
)
def test_absent_and_invented_classes(
    convention: str, pair: Pair, expected: list[float | None], mean: float | None
) -> None:
    summary = figures(toy(convention), [pair])
    assert ious(summary) == pytest.approx(expected)
    assert summary["mean_iou"] == (mean if mean is None else pytest.approx(mean))
    assert summary["convention"] == convention
    assert summary["classes"]["c"]["state"] == ("absent" if pair is ABSENT else "false_positive_only")
    assert convention in BenchmarkTable(toy(convention), tally(toy(convention), [pair])).text()


def test_all_figures_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2, 255, 255])
    prediction = np.array([0, 0, 0, 1, 1, 1, 0, 2, 1, 2])  # the last two do not count
    summary = figures(toy("voc"), [(truth, prediction)])
    assert ious(summary) == pytest.approx([3 / 5, 2 / 4, 1])
    assert [row["dice"] for row in summary["classes"].values()] == pytest.approx([6 / 8, 4 / 6, 1])
    assert [row["accuracy"] for row in summary["classes"].values()] == pytest.approx([3 / 4, 2 / 3, 1])
    assert summary["pixels"] == 8
    assert summary["pixel_accuracy"] == pytest.approx(6 / 8)
    assert summary["mean_iou"] == pytest.approx((0.6 + 0.5 + 1) / 3)
    assert summary["mean_dice"] == pytest.approx((6 / 8 + 4 / 6 + 1) / 3)
    assert summary["mean_class_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert summary["frequency_weighted_iou"] == pytest.approx((4 * 0.6 + 3 * 0.5 + 1) / 8)
    assert "score" not in summary
    assert "categories" not in summary


def test_values_that_are_no_classes_are_refused_by_file_and_value() -> None:
    truth = np.array([[0, 1, 255]], np.uint8)
    with pytest.raises(DataError, match=r"p\.png.*255 \(1 pixels\)[\s\S]*255 is never a class"):
        toy("voc").count(truth, truth, names=("t.png", "p.png", ""))
    with pytest.raises(DataError, match=r"(?s)t\.png.*7 \(1 pixels\).*p\.png.*9 \(2 pixels\)"):
        toy("cityscapes").count(np.uint8([[0, 7, 1]]), np.uint8([[9, 9, 1]]), names=("t.png", "p.png", ""))
    with pytest.raises(DataError, match="255 is never a class"):  # not even where the truth is ignored
        toy("ade20k").count(truth, truth)
    with pytest.raises(DataError, match=r"1 x 4.*is 1 x 3"):
        toy("voc").count(truth, np.zeros((1, 4), np.uint8))
    with pytest.raises(DataError, match="did you mean 'cityscapes'"):
        toy("cityscape")


def test_tallies_add_up_to_the_last_digit_in_any_order() -> None:
    rng = np.random.default_rng(3)
    pairs = [street(rng, list(range(34))) for _ in range(6)]
    whole = tally(CITYSCAPES, pairs)
    parts = tally(CITYSCAPES, pairs[3:][::-1])
    parts += tally(CITYSCAPES, pairs[:3])
    assert BenchmarkTable(CITYSCAPES, parts).summary() == BenchmarkTable(CITYSCAPES, whole).summary()
    parts += CITYSCAPES.count(*pairs[0][:2])  # one image whose objects are unknown: no iIoU
    assert "mean_iiou" not in BenchmarkTable(CITYSCAPES, parts).summary()
