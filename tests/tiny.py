"""A training that takes seconds: the config, and how to start it as a process of its own."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path
from typing import Any

import torch

from medseg.config.schema import Config
from medseg.core.labels import Labels
from tests.processes import Module

TINY: dict[str, Any] = {
    "network.widths": [4, 8],
    "training.patch_size": [16, 16, 16],
    "training.max_epochs": 2,
    "training.iterations_per_epoch": 2,
    "training.batch_size": 2,
    "data.validation": 0.25,
}


ALL_LABELS = Labels(
    {"background": 0, "a": 1, "b": 2},
    {"all": (1, 2), "b": (2,)},
    (1, 2),
    ignore_index=255,
    also_ignored=(7, 8),
    merged={"a": (3, 4)},
    colours={"a": (1, 2, 3)},
)
"""Labels with everything that labels can have."""


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    """Flat keys and values of a tiny run on the data set at `root`; `a__b` in a name stands for `a.b`."""
    return TINY | {"data.root": str(root)} | {key.replace("__", "."): value for key, value in changes.items()}


def tiny_config(root: Path, **changes: Any) -> Config:
    """The same as a validated config."""
    tree: dict[str, Any] = {"name": "tiny"}
    for key, value in settings(root, **changes).items():
        section, name = key.split(".", 1)
        while "." in name:
            inner, name = name.split(".", 1)
            value = {name: value}
            name = inner
        tree.setdefault(section, {})[name] = value
    return Config.model_validate(tree)


def medseg(*arguments: str | Path, cwd: Path, module: str = "medseg") -> Module:
    """`python -m MODULE ARGUMENTS` in a process of its own, on one thread, so that results repeat."""
    return Module(module, arguments, cwd=cwd)


def together(processes: int, *arguments: str | Path, cwd: Path, module: str = "medseg") -> list[Module]:
    """`python -m MODULE ARGUMENTS` in several processes that work together, as of `torchrun`, each on one thread."""
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [Module(module, arguments, cwd=cwd, environment=shared | rank) for rank in ranks]


def torchrun(processes: int, *arguments: str | Path, cwd: Path) -> Module:
    """The same by PyTorch's own program."""
    options = [f"--nproc-per-node={processes}", f"--master-port={free_port()}"]
    return medseg(*options, "-m", "--", "medseg", *arguments, cwd=cwd, module="torch.distributed.run")


def free_port() -> int:
    """One below those that the system hands out (from 32768), so that nobody is given it before it is opened."""
    while True:
        with socket.socket() as free, contextlib.suppress(OSError):
            port = 20_000 + secrets.randbelow(10_000)  # not `random`, which trainings seed alike in every process
            free.bind(("127.0.0.1", port))
            return port


def train_arguments(root: Path, run: Path, **changes: Any) -> list[str]:
    """Arguments of `medseg train` for a tiny run (its `tiny.yaml` is written beside the run folder)."""
    config = run.parent / "tiny.yaml"
    config.write_text("name: tiny\n")
    overrides = [f"{key}={'null' if value is None else value}" for key, value in settings(root, **changes).items()]
    return ["train", "--config", str(config), "--run", str(run), *(x for o in overrides for x in ("--set", o))]


def finish(process: Module, expect: int = 0) -> tuple[str, str]:
    """Wait for a process; its output. Fails, showing the output, on another exit code than expected."""
    code, out, err = process.finish()
    assert code == expect, f"exit {code}, expected {expect}\n{out}\n{err}"
    return out, err


def same_weights(one: Path, other: Path) -> bool:
    """Whether two state dicts on disk are bit-identical."""
    a, b = (torch.load(path, weights_only=True) for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
