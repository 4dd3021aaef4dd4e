"""Who takes arguments names arguments where it complains: keys of the config are known to who reads the config."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.config.schema import Config

PACKAGE = Path(__file__).resolve().parents[1] / "medseg"
ROOMS = ("core", "networks", "inference", "losses", "data", "metrics", "engine")
FILES = [file for room in ROOMS for file in sorted(PACKAGE.glob(f"{room}*/**/*.py"))]
KEY = re.compile(
    "|".join(
        rf"(?<![\w./]){section}\.(?:(?:{'|'.join(info.annotation.model_fields)})\b|$)"
        for section, info in Config.model_fields.items()
        if hasattr(info.annotation, "model_fields")
    )
)
"""`section.key`, or a text that ends in `section.` and goes on with a name."""


def texts(file: Path) -> Iterator[str]:
    """The texts of a file that are no docstrings: what it says to a user, among others."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.value


def place(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("file", FILES, ids=place)
def test_who_takes_arguments_names_no_keys_of_the_config(file: Path) -> None:
    """Where a key matters, the layer that took the argument out of the config adds it (`errors.below`)."""
    assert not [text for text in texts(file) if KEY.search(text)]


def test_what_a_key_is() -> None:
    assert KEY.search("set training.batch_size to 1")
    assert KEY.search("set data.")
    assert not KEY.search("a folder data.root_of, or metadata.root")
    assert len(FILES) > 50
