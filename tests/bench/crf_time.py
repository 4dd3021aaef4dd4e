"""Time of the dense CRF against pydensecrf2: 500 x 375 pixels, 21 classes, 10 iterations, building the kernels too.

    python tests/bench/crf_time.py [--image PHOTO] [--parameters deeplabv2] [--threads 2] [--runs 5]

Without --image it takes a photograph of MEDSEG_TEST_DATA (by default ../shared/data). pydensecrf2 uses one thread, so
medseg is given one as well, unless asked otherwise. The runs alternate; the ratio is that of the medians.
Exit code: 0 within the target of 3, 1 beyond it, 2 without pydensecrf2 or the photograph.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image  # comes with matplotlib
from torch.nn import functional as F

from medseg.inference.crf import dense_crf, published_parameters

TARGET = 3.0
WIDTH, HEIGHT, CLASSES, ITERATIONS = 500, 375, 21, 10
DATA = Path(os.environ.get("MEDSEG_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PHOTO = DATA / "VOCdevkit_sample" / "VOC2012" / "JPEGImages" / "2011_000006.jpg"


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--image", type=Path, default=PHOTO)
    options.add_argument("--parameters", default="pydensecrf")
    options.add_argument("--threads", type=int, default=1, help="of medseg; pydensecrf2 has one")
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        print("pydensecrf2 is missing: pip install pydensecrf2 (needs a C++ compiler)", file=sys.stderr)
        return 2
    if not given.image.is_file():
        print(f"no photograph {given.image}: name one with --image", file=sys.stderr)
        return 2

    torch.set_num_threads(given.threads)
    parameters = replace(published_parameters(given.parameters), iterations=ITERATIONS)
    picture = np.array(Image.open(given.image).convert("RGB").resize((WIDTH, HEIGHT)))
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, CLASSES, HEIGHT // 32 + 1, WIDTH // 32 + 1, generator=draw)
    logits = 4 * F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")[0]
    logits += torch.randn(logits.shape, generator=draw)
    image = torch.from_numpy(picture).permute(2, 0, 1)

    def own() -> np.ndarray:
        return dense_crf(logits, image, parameters).numpy()

    def peer() -> np.ndarray:
        crf = DenseCRF2D(WIDTH, HEIGHT, CLASSES)
        crf.setUnaryEnergy(-np.log(logits.softmax(dim=0).clamp(1e-5, 1).flatten(1).numpy()))
        crf.addPairwiseGaussian(parameters.gaussian_std, parameters.gaussian_weight)
        crf.addPairwiseBilateral(parameters.bilateral_std, parameters.image_std, picture, parameters.bilateral_weight)
        return np.array(crf.inference(parameters.iterations)).reshape(logits.shape)

    same = (own().argmax(0) == peer().argmax(0)).mean()  # the first call of each warms it up
    seconds: dict[Callable[[], np.ndarray], list[float]] = {own: [], peer: []}
    for _ in range(given.runs):
        for run, times in seconds.items():
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    mine, theirs = median(seconds[own]), median(seconds[peer])
    print(f"{WIDTH} x {HEIGHT}, {CLASSES} classes, {ITERATIONS} iterations, {given.parameters}: {same:.2%} same labels")
    print(
        f"medseg {mine:.3f} s ({given.threads} threads), pydensecrf2 {theirs:.3f} s (1 thread), {given.runs} runs each"
    )
    print(f"ratio {mine / theirs:.2f} (target: at most {TARGET:g})")
    return 0 if mine <= TARGET * theirs else 1


if __name__ == "__main__":
    sys.exit(main())
