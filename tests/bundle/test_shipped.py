"""The bundles in `bundles/` are what the compiler writes today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.bundle.write import write_bundle
from medseg.config.load import load_config
from medseg.networks import build_network

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    "hippocampus_unet3d": "hippocampus",
    "brain_tumour_unet3d": "brain",
    "brain_tumour_fpn3d": "brain_fpn",
    "brain_tumour_deeplabv3plus3d": "brain_deeplabv3plus",
}
VERSIONS = ("monai_version", "pytorch_version", "numpy_version", "required_packages_version")


def test_all_are_known() -> None:
    assert {path.name for path in (ROOT / "bundles").iterdir() if path.is_dir()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_is_compiled_from_its_config(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = Path("bundles") / name
    write_bundle(load_config(SHIPPED[name]), output=written)
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


@pytest.mark.parametrize("name", SHIPPED)
def test_is_complete_but_for_weights(name: str) -> None:
    """What the model zoo asks of a bundle's folder, and a card that says what its config says."""
    folder, settings = ROOT / "bundles" / name, load_config(SHIPPED[name])
    for file in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"):
        assert (folder / file).is_file(), file
    assert "CC-BY-SA 4.0" in (folder / "docs" / "data_license.txt").read_text()
    card = (folder / "docs" / "README.md").read_text()
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    tensors = metadata["network_data_format"]
    for words in (*tensors["inputs"]["image"]["channel_def"].values(), metadata["data_source"], "no weights"):
        assert words in card
    network = build_network(
        settings.network.name,
        in_channels=tensors["inputs"]["image"]["num_channels"],
        out_channels=tensors["outputs"]["pred"]["num_channels"],
        **settings.network.options(),
    )
    assert f"{sum(weight.numel() for weight in network.parameters()):,} parameters" in card
