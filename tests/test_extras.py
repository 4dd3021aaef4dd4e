"""An extra that can be installed adds something: each of its packages is imported somewhere in medseg."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

from medseg.engine.machine import OPTIONAL
from medseg.networks.weights import PACKAGES
from tests.test_layers import MODULES, PACKAGE, imports

IMPORTED_AS = {"connected-components-3d": "cc3d", "fill-voids": "fill_voids"}
IMPORTED_AS |= {distribution: module for distribution, module, _ in PACKAGES.values()}
"""Package -> the module that it brings, where that has another name."""


def extras() -> Mapping[str, set[str]]:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    named = {
        name: {re.split(r"[\[<>=~! ]", one)[0] for one in packages}
        for name, packages in project["optional-dependencies"].items()
    }
    return {name: packages for name, packages in named.items() if name != "dev"}


def test_every_extra_has_code() -> None:
    imported = {module.partition(".")[0] for file in MODULES for module in imports(file)}
    for file in MODULES:  # a package whose import may fail is imported by its name
        imported |= set(re.findall(r'import_module\("(\w+)"\)', file.read_text(encoding="utf-8")))
    imported |= {module for _, module, _ in PACKAGES.values()}  # hold weights: their files are read
    modules = {name: {IMPORTED_AS.get(one, one) for one in packages} for name, packages in extras().items()}
    assert {name: needed - imported for name, needed in modules.items() if needed - imported} == {}


def test_make_installs_what_makes_it_faster_and_what_it_begins_with() -> None:
    root = PACKAGE.parent
    assert "'.[dev,fast,pretrained]'" in (root / "Makefile").read_text()
    pinned = {line.partition("==")[0].replace("_", "-") for line in (root / "constraints.txt").read_text().splitlines()}
    assert extras()["fast"] | extras()["pretrained"] <= pinned


def test_doctor_looks_for_every_extra() -> None:
    assert {name: set(packages) for name, packages in OPTIONAL.items()} == extras()
