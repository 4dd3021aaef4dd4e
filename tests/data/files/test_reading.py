"""How images are read where somebody says it: for one call, its threads and processes, and nowhere else."""

from __future__ import annotations

import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medseg.core.errors import ConfigError, DataError
from medseg.core.parallel import in_processes, in_threads
from medseg.data.cases.case import Case
from medseg.data.files.images import grid_difference, read_image, read_label
from medseg.data.files.limits import FILE, limit
from medseg.data.files.reading import (
    DESCRIPTION,
    MODALITY,
    SPACING,
    ReadingRules,
    begin,
    choice,
    now,
    read_as,
    reading,
    said_spacing,
    seen_as,
)
from medseg.data.training.cache import CachedDataset
from medseg.engine.evaluator import CaseDataset, Failure

RULES = [
    ReadingRules(),
    ReadingRules(spacing_mm=(1.0, 2.0, 5.0)),
    ReadingRules(modality="MR", description="T2"),
    ReadingRules(largest_file_gib=3.0, spacing_mm=(0.5, 0.5)),
]


def state(_: object = None) -> list[object]:
    return [limit(FILE), *seen_as()]


def of(rules: ReadingRules) -> list[object]:
    series = [rules.modality, rules.description]
    return [rules.largest_file_gib or 16.0, series, rules.spacing_mm]


@pytest.mark.parametrize(("outer", "inner"), itertools.product(RULES, RULES))
def test_rules_hold_inside_and_those_around_them_again_behind(outer: ReadingRules, inner: ReadingRules) -> None:
    before, environment = state(), dict(os.environ)
    with reading(outer):
        assert state() == of(outer)
        with suppress(KeyError), reading(inner):
            assert state() == of(inner)
            raise KeyError
        with reading(inner):
            begin(RULES[1])  # as a bundle begins
            read_as(modality="CT")
        assert state() == of(outer)
        assert list(in_threads(state, range(5), 3)) == [of(outer)] * 5
        assert os.environ == environment
    assert state() == before == of(ReadingRules())


def test_processes_read_as_the_one_that_starts_them() -> None:
    with reading(RULES[3]):
        assert list(in_processes(state, range(16), 2)) == [of(RULES[3])] * 16


def test_calls_in_several_threads_do_not_hear_of_each_other() -> None:
    def call(number: int) -> bool:
        rules = RULES[number % len(RULES)]
        with reading(rules):
            return all(state() == of(rules) for _ in range(200))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(40)))


def test_the_environment_counts_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {SPACING: "[1, 2, 3]", MODALITY: "PT", DESCRIPTION: "body", FILE: "5"}.items():
        monkeypatch.setenv(name, text)
    assert state() == [5.0, ["PT", "body"], (1.0, 2.0, 3.0)]
    with reading(RULES[3]):
        assert state() == [3.0, ["PT", "body"], (0.5, 0.5)]
    for text in ("1", "1,2,3,4", "a,b,c", "0,1,1", "inf,1,1"):
        monkeypatch.setenv(SPACING, text)
        with pytest.raises(ConfigError, match=f"{SPACING}.*no spacing"):
            said_spacing()
    monkeypatch.setenv(DESCRIPTION, "(")
    with pytest.raises(ConfigError, match=DESCRIPTION):
        choice()


def test_a_data_set_that_is_sent_to_another_process_is_read_as_where_it_was_sent_from(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), np.eye(4)), tmp_path / "a.nii")
    case = Case("a", (str(tmp_path / "a.nii"),))
    for kind in (CaseDataset, lambda *given: CachedDataset(*given, tmp_path / "cache")):
        with reading(RULES[1]):
            here = kind([case], read_affine)
            sent = pickle.loads(pickle.dumps(here))
        for data, expected in ((sent, (1.0, 2.0, 5.0)), (pickle.loads(pickle.dumps(sent)), (1.0, 2.0, 5.0))):
            found = data[0]
            assert not isinstance(found, Failure), found
            assert np.allclose(np.diag(found["native_affine"])[:3], expected)
        assert now() == ReadingRules()


def read_affine(case: dict) -> dict:
    import torch
    from monai.data import MetaTensor

    image = read_image(case["image"])
    affine = torch.from_numpy(image.affine)
    content = {"case": case["case"], "image": MetaTensor(torch.from_numpy(image.array), affine=affine)}
    return {**content, "native_affine": affine, "native_shape": image.shape}


def turned(seed: int) -> np.ndarray:
    """The directions of a volume's axes, as columns."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix if np.linalg.det(matrix) > 0 else -matrix


@pytest.mark.parametrize("said", [None, (1.0, 1.0, 5.0), (0.3, 2.0, 0.7)])
@pytest.mark.parametrize("seed", range(6))
def test_a_cropped_segmentation_lies_where_it_was_cropped_from(
    tmp_path: Path, seed: int, said: tuple[float, ...] | None
) -> None:
    draw = np.random.default_rng(seed)
    shape, spacing = draw.integers(10, 20, 3), draw.uniform(0.5, 3, 3)
    whole = np.zeros(shape, np.uint8)
    low = draw.integers(0, 6, 3)
    whole[tuple(slice(start, start + 3) for start in low)] = 1
    begins = [draw.integers(0, start + 1) for start in low]
    image = SimpleITK.GetImageFromArray(whole.T.astype(np.int16) * 500)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(draw.uniform(-90, 90, 3).tolist())
    image.SetDirection((turned(seed) if seed else np.eye(3)).ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    cropped = SimpleITK.Cast(image[*(slice(int(start), None) for start in begins)] > 0, SimpleITK.sitkUInt8)
    for key, value in {"ID": "s", "Name": "organ", "Layer": "0", "LabelValue": "1"}.items():
        cropped.SetMetaData(f"Segment0_{key}", value)
    SimpleITK.WriteImage(cropped, str(tmp_path / "a.seg.nrrd"))
    with reading(ReadingRules(spacing_mm=said)):
        read = read_image(tmp_path / "a.nrrd")
        label = read_label(tmp_path / "a.seg.nrrd", read)
    assert grid_difference(read, label) is None
    assert np.array_equal(label.array[0], whole)
    assert np.allclose(label.spacing_mm, spacing if said is None else said)


@pytest.mark.parametrize("said", [(1.0, 2.0), (1.0, 2.0, 5.0)])
def test_one_slice_has_a_thickness_or_none(tmp_path: Path, said: tuple[float, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 1), np.float32), np.diag([3.0, 3, 3, 1])), tmp_path / "a.nii")
    with reading(ReadingRules(spacing_mm=said)):
        image = read_image(tmp_path / "a.nii")
    assert image.spacing_mm == (1.0, 2.0)
    assert np.linalg.norm(image.affine[:3, 2]) == pytest.approx(said[2] if len(said) > 2 else 3)


def test_what_has_more_axes_than_there_are_lengths_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), np.eye(4)), tmp_path / "a.nii")
    with reading(ReadingRules(spacing_mm=(1.0, 2.0))), pytest.raises(DataError, match=r"3 axes.*2 lengths"):
        read_image(tmp_path / "a.nii")


def test_an_image_says_whose_spacing_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{name}.nii" for name in "ab"]
    for file in files:
        nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), np.eye(4)), file)
    assert read_image(files).notes == ()
    with reading(RULES[1]):
        (note,) = read_image(files).notes  # once, of however many channels
    assert note == "the spacing is that of the config: 1 x 2 x 5 mm; the file says 1 x 1 x 1 mm"
    monkeypatch.setenv(SPACING, "1,2,4")
    (note,) = read_image(files).notes
    assert f"the variable {SPACING}: 1 x 2 x 4 mm" in note
