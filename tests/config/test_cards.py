from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.config import cards
from medseg.config.cards import load_card
from medseg.config.errors import ConfigError
from medseg.config.resources import resource_names
from medseg.data import phantom


@pytest.mark.parametrize("name", resource_names("datasets"))
def test_shipped_cards(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    targets = card.labels.targets
    assert targets
    assert set(targets) <= set(card.labels.colours)
    assert len({card.labels.colours[target] for target in targets}) == len(targets)
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
