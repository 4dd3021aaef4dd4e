"""A planned config as YAML, every reason a comment beside its value."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.config.document import write_document
from medseg.core.files import readable
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.rules import Choice, Machine

WIDTH = 118
PLANNED = "Planned by medseg"


def config_text(
    found: Fingerprint,
    machine: Machine,
    choices: Sequence[Choice],
    name: str,
    minutes: float | None,
    output: Path,
    notes: Sequence[str] = (),
) -> str:
    """The whole file; a reason that does not fit beside its value stands above it.

    Args:
        notes: further lines of its head.
    """
    shapes, spacings = found.shapes(cropped=False), found.spacings_mm()
    limit = f", for {minutes:g} minutes of training" if minutes is not None else ""
    spacing = f"; spacing {_range(spacings)} mm" if found.has_spacing else ""
    head = [
        f"{PLANNED} from {found.of_what}, for {_machine(machine)}.",
        "",
        f"Command:   medseg train --config {output}        (--fold all for a cross-validation)",
        f"Shapes:    {_range(shapes)} {found.point}s{spacing}",
        *(f"Class:     {line}" for line in _classes(found)),
        *notes,
        f"Expected:  not measured yet; a proposal{limit}, of which every line may be changed",
    ]
    lines = [f"# {_on_a_line(line)}".rstrip() for line in head]
    lines += ["", _yaml("name", name), _yaml("description", _description(found))]
    sections: list[str] = []
    for choice in choices:
        *parents, key = choice.key.split(".")
        for depth, parent in enumerate(parents):
            if sections[depth : depth + 1] != [parent]:
                lines += ([""] if depth == 0 else []) + [f"{'  ' * depth}{parent}:"]
                sections = [*sections[:depth], parent]
        sections = sections[: len(parents)]
        lines += _commented(_yaml(key, choice.value), choice.reason, "  " * len(parents))
    return "\n".join(lines) + "\n"


def is_planned(file: Path) -> bool:
    """Whether a plan wrote the file."""
    try:
        with readable(file).open(encoding="utf-8") as stream:
            return stream.readline().startswith(f"# {PLANNED}")
    except (OSError, ValueError):
        return False


def _commented(line: str, reason: str, indent: str) -> list[str]:
    line, reason = textwrap.indent(line, indent), _on_a_line(reason)
    if not reason:
        return [line]
    beside = f"{line:<30}  # {reason}"
    if len(beside) <= WIDTH and "\n" not in line:
        return [beside]
    return [*(f"{indent}# {part}" for part in textwrap.wrap(reason, WIDTH - len(indent) - 2)), line]


def _description(found: Fingerprint) -> str:
    """The data set and its targets, also where its folder's name begins as no text of a config may."""
    text = f"{found.name}: {', '.join(found.targets)}"
    return f"data set {text}" if text.startswith(("$", "@", "%")) else text


def _on_a_line(text: str) -> str:
    """The text of a comment, which a name of the data set may not end: what came behind it would be the config's."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _yaml(key: str, value: object) -> str:
    return write_document({key: value}).rstrip("\n")


def _classes(found: Fingerprint) -> list[str]:
    lines = []
    for name in found.classes:
        cases = sum(bool(case.voxels[name]) for case in found.cases)
        lines.append(f"{name} in {cases} cases, {found.frequency(name):.2g} of the {found.point}s")
    for name in found.targets:
        parts = [case.components[name] for case in found.cases if case.components[name]]
        if parts and name not in found.classes:
            lines.append(f"{name} (region), median {np.median(parts):.0f} parts a case")
    return lines


def _range(values: np.ndarray) -> str:
    low, middle, high = values.min(0), np.median(values, 0), values.max(0)
    if (low == high).all():
        return " x ".join(f"{x:.4g}" for x in middle)
    return " x ".join(
        f"{m:.4g} ({a:.4g}-{b:.4g})" if a != b else f"{m:.4g}" for a, m, b in zip(low, middle, high, strict=True)
    )


def _machine(machine: Machine) -> str:
    kind = f"a CPU with {machine.cores} core{'s' * (machine.cores > 1)}" if machine.device == "cpu" else "a GPU"
    return f"{kind} and {machine.memory_gib:.3g} GiB for the training"
