"""Values of a saved mask: which pairs a coding asks for, and which it refuses."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.config.coding import recode
from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from medseg.engine.cohort import SaveMaskd
from medseg.inference.postprocess import logits_to_mask

BRATS_REGIONS = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}  # of a mask with the values 0/1/2/4
NNUNET = Labels(
    {"background": 0, "oedema": 1, "necrosis": 2, "enhancing": 3},
    {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)},
    (1, 2, 3),
)
ORIGINAL = Labels({"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 4}, BRATS_REGIONS, (2, 1, 4))
CLASSES = Labels({"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3})


def test_brats_of_consecutive_values_and_of_its_own() -> None:
    assert recode(NNUNET, "brats") == {1: 2, 2: 1, 3: 4}
    assert recode(ORIGINAL, "brats") == {2: 2, 1: 1, 4: 4}
    assert recode(NNUNET, "own") == {}


def test_the_order_of_regions_does_not_matter() -> None:
    turned = Labels(NNUNET.classes, dict(reversed(NNUNET.regions.items())), (3, 2, 1))
    assert recode(turned, "brats") == {1: 2, 2: 1, 3: 4}


def test_exclusive_classes_are_given_one_by_one() -> None:
    with pytest.raises(ConfigError, match=r"three regions.*\n?.*edema: \.\.\., non-enhancing tumor: \.\.\."):
        recode(CLASSES, "brats")
    expected = {1: 2, 2: 1, 3: 4}
    assert recode(CLASSES, {"edema": 2, "non-enhancing tumor": 1, "enhancing tumour": 4}) == expected
    assert recode(CLASSES, "edema=2, non-enhancing tumor=1, enhancing tumour=4") == expected


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("BraTS", "unknown coding 'BraTS'"),
        ("whole=2,core", "unknown coding"),
        ("whole=2,core=1", "one for each of whole, core, enhancing"),
        ({"whole": 2, "core": 1, "enhancing": 1}, "different numbers"),
        ({"whole": 2, "core": 1, "enhancing": 0}, "from 1 to 255"),
        ("whole=2,core=1,enhancing=256", "from 1 to 255"),
    ],
)
def test_a_coding_that_cannot_be_written_is_refused(coding: str | dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recode(NNUNET, coding)


@pytest.mark.parametrize("labels", [NNUNET, ORIGINAL], ids=["0-3", "0/1/2/4"])
def test_the_saved_regions_are_those_predicted_wherever_they_nest(labels: Labels, tmp_path: Path) -> None:
    """Elsewhere the innermost wins: enhancing tumour outside the whole tumour is 4, and so counts as all three."""
    logits = torch.randn(3, 12, 10, 8, generator=torch.Generator().manual_seed(0))
    image = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8), np.float32), np.eye(4)), image)
    case = {"case": "a", "image_path": str(image), "native_affine": np.eye(4)}
    pairs = list(recode(labels, "brats").items())
    pred = logits_to_mask(logits, labels)[None]
    kept = SaveMaskd(str(tmp_path / "out"), labels, recode=pairs)({**case, "pred": pred})
    assert kept["pred"] is pred  # scores see the data set's own values

    saved = np.asarray(nib.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert set(np.unique(saved)) == {0, 1, 2, 4}
    whole, core, enhancing = (logits > 0).numpy()
    nested = (whole | ~core) & (core | ~enhancing)
    assert 0.2 < nested.mean() < 0.8
    for name, predicted in zip(BRATS_REGIONS, (whole, core, enhancing), strict=True):
        np.testing.assert_array_equal(np.isin(saved, BRATS_REGIONS[name])[nested], predicted[nested])
    np.testing.assert_array_equal(saved == 4, enhancing)
    np.testing.assert_array_equal(saved == 1, core & ~enhancing)
    np.testing.assert_array_equal(saved == 2, whole & ~core & ~enhancing)
