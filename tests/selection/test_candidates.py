"""What the survey of held-out masks finds for each step to do, and what is tried because of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.config.postprocess import PostprocessConfig, Step, argument_of, in_words, with_step
from medseg.core.labels import Labels
from medseg.inference.cleaning import CLEANING
from medseg.inference.cleaning.clean import clean_mask
from medseg.inference.cleaning.step import CleaningStep, thresholds
from medseg.selection.trial import TrialCase, candidates, survey

FOUR = ("keep_largest_component", "minimum_volume_ml", "minimum_total_ml", "fill_holes")
LABELS = Labels(classes={"background": 0, "organ": 1, "lesion": 2})


def spoilt(empty: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A mask with a crumb of 2 and one of 3 voxels of lesion and a hole in the organ, and the truth without."""
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[3:9, 3:9, 3:9] = 1
    if not empty:
        truth[4:7, 4:7, 10:] = 2
    mask = truth.copy()
    mask[0, 0, :2], mask[11, 11, :3], mask[6, 6, 6] = 2, 2, 0
    return mask, truth


def surveyed(folder: Path, mask: np.ndarray, truth: np.ndarray) -> dict:
    affine = np.diag([10.0, 10.0, 10.0, 1.0])  # 1 ml
    files = []
    for name, values in (("mask", mask), ("truth", truth)):
        files.append(str(folder / f"{name}.nii.gz"))
        nib.save(nib.Nifti1Image(values, affine), files[-1])
    return {key: dict(value) for key, value in survey(TrialCase("a", 0, *files, mask.ndim), labels=LABELS).items()}


def test_what_there_is_to_do_is_in_the_unit_of_each_step(tmp_path: Path) -> None:
    found = surveyed(tmp_path, *spoilt())
    assert found["organ"].keys() == CLEANING.own.keys()
    assert [found["organ"][name] for name in FOUR] == [[], [], [], [1.0]]
    assert found["lesion"]["minimum_volume_ml"] == pytest.approx([2.0, 3.0])
    assert found["lesion"]["keep_largest_component"] == [1.0]
    assert found["lesion"]["minimum_total_ml"] == found["lesion"]["fill_holes"] == []
    invented = surveyed(tmp_path, *spoilt(empty=True))
    assert invented["lesion"]["minimum_total_ml"] == pytest.approx([5.0])


def test_every_step_that_could_help_is_tried_in_the_order_of_the_table(tmp_path: Path) -> None:
    surveys = [surveyed(tmp_path, *spoilt()), surveyed(tmp_path, *spoilt(empty=True))]
    tried = candidates(surveys, list(LABELS.targets))
    order = [(list(LABELS.targets).index(step.target), list(CLEANING.own).index(step.kind)) for step in tried]
    assert order == sorted(order)
    assert [step for step in tried if step.kind in FOUR] == [
        Step("fill_holes", "organ"),
        Step("keep_largest_component", "lesion"),
        Step("minimum_volume_ml", "lesion", 5.0),
        Step("minimum_total_ml", "lesion", 10.0),
    ]


def test_nothing_is_tried_on_masks_that_are_right_or_of_a_picture(tmp_path: Path) -> None:
    _, truth = spoilt()
    assert candidates([surveyed(tmp_path, truth, truth)], list(LABELS.targets)) == []
    mask, truth = spoilt()
    tried = candidates([surveyed(tmp_path, mask[..., 0], truth[..., 0])], list(LABELS.targets))
    assert all(not CLEANING[step.kind].constants["NEEDS_VOLUME"] for step in tried)


def test_thresholds_are_round_and_few() -> None:
    assert thresholds([]) == []
    assert thresholds([0.3]) == [0.5]
    assert thresholds([0.5]) == [1.0]
    assert thresholds([0.004, 0.03]) == [0.005, 0.01, 0.02, 0.05]
    many = thresholds([1e-6, 1e3])
    assert (len(many), many[0], many[-1]) == (8, 2e-6, 2e3)


@pytest.mark.parametrize("name", CLEANING.own)
def test_every_step_of_the_table(name: str, tmp_path: Path) -> None:
    """A new step has nothing else to be named in: its key, its words and its trial follow from the table."""
    kind, argument = CLEANING[name].load(), argument_of(name)
    assert issubclass(kind, CleaningStep)
    step = Step(name, "lesion", None if argument is None else 2.5)
    config = with_step(PostprocessConfig(), step)
    assert config.cleaning == {name: ["lesion"] if argument is None else {"lesion": 2.5}}
    assert config.steps == [step]
    assert PostprocessConfig.model_validate_json(config.model_dump_json()) == config
    assert "lesion" in in_words(config.cleaning)
    assert argument is None or ("2.5" in str(step) and step.arguments == {argument.name: 2.5})
    assert list(config.named()) == [((name,) if argument is None else (name, "lesion"), "lesion")]
    assert PostprocessConfig.model_fields[name].description
    mask, _ = spoilt()
    before = mask.copy()
    clean_mask(mask, LABELS, voxel_ml=1.0, **config.cleaning)
    np.testing.assert_array_equal(mask, before)


def test_a_step_for_the_same_target_gives_way() -> None:
    config = PostprocessConfig(minimum_volume_ml={"organ": 1.0, "lesion": 2.0}, fill_holes=["organ"])
    assert with_step(config, Step("minimum_volume_ml", "lesion", 5.0)).minimum_volume_ml == {"organ": 1, "lesion": 5}
    assert with_step(config, Step("fill_holes", "organ")) == config
