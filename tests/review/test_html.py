"""The report: self-contained, escaped, complete, also where there is little to say."""

from __future__ import annotations

import base64
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from medseg.core.labels import Labels
from medseg.metrics.table import MetricsTable, score_case
from medseg.review.html import write_report

LABELS = Labels(classes={"background": 0, "anterior": 1, "posterior <part>": 2, "never there": 3})
HISTORY = [
    {"epoch": 1, "minutes": 0.5, "train/loss": 1.4, "train/learning_rate": 1e-3},
    {"epoch": 2, "minutes": 1.0, "train/loss": 0.9, "val/mean_dice": 0.5, "val/dice/anterior": 0.5},
    {"epoch": 3, "minutes": 1.5, "train/loss": 0.7, "val/mean_dice": 0.6, "val/dice/never there": None},
]
VOID = {"meta", "img", "br", "link", "path", "use", "rect", "line", "circle", "image"}


class Page(HTMLParser):
    """Collects tags, attributes and text; complains about tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.ids, self.links = [], Counter(), Counter(), []
        self.text = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes) -> None:
        self.tags[tag] += 1
        for name, value in attributes:
            if name == "id":
                self.ids[value] += 1
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def make_table(cases: int = 4) -> MetricsTable:
    rng = np.random.default_rng(0)
    scores = []
    for number in range(cases):
        truth = np.zeros((10, 10, 10), dtype=np.uint8)
        truth[2:6, 2:6, 2:6], truth[6:9, 2:6, 2:6] = 1, 2
        prediction = np.where(rng.random(truth.shape) < 0.1, 0, truth)
        prediction[truth == 2] *= number > 0  # missed in the first case
        scores += score_case(
            prediction, truth, case=f"case_{number}", labels=LABELS, spacing_mm=(1, 1, 1), tolerance_mm=1.0
        )
    return MetricsTable(scores)


def report(path: Path, table: MetricsTable, **options) -> tuple[str, Page]:
    write_report(path, title="hippo & <script>alert(1)</script>", summary=table.summary(), table=table, **options)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_everything_is_in_one_file(tmp_path: Path) -> None:
    table = make_table()
    text, page = report(
        tmp_path / "new" / "report.html",
        table,
        history=HISTORY,
        overlays=[("worst: case_0", b"\x89PNG one"), ("best: case_1", b"\x89PNG two")],
        config_text="seed: 0  # <b>",
        environment={"torch": "2.13", "cuda": None},
    )
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "report.html"]
    assert "script" not in page.tags
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not re.search(r"url\((?!#)|@import", text)
    pictures = [link for link in page.links if link.startswith("data:")]
    assert [base64.b64decode(link.split(",")[1]) for link in pictures] == [b"\x89PNG one", b"\x89PNG two"]
    for words in (
        "hippo & <script>",
        "worst: case_0",
        "posterior <part>",
        "(missed)",
        "seed: 0  # <b>",
        '"torch": "2.13"',
    ):
        assert words in page.text
    assert "nan" not in page.text.lower().split()


def test_drawings_are_valid_and_do_not_share_ids(tmp_path: Path) -> None:
    text, page = report(tmp_path / "report.html", make_table(), history=HISTORY)
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert len(drawings) == 2
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    # Ids named by position ("axes_1") repeat, but nothing refers to them; those that are referred to are unique.
    targets = {link[1:] for link in page.links if link.startswith("#")} | set(re.findall(r"url\(#(.+?)\)", text))
    assert targets
    assert {name: page.ids[name] for name in targets} == dict.fromkeys(targets, 1)


def test_same_data_same_file(tmp_path: Path) -> None:
    one, _ = report(tmp_path / "one.html", make_table(), history=HISTORY)
    other, _ = report(tmp_path / "other.html", make_table(), history=HISTORY)
    assert one == other


@pytest.mark.parametrize("cases", [0, 1])
def test_little_to_say(tmp_path: Path, cases: int) -> None:
    _, page = report(tmp_path / "report.html", make_table(cases))
    assert page.tags["img"] == 0
    assert page.tags["svg"] == cases
    assert "–" in page.text  # a mean without any case is a dash, not a number


def test_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    table = make_table()
    summary = table.summary()
    _, page = report(tmp_path / "report.html", table)
    for target in summary["targets"].values():
        for metric in ("dice", "recall"):
            if target[metric] is not None:
                assert f"{target[metric]:.3f}" in page.text
    assert f"{summary['mean_hd95_mm']:.2f} mm" in page.text
