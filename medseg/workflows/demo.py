"""`medseg demo`: a synthetic cohort, trained, evaluated, predicted and reported, in minutes on a CPU."""

from __future__ import annotations

from pathlib import Path

from medseg.config.load import load_config
from medseg.core.resources import resource_file
from medseg.data.phantom import write_phantom
from medseg.workflows.predict import predict
from medseg.workflows.train import train, with_root


def demo(*, folder: Path) -> Path:
    """Run the whole pipeline on made-up data in `folder`; returns the run folder.

    The cohort is synthetic (`data.phantom`): it shows how medseg works, not how well it delineates tumours.
    """
    data, run = folder / "synthetic_data", folder / "run"
    if not (data / "dataset.json").exists():
        print(f"writing a synthetic brain-tumour cohort to {data}")
        write_phantom(data)
    train(with_root(load_config(resource_file("configs", "demo")), data.resolve()), run=run)
    predict(run, input=data / "imagesTs", output=folder / "predictions", overwrite=True)
    print(
        f"""
Everything is synthetic, and in {folder}:
  the cohort      {data}
  the report      {run / "report.html"}   (open it in a browser)
  the metrics     {run / "eval" / "metrics.json"}, metrics.csv
  the masks       {folder / "predictions"}
  TensorBoard     medseg review {run}
  MONAI bundle    python -m monai.bundle run --config_file {run / "configs" / "inference.yaml"}"""
    )
    return run
