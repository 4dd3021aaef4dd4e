"""`train --dry-run` reads every case, as its help says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.workflows.train import train
from tests.tiny import tiny_config


def change(file: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nibabel.load(file)
    voxels = edit(np.array(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), file)


def strange(voxels: np.ndarray) -> np.ndarray:
    voxels[:2, :2, :2] = 9
    return voxels


@pytest.mark.parametrize(
    ("edit", "what"),
    [(strange, r"holds values that are no classes here: 9 \(8 voxels\)"), (lambda v: v[:, :, :-1], "another grid")],
)
def test_a_label_that_training_would_refuse(
    edit: Callable[[np.ndarray], np.ndarray], what: str, tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    root = tiny_msd()
    labels = sorted((root / "labelsTr").iterdir())
    for file in (labels[0], labels[-1]):
        change(file, edit)
    with pytest.raises(DataError, match=what) as caught:
        train(tiny_config(root), run=tmp_path / "run", dry_run=True)
    assert {Path(problem.where).name for problem in caught.value.problems} == {labels[0].name, labels[-1].name}
    assert not (tmp_path / "run").exists()


def test_what_check_warns_of_is_said(
    tiny_msd: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_msd()
    change(sorted((root / "imagesTr").iterdir())[0], np.zeros_like)
    train(tiny_config(root), run=tmp_path / "run", dry_run=True)
    assert capsys.readouterr().err.count("warning: image without contrast") == 1
