"""Where the files that travel with medseg are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg.core.errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]

Kind = Literal["configs", "datasets", "bundles"]


def resource_folder(kind: Kind) -> Path:
    """The folder of the configs, data set cards or bundles that medseg ships."""
    installed = PACKAGE / "_resources" / kind
    return installed if installed.is_dir() else PACKAGE.parent / kind


def resource_names(kind: Literal["configs", "datasets"]) -> list[str]:
    """The names of all shipped configs or cards, sorted."""
    return sorted(path.stem for path in resource_folder(kind).glob("*.yaml"))


def resource_file(kind: Literal["configs", "datasets"], name: str) -> Path:
    """The file of one shipped config or card; raises ConfigError with the nearest name."""
    names = resource_names(kind)
    if name not in names:
        what = "config" if kind == "configs" else "data set card"
        raise ConfigError(f"no {what} is called {name!r}", did_you_mean(name, names))
    return resource_folder(kind) / f"{name}.yaml"
