"""Frames of 512 x 512 a second that `medseg composite` puts another background behind.

    python tests/bench/composite_rate.py [--frames 120] [--size 192 ...] [--config voc_portrait]

The network is that of the config with untrained weights, which cost the same as trained ones. The frames are drawn
(discs on smooth noise, as JPEG); each command is a process of its own and prints its own rate, reading and writing
included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from medseg.config.load import load_config
from medseg.networks import build_network
from medseg.runs.folder import open_run
from medseg.runs.official import read_data

SIDE = 512
OWN = (
    "data.card=null",
    "data.merge=null",
    "data.training_split=train",
    "data.classes={background: 0, person: 1}",
    "network.pretrained=null",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", type=int, nargs="+", default=[192, 256])
    parser.add_argument("--config", default="voc_portrait")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.frames):
            picture, _ = draw(number)
            save(picture, folder / "frames" / f"{number:04d}.jpg")
        for split in ("train", "val"):
            picture, mask = draw(0)
            save(picture, folder / "data" / "images" / split / f"{split}.png")
            save(mask, folder / "data" / "masks" / split / f"{split}.png")
        run = folder / "run"
        config = load_config(options.config, [*OWN, f"data.root={folder / 'data'}"])
        trained = open_run(config, run, read_data(config)).run
        config, facts = trained.config, trained.facts
        network = config.network
        channels = {"in_channels": len(facts.channels), "out_channels": len(facts.labels.channels)}
        (run / "models").mkdir(exist_ok=True)
        torch.save(
            build_network(network.name, **channels, **network.options()).state_dict(), run / "models" / "model.pt"
        )
        for size in options.size:
            command = [sys.executable, "-m", "medseg", "composite", "--run", run, "--input", folder / "frames"]
            command += ["--background", "white", "--output", folder / str(size), "--size", str(size)]
            done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
            print(f"size {size}: {done.stdout.strip()}", flush=True)
    return 0


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc on smooth noise, `(512, 512, 3)`, and where it is."""
    random = np.random.default_rng(seed)
    coarse = Pillow.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8))
    picture = np.array(coarse.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC))
    inside = np.hypot(*(np.indices((SIDE, SIDE)) - random.uniform(200, 312, (2, 1, 1)))) < 140
    picture[inside] = picture[inside] // 2 + 100
    return picture, inside.astype(np.uint8)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path, quality=92)


if __name__ == "__main__":
    raise SystemExit(main())
