"""Fixtures that every test may use. Real images come from outside the repository; everything else is made here."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold the most slow tests, so that no process ends long after the others; and skip what
    needs a GPU where there is none."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets named by MEDSEG_TEST_DATA, by default ../shared/data beside the project."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: MEDSEG_TEST_DATA names no folder ({folder})")
    return folder


@pytest.fixture
def tiny_msd(tmp_path: Path) -> Callable[..., Path]:
    """`write_msd` into a folder of this test."""
    return lambda *args, name="tiny", **options: write_msd(tmp_path / name, *args, **options)


class MadeOnce(Protocol):
    def __call__(self, name: str, make: Callable[[Path], object]) -> Path: ...


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: a folder that `make(folder)` fills once for all processes of the suite; read only."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return lambda name, make: _make(base / "made" / name, make)
    from filelock import FileLock

    def locked(name: str, make: Callable[[Path], object]) -> Path:
        folder = base.parent / "made" / name  # each worker has a folder of its own beside it
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            return _make(folder, make)

    return locked


def _make(folder: Path, make: Callable[[Path], object]) -> Path:
    done = folder.with_name(f"{folder.name}.done")
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what a process left that failed
        folder.mkdir(parents=True)
        make(folder)
        done.touch()
    return folder


@pytest.fixture(scope="session")
def trained(made_once: MadeOnce, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was trained for two epochs with `medseg.workflows.train`, and its data set; read only."""

    def make(folder: Path) -> None:
        from medseg.workflows.train import train
        from tests.tiny import tiny_config

        root = write_msd(folder / "data", cases=6, unlabelled=2, channels=("T1", "T2"))
        train(tiny_config(root), run=folder / "run")

    folder = made_once("trained", make)
    return _own(folder / "run", tmp_path_factory), folder / "data"


@pytest.fixture(scope="session")
def crossed(made_once: MadeOnce, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folds of four cases, trained for an epoch with `train --fold all`, and their data set; read only."""

    def make(folder: Path) -> None:
        from medseg.workflows.train import train
        from tests.tiny import tiny_config

        root = write_msd(folder / "data", cases=4)
        config = tiny_config(root, data__folds=2, training__max_epochs=1, evaluation__lesions=["lesion"])
        train(config, run=folder / "run", fold="all")

    folder = made_once("crossed", make)
    return _own(folder / "run", tmp_path_factory), folder / "data"


def _own(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for this process alone: nothing that a test in another one does to it can be seen here."""
    return shutil.copytree(run, tmp_path_factory.mktemp(run.parent.name) / "run")


def write_msd(
    root: Path,
    cases: int = 4,
    *,
    labels: Sequence[str] = ("background", "organ", "lesion"),
    channels: Sequence[str] = ("T1w",),
    shape: Sequence[int] = (20, 24, 16),
    spacing_mm: Sequence[float] = (1.0, 1.0, 2.0),
    unlabelled: int = 1,
    seed: int = 0,
) -> Path:
    """Write a small data set in the layout of the Decathlon (MSD) and return its folder."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (-10, -20, 30)

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for number in range(cases + unlabelled):
            image, label = draw(np.random.default_rng([seed, number]), shape, len(labels), len(channels))
            yield image if len(channels) > 1 else image[..., 0], label if number < cases else None

    return write_drawn(root, drawn(), affine, labels=labels, channels=channels)


def write_drawn(
    root: Path,
    drawn: Iterable[tuple[np.ndarray, np.ndarray | None]],
    affine: np.ndarray,
    *,
    labels: Sequence[str],
    channels: Sequence[str],
    files: str = "tiny",
) -> Path:
    """Write images and labels (None: the image has none) in the layout of the Decathlon, as `{files}_00` and so on."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    training, test = [], []
    for number, (image, label) in enumerate(drawn):
        file = f"{files}_{number:02d}.nii.gz"
        image_file = f"./{'imagesTs' if label is None else 'imagesTr'}/{file}"
        nib.save(nib.Nifti1Image(image, affine), root / image_file)
        if label is None:
            test.append(image_file)
        else:
            nib.save(nib.Nifti1Image(label, affine), root / "labelsTr" / file)
            training.append({"image": image_file, "label": f"./labelsTr/{file}"})
    description = {
        "name": root.name,
        "modality": {str(number): channel for number, channel in enumerate(channels)},
        "labels": {str(value): label for value, label in enumerate(labels)},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def draw(
    random: np.random.Generator, shape: Sequence[int], classes: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nested balls, brighter towards the middle, in noise: image (*shape, channels) int16, label (*shape) uint8."""
    centre = np.array(shape) / 2 + random.uniform(-2, 2, size=len(shape))
    distance = np.sqrt(
        sum(((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True)), np.zeros(shape))
    )
    radii = min(shape) / 2 * (1 - np.arange(classes) / classes)  # the outermost bounds nothing: the background
    label = sum((distance < radius).astype(np.uint8) for radius in radii[1:])
    brightness = random.uniform(80, 120, size=channels)
    image = 50 + label[..., None] * brightness + random.normal(0, 10, size=(*shape, channels))
    return image.astype(np.int16), label
