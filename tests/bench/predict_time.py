"""Seconds and peak memory of `medseg predict`: a brain of 240x240x155 in two channels, a body of 512x512x800 in one.

    python tests/bench/predict_time.py [--case brain body] [--threads 2] [--runs 3] [--overlap 0.5] [--widths ...]

Draws the volumes (a brain in zeros; a body in noisy air that fills two fifths of 0.8 x 0.8 x 1.5 mm, which the config
samples to 1.5 mm), and writes the run of an untrained network of the widths that `medseg plan` gives such data. What is
timed is the whole command, its start included, beside the most memory that its process held; `inside` is what the
command says itself, without the start of Python and the imports.
Exit code: 0 within the targets (4 s and 1 GiB; 90 s and 4 GiB), 1 beyond one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import torch
import yaml
from scipy import ndimage

from medseg.bundle.facts import DataFacts
from medseg.core.labels import Labels
from medseg.networks import build_network

Overrides = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Case:
    """What is predicted, and within what.

    Args:
        shape: voxels of the volume.
        spacing_mm: of the volume.
        share: of the box that the ellipsoid of tissue spans, along each axis.
        channels: name of each.
        settings: the config.
        seconds, gib: the targets.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    share: tuple[float, float, float]
    channels: tuple[str, ...]
    settings: Overrides
    seconds: float
    gib: float


WIDTHS = [16, 32, 64, 128, 160]
CASES = {
    "brain": Case(
        (240, 240, 155),
        (1.0, 1.0, 1.0),
        (0.6, 0.75, 0.9),
        ("FLAIR", "T1Gd"),
        {
            "preprocessing": {"crop_to_foreground": True, "normalization": "zscore_nonzero"},
            "training": {"patch_size": [80, 80, 64]},
        },
        4.0,
        1.0,
    ),
    "body": Case(
        (512, 512, 800),
        (0.8, 0.8, 1.5),
        (0.95, 0.72, 1.3),
        ("CT",),
        {
            "preprocessing": {"spacing_mm": [1.5, 1.5, 1.5], "normalization": "ct"},
            "training": {"patch_size": [80, 80, 80]},
        },
        90.0,
        4.0,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--overlap", type=float, default=0.5)
    given = parser.parse_args()
    within = True
    for name in given.case:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            tissue = draw(case, Path(folder) / "images")
            write_run(case, Path(folder) / "run", given.widths, given.overlap)
            runs = [measure(Path(folder), given.threads) for _ in range(given.runs)]
        seconds, inside, gib = (median(figures) for figures in zip(*runs, strict=True))
        shape = "x".join(map(str, case.shape))
        print(f"{name} {shape}, {len(case.channels)} channels, {tissue:.0%} tissue, {given.threads} threads: ", end="")
        print(f"{seconds:.1f} s (target: {case.seconds:g}), {inside:.1f} s inside, ", end="")
        print(f"{gib:.2f} GiB (target: {case.gib:g}), medians of {given.runs}", flush=True)
        within &= seconds <= case.seconds and gib <= case.gib
    return 0 if within else 1


def draw(case: Case, folder: Path) -> float:
    """`phantom_0000.nii.gz` and so on, int16; the share of voxels that is tissue."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    axes = [
        np.linspace(-1, 1, length, dtype=np.float32) / share
        for length, share in zip(case.shape, case.share, strict=True)
    ]
    tissue = sum(axis * axis for axis in np.meshgrid(*axes, indexing="ij", sparse=True)) < 1
    air = 0 if len(case.channels) > 1 else -1000
    for number in range(len(case.channels)):
        coarse = rng.normal(size=[length // 16 + 2 for length in case.shape]).astype(np.float32)
        smooth = ndimage.zoom(coarse, 16, order=1)[tuple(slice(0, length) for length in case.shape)]
        image = np.full(case.shape, air, np.int16)
        image[tissue] = 100 + 60 * smooth[tissue] + rng.normal(0, 10, int(tissue.sum()))
        if air:
            image[~tissue] += rng.normal(0, 8, int((~tissue).sum())).astype(np.int16)
        file = folder / f"phantom_{number:04}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, np.diag([*case.spacing_mm, 1.0])), file)
    return float(tissue.mean())


def write_run(case: Case, run: Path, widths: list[int], overlap: float) -> None:
    """The folder of a run that was never trained: its config, what its data are, and random weights."""
    (run / "models").mkdir(parents=True)
    network = {"name": "unet", "widths": widths, "deep_supervision": True}
    config = {
        "name": "bench",
        "data": {"root": str(run.parent)},
        **case.settings,
        "network": network,
        "inference": {"overlap": overlap, "window_batch": 2},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    labels = Labels({"background": 0, "organ": 1, "tumour": 2})
    (run / "data.json").write_text(DataFacts("bench", case.channels, labels).to_json())
    torch.manual_seed(0)
    options = {"spatial_dims": 3, "in_channels": len(case.channels), "out_channels": 3, **network}
    torch.save(build_network(options.pop("name"), **options).state_dict(), run / "models" / "model.pt")


def measure(folder: Path, threads: int) -> tuple[float, float, float]:
    """Seconds of the whole command, seconds that it says itself, and GiB of its process at the peak."""
    command = [sys.executable, "-m", "medseg", "predict", "--run", "run", "--input", "images", "--output", "masks"]
    surrounding = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--overwrite"], check=True, cwd=folder, env=surrounding, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - started
    said = re.search(r"([\d.]+) s, peak memory ([\d.]+) GiB", done.stdout)
    assert said is not None, done.stdout
    return seconds, float(said[1]), float(said[2])


if __name__ == "__main__":
    sys.exit(main())
