"""Natural images in reports: the card's colours where the classes are, a legend, and nothing over what is ignored."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.config.cards import load_card
from medseg.metrics.benchmarks import Benchmark
from medseg.metrics.summary import BenchmarkTable
from medseg.review.benchmark import write_benchmark_report
from medseg.review.picture import OPACITY, label_palette, picture_figure

CARD = load_card("camvid")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(BytesIO(png)).convert("RGB")).reshape(-1, 3)


def near(png: bytes, colour: tuple[float, ...]) -> int:
    return int((np.abs(pixels(png).astype(int) - np.array(colour).round()).max(1) <= 2).sum())


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_classes_are_drawn_in_the_cards_colours(channels: int) -> None:
    image = np.zeros((channels, 60, 80), np.uint8 if channels == 3 else np.uint16)
    truth = np.full((1, 60, 80), 11, np.uint8)
    truth[:, :20] = CARD.labels.classes["Car"]
    prediction = np.full((60, 80), CARD.labels.classes["Sky"], np.uint8)
    drawn = picture_figure(image, truth, prediction, labels=CARD.labels, title="frame <1>")
    car, sky = (tuple(OPACITY * part for part in CARD.labels.colours[name]) for name in ("Car", "Sky"))
    tree = tuple(OPACITY * part for part in CARD.labels.colours["Tree"])
    white = (OPACITY * 255,) * 3
    assert near(drawn, car) > 1000
    assert near(drawn, sky) > 3 * near(drawn, car) * 0.9, "a third of one panel against the whole other one"
    assert near(drawn, white) > 1.5 * near(drawn, car), "the ignored two thirds are white"
    assert near(drawn, tree) == 0
    assert near(drawn, CARD.labels.colours["Car"]) > 50, "the legend"
    assert near(drawn, CARD.labels.colours["Tree"]) == 0, "what is in neither is not in the legend"


def test_a_large_picture_is_drawn_small() -> None:
    image = np.zeros((3, 1024, 2048), np.uint8)
    label = np.zeros((1024, 2048), np.uint8)
    drawn = picture_figure(image, label, label, labels=CARD.labels, title="large")
    assert len(drawn) < 100_000


def test_the_report_names_convention_classes_and_colours(tmp_path: Path) -> None:
    benchmark = Benchmark.of_card(CARD)
    truth = np.array([[0, 0, 1, 11]], np.uint8)
    table = BenchmarkTable(benchmark, benchmark.count(truth, np.array([[0, 1, 1, 3]], np.uint8)))
    history = [{"epoch": 1, "minutes": 0.1, "train/loss": 1.0, "val/mean_iou": 0.5, "val/iou/Sky": 0.5}]
    write_benchmark_report(
        tmp_path / "report.html",
        title="camvid <test>",
        table=table,
        cases={"frame": 0.5},
        history=history,
        overlays=[("worst: frame", b"png")],
        config_text="name: camvid",
        environment={"torch": "2"},
    )
    page = (tmp_path / "report.html").read_text()
    assert "camvid &lt;test&gt;" in page
    assert "convention “voc”" in page
    assert "0.5000" in page  # Sky: 1 of 2
    assert "#%02x%02x%02x" % CARD.labels.colours["Sky"] in page  # noqa: UP031
    assert "Validation IoU" in page
    assert "(absent)" in page
    assert all(name in page for name in CARD.labels.classes)


def test_every_value_has_a_colour() -> None:
    colours = label_palette(CARD.labels)
    assert colours.shape == (256, 3)
    assert tuple(colours[CARD.labels.classes["Bicyclist"]]) == CARD.labels.colours["Bicyclist"]
