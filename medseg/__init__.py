"""Semantic segmentation in two and three dimensions, where every run is a MONAI bundle.

    import medseg

    config = medseg.load_config("brain.yaml", ["data.root=Task01_BrainTumour"])
    run = medseg.train(config)                                    # a folder; the same call again goes on
    summary = medseg.evaluate(run)                                # the metrics table, as plain data
    medseg.predict(run, input=Path("scans"), output=Path("masks"))
    predictor = medseg.Predictor.from_run(run)                    # loaded once, called many times
    mask = predictor("scan.nii.gz")                               # mask.array, mask.affine, mask.volume_ml

The command line calls the same functions. Every mistake of a user is a `medseg.MedsegError` with its remedy. Nothing
heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medseg.config.load import load_config
    from medseg.config.schema import Config
    from medseg.core.errors import MedsegError, PartialFailure
    from medseg.networks import build_network
    from medseg.workflows.check import check
    from medseg.workflows.evaluate import evaluate
    from medseg.workflows.plan import plan
    from medseg.workflows.predict import predict
    from medseg.workflows.predictor import Mask, Predictor
    from medseg.workflows.score import score
    from medseg.workflows.train import train

__all__ = [
    "Config",
    "Mask",
    "MedsegError",
    "PartialFailure",
    "Predictor",
    "build_network",
    "check",
    "evaluate",
    "load_config",
    "plan",
    "predict",
    "score",
    "train",
]

_HOMES = {
    "Config": "config.schema",
    "Mask": "workflows.predictor",
    "MedsegError": "core.errors",
    "PartialFailure": "core.errors",
    "Predictor": "workflows.predictor",
    "build_network": "networks",
    "load_config": "config.load",
    **{verb: f"workflows.{verb}" for verb in ("check", "evaluate", "plan", "predict", "score", "train")},
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    return getattr(import_module(f"medseg.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
