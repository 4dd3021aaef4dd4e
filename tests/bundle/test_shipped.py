"""The bundles in `bundles/` are what the compiler writes today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.bundle.write import write_bundle
from medseg.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {"hippocampus_unet3d": "hippocampus", "brain_tumour_unet3d": "brain"}
VERSIONS = ("monai_version", "pytorch_version", "numpy_version", "required_packages_version")


def test_all_are_known() -> None:
    assert {path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_is_compiled_from_its_config(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = write_bundle(load_config(SHIPPED[name]), output=Path("bundles") / name)
    for file in sorted(path for path in written.rglob("*") if path.is_file()):
        shipped = ROOT / file
        remedy = "run `make bundles`"
        assert shipped.exists(), remedy
        if file.name == "metadata.json":
            new, old = (json.loads(path.read_text()) for path in (file, shipped))
            assert {k: v for k, v in new.items() if k not in VERSIONS} == {
                k: v for k, v in old.items() if k not in VERSIONS
            }, remedy
        else:
            assert file.read_text() == shipped.read_text(), remedy
