"""The table of docs/design.md, "Layers: who may import whom": an import only points down, and never in a circle."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "medseg"

LEVELS = [
    {"core"},
    {"networks", "inference", "losses"},
    {"data"},
    {"config"},  # its names come from the tables of the parts below
    {"metrics"},
    {"review"},
    {"engine"},  # its handlers write to the board of `review`
    {"bundle"},
    {"runs", "selection"},
    {"planning"},
    {"workflows"},
    {"cli"},
    {"__main__"},
]
LEVEL = {layer: level for level, layers in enumerate(LEVELS) for layer in layers}

# Plain arguments in, tensors out: these know no config and no file.
IGNORANT = {"networks", "inference", "losses"}
GROUND = {f"medseg.core.{name}" for name in ("errors", "fast", "labels", "parts", "types")}

LAZY = {"SimpleITK", "matplotlib", "pydicom", "tensorboard", "torch.utils.tensorboard"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> str:
    """`medseg.data.cases.dataset` -> `data`; the package itself belongs to no layer."""
    return module.split(".")[1] if "." in module else ""


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, *, at_top: bool = False) -> Iterator[str]:
    """Every module that a file imports, `from medseg import losses` as `medseg.losses`; `at_top`: when it is loaded."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in _outside_functions(tree) if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: import by the full name"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module in ("medseg", "torch.utils"))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in _less_for_types(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _outside_functions(child)


def _less_for_types(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node, of `if TYPE_CHECKING` only what stands under `else`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from child.orelse
        else:
            yield child


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below a node that is ever executed."""
    for child in _less_for_types(node):
        yield child
        yield from _run(child)


def needed(source: str, known: Collection[str]) -> set[str]:
    """The modules among `known` that a file imports, at its top or late, but not for types only."""
    found = set()
    for node in _run(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= within & set(known) | ({node.module or ""} if within - set(known) else set())
    return found & set(known)


def circle(files: Mapping[str, str]) -> list[str]:
    """Modules that import one another in a circle, of module -> source; none if there is no circle."""
    graph = {module: needed(source, files) for module, source in files.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))  # each imports the next
    return []


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_point_down(file: Path) -> None:
    layer = layer_of(name_of(file))
    if not layer:
        return
    for module in imports(file):
        below = layer_of(module) if module.startswith("medseg.") else ""
        if not below or below == "__version__" or below == layer:
            continue
        assert LEVEL[below] < LEVEL[layer], f"{layer} may not import {module}"
        if layer in IGNORANT:
            assert module in GROUND, f"{layer} knows no config: it may not import {module}"


@pytest.mark.parametrize("file", [file for file in MODULES if layer_of(name_of(file)) == "config"], ids=name_of)
def test_the_config_is_pure_data(file: Path) -> None:
    known = sys.stdlib_module_names | {"medseg", "pydantic", "pydantic_core", "ruamel"}
    assert {module.partition(".")[0] for module in imports(file)} <= known


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_slow_libraries_are_imported_where_they_are_used(file: Path) -> None:
    assert not {module for module in imports(file, at_top=True) if any(f"{module}.".startswith(f"{x}.") for x in LAZY)}


def test_every_layer_is_in_the_table() -> None:
    found = {layer_of(name_of(file)) for file in MODULES} - {""}
    assert found <= LEVEL.keys()


def test_no_files_import_each_other_in_a_circle() -> None:
    found = circle({name_of(file): file.read_text(encoding="utf-8") for file in MODULES})
    assert not found, f"a circle of imports: {' -> '.join(found)}"


def test_a_circle_is_found() -> None:
    late = "def f():\n    if True:\n        from m.c import g\n    return g"
    files = {
        "m": "",
        "m.a": "import m.b",
        "m.b": late,
        "m.c": "from m import a, d",
        "m.d": "",
        "m.e": "from m import a",
    }
    found = circle(files)
    assert found[0] == found[-1]
    assert " -> ".join(found) in " -> ".join(["m.a", "m.b", "m.c"] * 3)
    for_types = "if TYPE_CHECKING:\n    from m.a import f\nelse:\n    from m.d import f"
    assert circle(files | {"m.c": for_types}) == []
    assert circle(files | {"m.c": for_types, "m.d": "from m.b import f"}) != []
    assert circle({"m": "from m.a import f", "m.a": "from m import x"}) != []
    assert circle({"m": "from m.a import f", "m.a": "from m import b", "m.b": ""}) == []
