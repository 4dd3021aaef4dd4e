"""What is written beside a mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.core.labels import Labels
from medseg.engine.cohort import CleanMaskd, SaveMaskd

LABELS = Labels({"background": 0, "tumour": 1})


@pytest.mark.parametrize(
    ("shape", "amounts"), [((4, 5, 10), {"volume_ml": {"tumour": 0.3}}), ((4, 5), {"share": {"tumour": 0.5}})]
)
def test_a_volume_has_millilitres_and_a_plane_has_shares(
    shape: tuple[int, ...], amounts: dict[str, Any], tmp_path: Path
) -> None:
    affine = np.diag([2.0, -3.0, 5.0, 1.0])
    image = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), affine), image)
    mask = torch.zeros(1, *shape, dtype=torch.uint8)
    mask.view(-1)[:10] = 1
    case = {"case": "a", "image_path": str(image), "native_affine": torch.from_numpy(affine), "pred": mask}
    SaveMaskd(str(tmp_path / "out"), LABELS)(case)
    sidecar = json.loads((tmp_path / "out" / "medseg" / "a.json").read_text())
    assert list(sidecar.pop("files")) == ["a.nii.gz"]
    assert sidecar == {"case": "a", "model": {}, **amounts}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.nii.gz", "medseg"]


def test_what_is_too_small_in_millilitres_is_taken_out() -> None:
    mask = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    mask[0, 0, 0, :3], mask[0, 5, 5, :4] = 1, 1
    case = {"pred": mask, "native_affine": torch.diag(torch.tensor([2.0, -3.0, 5.0, 1.0]))}
    done = CleanMaskd(LABELS, {"minimum_volume_ml": {"tumour": 0.1}})(case)  # a voxel is 0.03 ml
    assert int((done["pred"] == 1).sum()) == 4
    assert done["postprocessing"]["changed_voxels"] == 3
