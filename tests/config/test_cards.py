from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as CityscapesEvaluation
from cityscapesscripts.helpers import labels as cityscapes_labels
from PIL import Image

from medseg.config import cards
from medseg.config.cards import load_card
from medseg.core.errors import ConfigError
from medseg.core.resources import resource_names
from medseg.data import phantom


@pytest.mark.parametrize("name", resource_names("datasets"))
def test_shipped_cards(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    targets = card.labels.targets
    assert targets
    assert set(targets) <= set(card.labels.colours)
    shared = {"road", "skyscraper"} if name == "ade20k" else set()  # one colour in the official palette, too
    assert len({card.labels.colours[target] for target in targets}) == len(targets) - len(shared) // 2
    assert all(result.source for result in card.published)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("task04_hippocampus", "Task04_Hippocampus"),
        ("task01_brain_tumour", "Task01_BrainTumour_slabs"),
        ("brats2modal", "Dataset015_BraTS2modal"),
    ],
)
def test_cards_agree_with_the_real_data_sets(name: str, folder: str, test_data: Path) -> None:
    card = load_card(name)
    description = json.loads((test_data / folder / "dataset.json").read_text())
    channels = description.get("channel_names") or description["modality"]
    assert len(card.channels) == len(channels)
    labels = description["labels"]
    if card.layout == "msd":  # index -> name
        assert set(card.labels.values) == {int(value) for value in labels}
    else:  # name -> index, or the list of a region's
        values = {key: value if isinstance(value, list) else [value] for key, value in labels.items()}
        assert {key: list(value) for key, value in card.labels.regions.items()} == {
            key: value for key, value in values.items() if key != "background"
        }
        assert list(card.labels.region_values) == description["regions_class_order"]


def voc_colour(index: int) -> tuple[int, int, int]:
    """The formula of the devkit (VOClabelcolormap): bit 3 j + channel of the index is bit 7 - j of the channel."""
    bits = [[index >> (3 * j + channel) & 1 for j in range(3)] for channel in range(3)]
    return tuple(sum(bit << (7 - j) for j, bit in enumerate(channel)) for channel in bits)  # type: ignore[return-value]


def test_voc_has_the_palette_of_its_masks(test_data: Path) -> None:
    labels = load_card("voc2012").labels
    assert labels.values == tuple(range(21))
    assert labels.colours == {name: voc_colour(value) for name, value in labels.classes.items()}
    with Image.open(next((test_data / "VOCdevkit_sample/VOC2012/SegmentationClass").glob("*.png"))) as mask:
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    assert all(tuple(palette[value]) == labels.colours[name] for name, value in labels.classes.items())


def test_cityscapes_is_the_official_list() -> None:
    official = [label for label in cityscapes_labels.labels if label.id >= 0]  # -1: the licence plate, in no label file
    card = load_card("cityscapes")
    assert [
        (name, entry.value, entry.category, not entry.evaluated, entry.instance_pixels is not None, tuple(entry.colour))
        for name, entry in card.classes.items()
    ] == [
        (label.name, label.id, label.category, label.ignoreInEval, label.hasInstances, label.color)
        for label in official
    ]
    scored = sorted((label for label in official if not label.ignoreInEval), key=lambda label: label.trainId)
    assert [label.trainId for label in scored] == list(range(19))
    assert card.labels.values == tuple(label.id for label in scored)
    assert set(card.labels.ignored) == {label.id for label in official if label.ignoreInEval}
    sizes = {name: entry.instance_pixels for name, entry in card.classes.items() if entry.instance_pixels}
    assert sizes == CityscapesEvaluation.args.avgClassSize
    assert len([name for name in sizes if name in card.labels.classes]) == 8


def test_ade20k_is_the_official_list(test_data: Path) -> None:
    rows = (test_data / "ADEChallengeData2016_sample" / "objectInfo150.txt").read_text().splitlines()[1:]
    official = {int(row.split("\t")[0]): row.split("\t")[4].split(",")[0].strip() for row in rows}
    labels = load_card("ade20k").labels
    assert {value: name for name, value in labels.classes.items()} == official
    assert labels.ignored == (0,)
    assert len(labels.targets) == 150


def test_camvid_is_what_its_frames_hold(test_data: Path) -> None:
    card = load_card("camvid")
    files = sorted((test_data / "CamVid" / "valannot").glob("*.png"))
    assert len(files) == card.splits["val"].cases
    assert len(list((test_data / "CamVid" / "trainannot").glob("*.png"))) == card.splits["train"].cases
    values = set()
    for file in files[::10]:
        with Image.open(file) as mask:
            values |= set(np.unique(np.asarray(mask)).tolist())
    assert values == {*card.labels.values, *card.labels.ignored}


def test_split_sizes() -> None:
    sizes = {
        name: [load_card(name).splits[part].cases for part in ("train", "val", "test")]
        for name in ("voc2012", "cityscapes", "ade20k", "camvid")
    }
    assert sizes == {
        "voc2012": [1464, 1449, 1456],
        "cityscapes": [2975, 500, 1525],
        "ade20k": [20210, 2000, 3352],
        "camvid": [367, 101, 233],
    }
    assert load_card("voc2012").splits["train_aug"].cases == 10582


def test_the_phantom_is_what_its_card_says() -> None:
    card = load_card("synthetic_brain_tumour")
    assert card.channels == phantom.MODALITIES
    assert dict(card.labels.classes) == phantom.CLASSES
    assert dict(card.labels.regions) == phantom.REGIONS
    assert card.labels.region_values == phantom.REGION_VALUES


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'task04_hippocampus'"):
        load_card("task04_hipocampus")


def test_a_wrong_card_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = cards.resource_file("datasets", "brats2modal").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        text.replace("licence:", "license:")
        .replace("values: [2, 3]", "values: [2, 9]")
        .replace("value: 3\n", "value: 2\n")
    )
    monkeypatch.setattr(cards, "resource_file", lambda kind, name: wrong)
    with pytest.raises(ConfigError) as caught:
        load_card("wrong")
    found = {problem.where.rpartition(" ")[2]: str(problem) for problem in caught.value.problems}
    assert set(found) == {
        *("license", "classes"),
        *("regions.whole_tumour.values", "regions.tumour_core.values", "regions.enhancing_tumour.values"),
    }
    assert "did you mean 'licence'" in found["license"]
