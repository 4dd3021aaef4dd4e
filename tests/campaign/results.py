"""What a command has come to: whatever must be the same, to the bit, whatever happened on the way."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

from tests.campaign.inputs import VERBS

COMPARED = ("*.nii.gz", "*.png", "model.pt", "metrics.csv", "lesions.csv", "volumes.csv", "postprocessing.json",
            "splits.json", "*.yaml")  # fmt: skip
NOT = {"cache", "tensorboard", "configs"}
OUTPUTS = {"--run", "--output"}


def results(place: Path, verb: str) -> dict[str, str]:
    """File -> digest, of what the verb was told to write to; of weights the tensors alone."""
    words = VERBS[verb]
    tops = {Path(value) for option, value in pairwise(words) if option in OUTPUTS}
    found: dict[str, str] = {}
    for top in tops:
        whole = place / top
        files = [whole] if whole.is_file() else [file for pattern in COMPARED for file in whole.rglob(pattern)]
        for file in files:
            inside = file.relative_to(place)
            if not NOT & set(inside.parts) and not file.name.startswith("."):
                found[str(inside)] = "there" if verb == "plan" else _digest(file)  # a plan measures, each time anew
    return found


def _digest(file: Path) -> str:
    content = file.read_bytes()
    if file.name == "model.pt":
        import torch

        state = torch.load(file, weights_only=True)
        content = b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(state.items()))
    return hashlib.sha256(content).hexdigest()


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The files that are not the same."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
