"""`medseg doctor`: what this machine and this installation can do, and what is missing; also each run's environment."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from medseg import __version__

REQUIRED = (
    *("torch", "monai", "pytorch-ignite", "numpy", "scipy", "nibabel", "SimpleITK", "tensorboard", "matplotlib"),
    *("pydantic", "ruamel.yaml", "typer", "tqdm", "jinja2", "fire", "einops"),
)
OPTIONAL = {
    "dicom": ("pydicom", "highdicom"),
    "timm": ("timm", "torchvision"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "mlflow": ("mlflow",),
    "ray": ("ray",),
}
GIB = 2**30


def doctor() -> dict[str, Any]:
    """Versions, hardware, precision and room on disk; `problems` says what is wrong, each with its remedy."""
    facts: dict[str, Any] = {
        "medseg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in REQUIRED},
        "extras": {extra: all(map(_version, names)) for extra, names in OPTIONAL.items()},
        "machine": _machine(),
    }
    missing = [name for name, version in facts["packages"].items() if version is None]
    facts["device"] = {} if "torch" in missing else _device()
    facts["problems"] = [*_missing(missing), *_shortages(facts["machine"], facts["device"])]
    return facts


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


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    memory = memory_info()
    return {
        "processor": _processor(),
        "cores": count_cores(),
        "memory_gib": memory.get("MemTotal", 0) / GIB,
        "memory_free_gib": memory.get("MemAvailable", 0) / GIB,
        "disk_free_gib": shutil.disk_usage(Path.cwd()).free / GIB,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def count_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_info() -> dict[str, int]:
    """Bytes, by the names of /proc/meminfo; empty where the system has no such file."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}


def _device() -> dict[str, Any]:
    import torch

    from medseg.engine.device import choose_device, choose_precision

    gpus = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    return {
        "gpus": [{"name": gpu.name, "memory_gib": gpu.total_memory / GIB} for gpu in gpus],
        "cuda": torch.version.cuda,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "precision": str(choose_precision("auto", choose_device("auto"))).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _missing(names: list[str]) -> list[dict[str, str]]:
    if not names:
        return []
    return [{"what": f"not installed: {', '.join(names)}", "remedy": "pip install -c constraints.txt -e ."}]


def _shortages(machine: dict[str, Any], device: dict[str, Any]) -> list[dict[str, str]]:
    found: list[tuple[str, str]] = []
    if 0 < machine["memory_free_gib"] < 2:
        found.append((f"only {machine['memory_free_gib']:.1f} GiB of memory are free", "close other programs"))
    if machine["disk_free_gib"] < 2:
        found.append((f"only {machine['disk_free_gib']:.1f} GiB of disk are free here", "work on another disk"))
    if device and not device["gpus"] and _has_nvidia_card():
        found.append(("this machine has an NVIDIA GPU that PyTorch does not see", "install a CUDA build of PyTorch"))
    return [{"what": what, "remedy": remedy} for what, remedy in found]


def _has_nvidia_card() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
