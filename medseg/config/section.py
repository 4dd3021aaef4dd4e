"""What the sections of a config are made of: strict, frozen models that report impossible combinations of keys."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

Finding = tuple[tuple[str, ...], str]
"""Keys that do not go together, the one to report first (dotted, relative to their section), and what is wrong."""


class Section(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def findings(self) -> Iterable[Finding]:
        """Every combination of keys that is impossible."""
        return ()

    def unordered(self, *keys: str) -> Iterable[Finding]:
        """The ranges among `keys` that do not go from low to high."""
        for key in keys:
            low, high = getattr(self, key)
            if low > high:
                yield (key,), f"[{low}, {high}] must go from low to high"

    @model_validator(mode="after")
    def keys_go_together(self) -> Self:
        found = list(self.findings())
        if found:
            text = "; ".join(f"{keys[0]}: {what}" for keys, what in found)
            raise PydanticCustomError("combination", "{text}", {"text": text, "findings": found})
        return self


def key_docstrings(section: type[Section]) -> dict[str, str]:
    """What stands below each key in the source; pydantic's own option would read it at every start."""
    found: dict[str, str] = {}
    for part in reversed([part for part in section.__mro__ if issubclass(part, Section)]):
        (body,) = ast.parse(inspect.getsource(part)).body
        assert isinstance(body, ast.ClassDef)
        for key, text in pairwise(body.body):
            below = text.value if isinstance(text, ast.Expr) else None
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and isinstance(below, ast.Constant):
                found[key.target.id] = inspect.cleandoc(str(below.value))
    return found


def all_sections(section: type[Section] = Section) -> Iterable[type[Section]]:
    """Every kind of section that has been imported."""
    for kind in section.__subclasses__():
        yield kind
        yield from all_sections(kind)
