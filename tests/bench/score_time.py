"""Label maps a second of `medseg score` against cityscapesScripts (without its C extension): 2048 x 1024, with objects.

    python tests/bench/score_time.py [--maps 500] [--distinct 50] [--peer-maps 30] [--workers 2]

Draws streets of wavy regions and some thirty objects, writes them as Cityscapes does (labelIds, instanceIds), times the
whole command `medseg score`, its start included, and then the official evaluation of a part of them in one
process, as it is. The files are read once before, so both find them in memory. The figures of that part must be equal.
Exit code: 0 within both targets (15 maps a second, 3 times the official program), 1 beyond one, 2 without the program.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

MAPS_PER_SECOND, RATIO = 15.0, 3.0
SHAPE = (1024, 2048)
STUFF = np.array([1, 3, 4, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23])
THINGS = np.arange(24, 34)
AVERAGES = {"mean_iou": "averageScoreClasses", "mean_iiou": "averageScoreInstClasses"}
AVERAGES |= {"mean_category_iou": "averageScoreCategories", "mean_category_iiou": "averageScoreInstCategories"}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--maps", type=int, default=500)
    options.add_argument("--distinct", type=int, default=50, help="maps that are drawn; the others are links to them")
    options.add_argument("--peer-maps", type=int, default=30, help="maps that the official program evaluates")
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    try:
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as Official
    except ImportError:
        print("cityscapesscripts is missing: pip install cityscapesscripts==2.3.0", file=sys.stderr)
        return 2
    if Official.CSUPPORT:
        print("cityscapesscripts was built with its C extension: compare without it", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, given.maps, given.distinct)
        size = sum(len(file.read_bytes()) for file in folder.rglob("*.png")) / given.maps / 1024
        print(f"{given.maps} maps of {SHAPE[1]} x {SHAPE[0]}, {given.distinct} distinct, {size:.0f} KiB each")
        start = time.perf_counter()
        run_medseg(folder, given.workers)
        own = given.maps / (time.perf_counter() - start)
        print(f"medseg score: {own:.1f} maps a second, {given.workers} processes, start-up included")
        labels = sorted(map(str, folder.glob("truth/*_gtFine_labelIds.png")))[: given.peer_maps]
        start = time.perf_counter()
        official = run_official(Official, labels, folder)
        peer = len(labels) / (time.perf_counter() - start)
        print(f"cityscapesScripts: {peer:.2f} maps a second, 1 process, {len(labels)} maps")
        (folder / "part.txt").write_text("".join(f"{Path(file).name[:20]}\n" for file in labels))
        part = run_medseg(folder, given.workers, "--cases", str(folder / "part.txt"))
    apart = max(abs(part[ours] - official[theirs]) for ours, theirs in AVERAGES.items())
    print(f"the same part: the four means differ by at most {apart:.1e}")
    print(f"{own:.1f} maps a second (target: {MAPS_PER_SECOND:g}), {own / peer:.1f} times as fast (target: {RATIO:g})")
    return 0 if own >= MAPS_PER_SECOND and own >= RATIO * peer and apart < 1e-9 else 1


def draw(folder: Path, maps: int, distinct: int) -> None:
    """`truth/` and `masks/`, named as Cityscapes names them."""
    (folder / "truth").mkdir()
    (folder / "masks").mkdir()
    for number in range(maps):
        case, model = (f"aachen_{index:06}_000019" for index in (number, number % distinct))
        names = ("truth/{}_gtFine_labelIds.png", "truth/{}_gtFine_instanceIds.png", "masks/{}_leftImg8bit.png")
        paths = [folder / name.format(case) for name in names]
        if number < distinct:
            for path, array in zip(paths, street(np.random.default_rng(number)), strict=True):
                Image.fromarray(array).save(path)
        else:
            for path, name in zip(paths, names, strict=True):
                path.symlink_to(folder / name.format(model))


def street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A truth, its instanceIds, and a prediction that is some pixels off and wrong in patches."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    bend = [ndimage.zoom(rng.normal(size=(17, 33)), 64, order=1)[: SHAPE[0], : SHAPE[1]] * 30 for _ in range(2)]
    cells = rng.choice(STUFF, size=(9, 13))
    row = np.clip((rows + bend[0]) / 128, 0, 8).astype(int)
    column = np.clip((columns + bend[1]) / 170, 0, 12).astype(int)
    truth = cells[row, column].astype(np.uint8)
    instances = truth.astype(np.uint16)
    for number in range(30):
        centre, radius = rng.uniform((200, 0), SHAPE), rng.uniform(10, 90, 2)
        inside = ((rows - centre[0] + bend[1] / 4) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 < 1
        value = rng.choice(THINGS)
        truth[inside] = value
        instances[inside] = value * 1000 + number if number % 5 else value  # every fifth is a group
    prediction = np.roll(truth, rng.integers(-4, 5, 2), (0, 1))
    wrong = ndimage.zoom(rng.random((33, 65)), 32, order=1)[: SHAPE[0], : SHAPE[1]] > 0.8
    prediction[wrong] = np.roll(prediction, 200, 1)[wrong]
    return truth, instances, prediction


def run_medseg(folder: Path, workers: int, *more: str) -> dict:
    """What `medseg score --json` says."""
    where = ["--prediction", str(folder / "masks"), "--truth", str(folder / "truth"), "--dataset", "cityscapes"]
    command = [sys.executable, "-m", "medseg", "score", *where, "--workers", str(workers), "--json", *more]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run_official(official: object, labels: list[str], folder: Path) -> dict:
    """What evaluateImgLists says; it needs a name that NumPy 2.4 no longer has."""
    if not hasattr(np, "in1d"):
        np.in1d = lambda array, values: np.isin(array, values).ravel()  # type: ignore[attr-defined]
    official.args.quiet, official.args.JSONOutput = True, False  # type: ignore[attr-defined]
    masks = [str(folder / "masks" / f"{os.path.basename(file)[:20]}_leftImg8bit.png") for file in labels]
    return official.evaluateImgLists(masks, labels, official.args)  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
