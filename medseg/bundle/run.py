"""Run a bundle that medseg has just compiled, through MONAI's own workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from medseg.core.errors import unwrapped


def run_bundle(folder: Path, name: str, **overrides: Any) -> ConfigWorkflow:
    """Run `configs/NAME.yaml` of a freshly compiled bundle and return its workflow.

    Call it only on a bundle that `write_bundle` wrote in this process: a bundle's YAML is code. (`monai.bundle run`
    warns of that every time; using its workflow class directly, as here, does not.)

    Args:
        folder: the bundle.
        name: train, evaluate or inference.
        overrides: ids and values, as `bundle_root="/data/run"`.
    """
    kind = "train" if name == "train" else "infer"
    workflow = ConfigWorkflow(
        str(folder / "configs" / f"{name}.yaml"), workflow_type=kind, bundle_root=str(folder), **overrides
    )
    try:
        with unwrapped():
            workflow.initialize()
            workflow.run()
    finally:
        workflow.finalize()
    return workflow
