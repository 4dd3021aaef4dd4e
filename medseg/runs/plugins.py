"""The parts of other packages that a run is made of: remembered with it, and said where they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from medseg.config.section import Section
from medseg.core.errors import Problem, RunError


def plugins_of(config: Section) -> list[dict[str, str]]:
    """Name, distribution and version of every part of another package that a config names."""
    found = {(part.name, part.path): part for section in sections_in(config) for part in section.used}
    return [{"name": part.name, **part.record} for part in found.values() if part.record is not None]


def sections_in(value: Any) -> Iterator[Section]:
    """A section and those inside it."""
    if isinstance(value, Section):
        yield value
        value = dict(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for one in value:
        yield from sections_in(one)


def check_installed(run: Path, plugins: Iterable[Mapping[str, str]]) -> None:
    """Raise a RunError where a package is not installed that a part of the run comes with."""
    problems = [
        Problem(
            f"{run}: {plugin['name']}",
            f"comes with the package {plugin['distribution']} {plugin['version']}, which is not installed",
            f"pip install {plugin['distribution']}=={plugin['version']}",
        )
        for plugin in plugins
        if not is_installed(plugin["distribution"])
    ]
    if problems:
        raise RunError(problems)


def check_same(run: Path, plugins: Iterable[Mapping[str, str]], config: Section) -> None:
    """Raise a RunError where a name now means a part of another package than the one that the run was made with."""
    now = {(plugin["name"], plugin["distribution"]) for plugin in plugins_of(config)}
    problems = [
        Problem(
            f"{run}: {plugin['name']}",
            f"was of the package {plugin['distribution']} {plugin['version']}, and is now of another, or medseg's own",
            "install the versions of packages that the environment.json of the run names",
        )
        for plugin in plugins
        if (plugin["name"], plugin["distribution"]) not in now
    ]
    if problems:
        raise RunError(problems)


def is_installed(distribution: str) -> bool:
    """Whether there is a package of this name."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
