"""What trust costs: time of preprocessing, a short training and prediction, with digests and without.

python tests/bench/trust_cost.py [--against DIR] [--pairs 7] [--pieces preprocessing training prediction]

Without --against the other side of a pair is the same tree with digests, checksums and seals switched off, in the same
process: an older commit has other algorithms, so that a comparison with it says nothing of trust. With it, it is the
tree in DIR, in processes of their own. The sides take turns, each pair the other way round. The figure is the median of
the ratios; of seven pairs the interval, from the second smallest to the second largest, holds it with 87.5 %. On a
machine that others share, processor time is the measure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from unittest import mock

import nibabel as nib
import numpy as np

HERE = Path(__file__).resolve()
CASES, SHAPE, SPACING = 6, (128, 128, 48), (0.9, 0.9, 2.5)
PIECES = ("preprocessing", "training", "prediction")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another tree; default: this one without its digests")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=PIECES)
    parser.add_argument(
        "--measure", nargs=3, metavar=("PIECE", "SIDE", "FOLDER"), help="one side, for the program itself"
    )
    options = parser.parse_args()
    if options.measure:
        piece, side, folder = options.measure
        print(json.dumps(measure(piece, side, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder) / "data")
        once(None, "prediction", "with", Path(folder) / "prepared")  # a run, and what the first use of anything loads
        for piece in options.pieces:
            pairs = [pair(piece, number, options.against, Path(folder)) for number in range(options.pairs)]
            for kind in ("cpu", "wall"):
                print(f"{piece}, {kind}: {text([(one[kind], other[kind]) for one, other in pairs])}", flush=True)


def text(pairs: list[tuple[float, float]]) -> str:
    """Median ratio of what is with digests to what is without, its interval, and the median seconds."""
    ratios = sorted(one / other - 1 for one, other in pairs)
    low, high = (ratios[1], ratios[-2]) if len(ratios) >= 4 else (ratios[0], ratios[-1])
    one, other = (median(side) for side in zip(*pairs, strict=True))
    return f"{median(ratios):+.1%} ({low:+.1%} to {high:+.1%}), {one:.2f} s and {other:.2f} s"


def pair(piece: str, number: int, against: Path | None, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Both sides in turn."""
    found = {}
    for side in ("with", "without") if number % 2 else ("without", "with"):
        place = folder / f"{piece}-{number}-{side}"
        if against is None:
            found[side] = once(None, piece, side, place)
        else:
            found[side] = once(HERE.parents[2] if side == "with" else against, piece, "with", place)
    return found["with"], found["without"]


def once(tree: Path | None, piece: str, side: str, folder: Path) -> dict[str, float]:
    """One side; in a process of its own where a tree is given."""
    folder.mkdir()
    if tree is None:
        return measure(piece, side, folder)
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE), "--measure", piece, side, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(piece: str, side: str, folder: Path) -> dict[str, float]:
    """The seconds that a piece takes; imports, and what it needs, come before."""
    import torch

    torch.set_num_threads(1)
    work = {"preprocessing": preprocessing, "training": training, "prediction": prediction}[piece](folder)
    with without_digests() if side == "without" else contextlib.nullcontext():
        cpu, wall = time.process_time(), time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            work()
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


@contextlib.contextmanager
def without_digests() -> Iterator[None]:
    """medseg as it is, but that nothing is digested, sealed or compared."""
    import torch

    def nothing(*_: object) -> str:
        return ""

    switched = {
        "medseg.data.training.cache.hashed": lambda state: state,
        "medseg.data.training.cache.array_checksum": lambda *_: 0,
        "medseg.data.training.cache.file_checksum": lambda _: 0,
        "medseg.engine.origin.file_digest": nothing,
        "medseg.runs.kept.file_digest": nothing,
        "medseg.runs.files.hashed": lambda state: state,
        "medseg.engine.resume.is_sound": nothing,
        "medseg.engine.resume.save_sealed": torch.save,
        "medseg.core.sealed.data_digest": nothing,
    }
    with contextlib.ExitStack() as stack:
        for name, other in switched.items():
            stack.enter_context(mock.patch(name, other))
        yield


Work = Callable[[], object]


def preprocessing(folder: Path) -> Work:
    """Every case into an empty cache, five times: read, resample to 1 x 1 x 2 mm, normalise, store."""
    from medseg.data.cases.dataset import read_dataset
    from medseg.data.training.cache import CachedDataset
    from medseg.data.training.transforms import preprocessing as steps

    cases = read_dataset(folder.parent / "data").cases
    transform = steps(keys=["image", "label"], spacing_mm=[1.0, 1.0, 2.0])

    def fill() -> None:
        for number in range(5):
            CachedDataset(cases, transform, folder / f"cache{number}", workers=1).fill()

    return fill


def training(folder: Path) -> Work:
    """Two epochs of six steps, with preprocessing, validation, checkpoints and the evaluation at the end."""
    from medseg.workflows.train import train

    return lambda: train(_config(folder.parent / "data"), run=folder / "run")


def prediction(folder: Path) -> Work:
    """All images by a run that is trained once for all."""
    from medseg.workflows.predict import predict
    from medseg.workflows.train import train

    run, data = folder.parent / "trained", folder.parent / "data"
    if not run.exists():
        with contextlib.redirect_stdout(io.StringIO()):
            train(_config(data), run=run)
    return lambda: predict(run, input=data / "imagesTs", output=folder / "masks")


def _config(data: Path):
    from medseg.config.schema import Config

    training = {"patch_size": [48, 48, 32], "max_epochs": 2, "iterations_per_epoch": 6, "batch_size": 2, "workers": 0}
    tree = {
        "name": "trust",
        "data": {"root": str(data)},
        "training": {**training, "workers": 0},
        "network": {"widths": [8, 16, 32]},
    }
    return Config.model_validate(tree)


def write_data(root: Path) -> None:
    """Cases with a structure and noise, which gzip makes about a third smaller, as it does scans."""
    random, listed = np.random.default_rng(0), []
    for kind in ("imagesTr", "labelsTr", "imagesTs"):
        (root / kind).mkdir(parents=True)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij"))
    affine = np.diag([*SPACING, 1.0])
    for number in range(CASES):
        name, radius = f"case_{number}.nii.gz", random.uniform(0.3, 0.6)
        inside = (place**2).sum(0) < radius**2
        image = 600 * inside + random.normal(200, 20, SHAPE)
        nib.save(nib.Nifti1Image(image.astype(np.int16), affine), root / "imagesTr" / name)
        nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), root / "labelsTr" / name)
        if number % 2:
            nib.save(nib.Nifti1Image(image.astype(np.int16), affine), root / "imagesTs" / name)
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {"name": "trust", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}}
    tests = [f"./imagesTs/case_{number}.nii.gz" for number in range(1, CASES, 2)]
    (root / "dataset.json").write_text(json.dumps({**content, "training": listed, "test": tests}))


if __name__ == "__main__":
    main()
