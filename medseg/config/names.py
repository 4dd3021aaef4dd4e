"""Keys whose value names something in a table of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from medseg.core.parts import Table

UNKNOWN_NAME = "unknown_name"
"""Type of the error; its context has the `remedy`."""


@dataclass(frozen=True)
class NameIn:
    """Marks a text as the name of a part, `Annotated[str, NameIn(LAYOUTS)]`; a part of another package counts too.

    Args:
        table: of the parts. It is asked when a value is given, not before.
        others: words that are no part and stand for something all the same (auto).
    """

    table: Table
    others: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        if name not in self.others and name not in self.table:
            remedy = self.table.instead(name, self.others)
            raise PydanticCustomError(UNKNOWN_NAME, "unknown {kind}", {"kind": self.table.kind, "remedy": remedy})
        return name
