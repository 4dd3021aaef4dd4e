"""`medseg predict --probabilities --uncertainty`: files beside the masks, and masks that are the same without."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.data.cases.masks import find_masks
from medseg.engine.outputs import map_path
from medseg.workflows.predict import predict
from tests.workflows.test_ensemble import changed

PROBABILITIES = ["probability_lesion", "probability_organ"]


def values(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def maps_of(folder: Path, case: str) -> dict[str, np.ndarray]:
    found = sorted((folder / "medseg").glob(f"{case}_*.nii.gz"))
    return {file.name.removeprefix(f"{case}_").removesuffix(".nii.gz"): values(file) for file in found}


def test_maps_lie_on_the_grid_of_the_image_and_say_what_the_mask_says(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = trained
    plain, out = tmp_path / "plain", tmp_path / "out"
    masks = predict(run, input=root / "imagesTs", output=plain)
    predict(run, input=root / "imagesTs", output=out, probabilities=True, uncertainty=True)
    printed = capsys.readouterr().out
    assert "maps of each case: probability_organ, probability_lesion, entropy" in printed
    assert "a single network has nobody to disagree with" in printed
    for mask in masks:
        case = mask.name.removesuffix(".nii.gz")
        assert (out / mask.name).read_bytes() == mask.read_bytes(), "the mask is the same"
        image = nib.load(mask)
        maps = maps_of(out, case)
        assert list(maps) == ["entropy", *PROBABILITIES]
        for name, found in maps.items():
            written = nib.load(out / "medseg" / f"{case}_{name}.nii.gz")
            assert np.array_equal(written.affine, image.affine)
            assert written.get_data_dtype() == np.int16
            assert found.shape == image.shape
            assert 0 <= found.min() < found.max() <= 1 + 1e-6
        organ, lesion = maps["probability_organ"], maps["probability_lesion"]
        chances = np.stack([1 - organ - lesion, organ, lesion])
        clear = np.diff(np.sort(chances, 0)[1:], axis=0)[0] > 1e-3
        assert clear.mean() > 0.5
        assert np.array_equal(chances.argmax(0)[clear], values(mask)[clear])
    assert set(find_masks(out, "volumes")) == {mask.name.removesuffix(".nii.gz") for mask in masks}


def test_cases_without_their_maps_are_predicted_again(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    source, out = {"input": root / "imagesTs"}, tmp_path / "out"
    first, second = predict(run, **source, output=out, uncertainty=True)
    entropy = map_path(out, second.name.removesuffix(".nii.gz"), second, "entropy")
    entropy.unlink()
    for mask in (first, second):
        os.utime(mask, (0, 0))
    assert predict(run, **source, output=out, uncertainty=True) == [first, second]
    assert first.stat().st_mtime == 0, "it has all its maps"
    assert second.stat().st_mtime > 0
    assert entropy.exists()
    predict(run, **source, output=out, probabilities=True)
    assert first.stat().st_mtime > 0, "its probabilities were missing"


def test_an_ensemble_disagrees_where_its_members_do(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    """One grid, without resampling: against the probabilities that each member writes itself."""
    run, root = crossed
    exact = {"inference": {"memory_mib": 1}, "preprocessing": {"spacing_mm": [1.0, 1.0, 2.0]}}
    folds = [changed(run / f"fold_{k}", tmp_path / f"fold_{k}", **exact) for k in (0, 1)]
    wishes = {"probabilities": True, "uncertainty": True}
    (mask,) = predict(folds, input=root / "imagesTs", output=tmp_path / "both", **wishes)
    predict(folds, input=root / "imagesTs", output=tmp_path / "plain")
    assert mask.read_bytes() == (tmp_path / "plain" / mask.name).read_bytes(), "the mask is the same"
    case = mask.name.removesuffix(".nii.gz")
    members = []
    for fold in folds:
        predict(fold, input=root / "imagesTs", output=tmp_path / f"out_{fold.name}", **wishes)
        members.append(maps_of(tmp_path / f"out_{fold.name}", case))
    both = maps_of(tmp_path / "both", case)
    assert list(both) == ["disagreement", "entropy", *PROBABILITIES]
    stacked = np.array([[member[name] for name in PROBABILITIES] for member in members])
    np.testing.assert_allclose(both["disagreement"], stacked.std(0).max(0), atol=1e-4)
    assert both["disagreement"].max() > 1e-3
    odds = [np.log(np.clip([1 - m.sum(0), *m], 1e-9, 1)) for m in stacked]  # softmax of the mean of logits
    mean = np.exp(np.mean(odds, 0))
    np.testing.assert_allclose([both[name] for name in PROBABILITIES], (mean / mean.sum(0))[1:], atol=1e-3)
    predict([folds[0], folds[0]], input=root / "imagesTs", output=tmp_path / "twice", uncertainty=True)
    assert (maps_of(tmp_path / "twice", case)["disagreement"] == 0).all()


def test_members_on_several_grids(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    fine = changed(run / "fold_1", tmp_path / "fine", preprocessing={"spacing_mm": [1.0, 1.0, 1.0]})
    options = {"input": root / "imagesTs", "probabilities": True, "uncertainty": True}
    runs = [run / "fold_0", fine, run / "fold_1"]
    (mask,) = predict(runs, output=tmp_path / "out", **options)
    predict(runs, input=root / "imagesTs", output=tmp_path / "plain")
    assert mask.read_bytes() == (tmp_path / "plain" / mask.name).read_bytes()
    maps = maps_of(tmp_path / "out", mask.name.removesuffix(".nii.gz"))
    assert list(maps) == ["disagreement", "entropy", *PROBABILITIES]
    assert 0 < maps["disagreement"].max() <= 0.5
    assert all(found.shape == values(mask).shape for found in maps.values())
