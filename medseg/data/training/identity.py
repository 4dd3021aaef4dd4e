"""What tells two transforms apart, as plain data: the name of a cache entry is made of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import torch


def parameters(thing: Any) -> Any:
    """Plain data (lists, dicts, text) that tell two transforms apart: their classes and all their attributes."""
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, (list, tuple)):
        return [parameters(one) for one in thing]
    if isinstance(thing, (set, frozenset)):
        return sorted(json.dumps(parameters(one)) for one in thing)
    if isinstance(thing, Mapping):
        return [[parameters(key), parameters(value)] for key, value in thing.items()]
    if isinstance(thing, np.ndarray):
        return ["array", str(thing.dtype), thing.tolist()]
    if isinstance(thing, torch.Tensor):
        return ["tensor", str(thing.dtype), thing.tolist()]
    if isinstance(thing, np.random.RandomState):
        return "random state"  # a deterministic transform does not use it
    if isinstance(thing, (torch.dtype, torch.device, np.dtype, Path)):
        return str(thing)
    name = getattr(thing, "__qualname__", None)
    if name is not None:  # a class or a function
        return f"{thing.__module__}.{name}"
    kind = type(thing)
    if hasattr(kind, "identity"):  # of what holds more than tells it apart, as a network
        return [f"{kind.__module__}.{kind.__qualname__}", parameters(thing.identity())]
    slots = [slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ()) if hasattr(thing, slot)]
    held = {slot: getattr(thing, slot) for slot in slots} | getattr(thing, "__dict__", {})
    held = {key: value for key, value in held.items() if not isinstance(value, local)}  # come with the first use
    if not held and " at 0x" not in repr(thing):  # an address would differ from run to run
        held = {"": repr(thing)}
    return [f"{kind.__module__}.{kind.__qualname__}", [[key, parameters(held[key])] for key in sorted(held)]]


def identity(thing: Any) -> str:
    """A digest of the `parameters`."""
    return hashlib.sha256(json.dumps(parameters(thing)).encode()).hexdigest()[:32]
