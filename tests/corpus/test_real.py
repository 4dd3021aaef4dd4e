"""Real data sets give no finding but those that are known of them; a few cases of each, as links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.data.cases.inspection import IMPOSSIBLE
from medseg.workflows.check import check

FEW = 6


def nnunet(source: Path, root: Path) -> Path:
    description = json.loads((source / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"numTraining": FEW}))
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for label in sorted((source / "labelsTr").glob("*.nii.gz"))[:FEW]:
        name = label.name.removesuffix(".nii.gz")
        for file in (label, *(source / "imagesTr").glob(f"{name}_????.nii.gz")):
            (root / file.parent.name / file.name).symlink_to(file)
    return root


def decathlon(source: Path, root: Path) -> Path:
    description = json.loads((source / "dataset.json").read_text())
    cases = [{key: str(source / entry[key]) for key in ("image", "label")} for entry in description["training"][:FEW]]
    more = {"training": cases, "test": [], "numTraining": len(cases), "numTest": 0}
    (root / "dataset.json").write_text(json.dumps(description | more))
    return root


def pictures(source: Path, root: Path, folders: tuple[str, ...]) -> Path:
    for folder in folders:
        (root / folder).mkdir()
        for file in sorted((source / folder).iterdir())[:FEW]:
            (root / folder / file.name).symlink_to(file)
    return root


SETS = {
    "Task04_Hippocampus": (decathlon, ()),
    "Task01_BrainTumour_slabs": (decathlon, ()),
    "Dataset015_BraTS2modal": (nnunet, ()),
    "Dataset110_LGGFLAIR": (nnunet, (IMPOSSIBLE,)),
    "BUSI": (lambda source, root: pictures(source, root, ("images", "masks")), ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_it_gives_what_is_known_of_it(name: str, test_data: Path, tmp_path: Path) -> None:
    make, known = SETS[name]
    if not (test_data / name).is_dir():
        pytest.skip(f"no {name} in the folder of real data")
    report = check(make(test_data / name, tmp_path), progress=False)
    assert report.cases
    assert tuple(finding.kind for finding in report.findings) == known, report.findings
