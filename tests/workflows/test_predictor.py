"""A run that is loaded once: its masks are those of `medseg predict`; arrays, wrong arguments, global settings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.backends import cuda, cudnn

from medseg.core.errors import DataError, RunError
from medseg.core.labels import Labels
from medseg.data.files.images import Image, read_image
from medseg.engine import device
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Mask, Predictor
from tests.workflows.test_ensemble import changed

AFFINE = np.diag([2.0, -3.0, 5.0, 1.0])
LABELS = Labels({"background": 0, "tumour": 1})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resampled", "turned and cropped", "two grids"])
def test_masks_are_those_of_predict(kind: str, crossed: tuple[Path, Path], tmp_path: Path) -> None:
    folds, root = crossed
    fine = changed(folds / "fold_0", tmp_path / "fine", preprocessing={"spacing_mm": [1.0, 1.0, 1.0]})
    turned = {"orientation": "LPS", "crop_to_foreground": True}
    runs = {
        "resampled": [fine],
        "turned and cropped": [changed(folds / "fold_0", tmp_path / "turned", preprocessing=turned)],
        "two grids": [fine, folds / "fold_1"],
    }[kind]
    scan = next((root / "imagesTs").iterdir())
    (saved,) = predict(runs, input=scan, output=tmp_path / "masks")
    assert np.array_equal(Predictor.from_run(runs)(scan).array, np.asarray(nib.load(saved).dataobj))


def test_no_run_is_no_predictor() -> None:
    with pytest.raises(RunError, match="no run is given"):
        Predictor.from_run([])


@pytest.fixture(scope="module")
def predictor(trained: tuple[Path, Path]) -> Predictor:
    return Predictor.from_run(trained[0])


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"has the shape \(3, 3\)"),
        (np.ones(16), r"has the shape \(16,\)"),
        ([[1, 0], [0]], "holds no numbers"),
        (np.full((4, 4), "x"), "holds no numbers"),
        (np.diag([1.0, np.nan, 1, 1]), "no map"),
        (np.diag([1.0, 0, 1, 1]), "no map"),
        (np.diag([1.0, 1, 1, 2]), "no map"),
        (None, "no place in a patient"),
    ],
)
def test_an_affine_that_places_no_voxel_is_refused(affine: object, message: str, predictor: Predictor) -> None:
    with pytest.raises(DataError, match=message) as caught:
        predictor(np.zeros((2, 8, 8, 8), np.float32), affine=affine)  # type: ignore[arg-type]
    assert all(problem.remedy for problem in caught.value.problems)


def test_a_file_has_an_affine_of_its_own(trained: tuple[Path, Path], predictor: Predictor) -> None:
    scan = next((trained[1] / "imagesTs").iterdir())
    for image in (scan, str(scan), [scan]):
        with pytest.raises(DataError, match="beside a file, which has its own"):
            predictor(image, affine=AFFINE)


def test_a_volume_is_no_picture_wherever_it_comes_from(
    trained: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    scan = next((trained[1] / "imagesTs").iterdir())
    read = read_image(scan)
    for mask in (predictor(scan), predictor(read.array, affine=read.affine)):
        with pytest.raises(DataError, match="is a picture, but the mask is of a volume"):
            mask.save(tmp_path / "mask.png")
        assert mask.save(tmp_path / "mask.nii.gz").is_file()


@pytest.mark.parametrize(("shape", "expected"), [((4, 5, 10), {"tumour": 0.3}), ((4, 5), {})])
def test_millilitres_of_a_volume(shape: tuple[int, ...], expected: dict[str, float]) -> None:
    array = np.zeros(shape, np.uint8)
    array.flat[:10] = 1
    mask = Mask(array, AFFINE, LABELS, Image(array[None], AFFINE, Path("array")))
    assert mask.volume_ml == pytest.approx(expected)


@pytest.fixture
def cautious() -> Iterator[None]:
    """PyTorch's settings that differ from those of medseg."""
    places = (cuda.matmul, "allow_tf32"), (cudnn, "allow_tf32"), (cudnn, "benchmark")
    before = [getattr(*place) for place in places]
    for place in places:
        setattr(*place, False)
    yield
    for place, value in zip(places, before, strict=True):
        setattr(*place, value)


@pytest.mark.usefixtures("cautious")
def test_settings_are_those_of_predict_and_the_users_generators_go_on(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        device.set_up()
    found = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    assert found == (True, True, True)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # type: ignore[index]
    cudnn.benchmark = False
    Predictor.from_run(trained[0])
    assert cudnn.benchmark, "as predict has it"
