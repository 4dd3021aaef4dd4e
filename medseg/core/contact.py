"""To whom mistakes are reported: the address that the package itself names."""

from __future__ import annotations

from importlib import metadata


def report_to() -> str:
    """The address of `[project.urls]` in pyproject.toml; where none is given, who else knows it."""
    try:
        given = metadata.metadata("medseg").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        given = []
    named = dict(entry.split(", ", 1) for entry in given)
    return named.get("Issues", "its maintainers (SECURITY.md in its source says how)")
