"""`medseg doctor`: what this machine and this installation can do, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from medseg.engine.machine import environment

LEAST_GIB = 2  # of free memory or disk; with less, little can be done


def doctor() -> dict[str, Any]:
    """The environment, and in `problems` what is wrong with it, each with its remedy."""
    facts = environment()
    missing = [name for name, version in facts["packages"].items() if version is None]
    return {**facts, "problems": [*_missing(missing), *_shortages(facts["machine"], facts["device"])]}


def as_text(facts: dict[str, Any]) -> str:
    """The facts for a person, one a line."""
    machine, device = facts["machine"], facts["device"]
    present = [extra for extra, there in facts["extras"].items() if there]
    lines = [
        ("medseg", f"{facts['medseg']}, Python {facts['python']}, {facts['platform']}"),
        ("packages", ", ".join(f"{name} {version or 'MISSING'}" for name, version in facts["packages"].items())),
        ("extras", ", ".join(present) or "none"),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("memory", f"{machine['memory_gib']:.1f} GiB, {machine['memory_free_gib']:.1f} GiB free"),
        ("disk", f"{machine['disk_free_gib']:.1f} GiB free here"),
    ]
    if device:
        can = [name for name in ("avx512_bf16", "amx") if device[name]]
        lines += [
            ("device", ", ".join(f"{gpu['name']}, {gpu['memory_gib']:.0f} GiB" for gpu in device["gpus"]) or "cpu"),
            ("precision", f"auto means {device['precision']}{' (' + ', '.join(can) + ')' if can else ''}"),
            ("threads", str(device["threads"])),
        ]
    text = "\n".join(f"{name:11}{value}" for name, value in lines)
    problems = "\n".join(f"  {problem['what']}\n    -> {problem['remedy']}" for problem in facts["problems"])
    return f"{text}\n\n{f'problems:{chr(10)}{problems}' if problems else 'no problems found'}"


def _missing(names: list[str]) -> list[dict[str, str]]:
    if not names:
        return []
    return [{"what": f"not installed: {', '.join(names)}", "remedy": "pip install -c constraints.txt -e ."}]


def _shortages(machine: dict[str, Any], device: dict[str, Any]) -> list[dict[str, str]]:
    found: list[tuple[str, str]] = []
    if 0 < machine["memory_free_gib"] < LEAST_GIB:
        found.append((f"only {machine['memory_free_gib']:.1f} GiB of memory are free", "close other programs"))
    if machine["disk_free_gib"] < LEAST_GIB:
        found.append((f"only {machine['disk_free_gib']:.1f} GiB of disk are free here", "work on another disk"))
    if device and not device["gpus"] and _has_nvidia_card():
        found.append(("this machine has an NVIDIA GPU that PyTorch does not see", "install a CUDA build of PyTorch"))
    return [{"what": what, "remedy": remedy} for what, remedy in found]


def _has_nvidia_card() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
