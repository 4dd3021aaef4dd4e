"""What digests cost: processor time of hashing 100 MB of files, beside that of reading them as images.

python tests/bench/digests.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from medseg.data.cases.case import Case
from medseg.data.files.digests import hashed
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import preprocessing

MEGABYTES, FILES, TIMES = 100, 10, 7


def cpu(work: Callable[[], object]) -> float:
    """Median of its processor time, in seconds."""
    found = []
    for _ in range(TIMES):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return median(found)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases = _write(Path(folder))
        size = sum(Path(case.first).stat().st_size for case in cases) / 1e6
        states = [case.state().each(hashed) for case in cases]
        hashing = cpu(lambda: [case.state().each(hashed) for case in cases])
        comparing = cpu(lambda: [c.state().compared(s) for c, s in zip(cases, states, strict=True)])
        reading = cpu(lambda: [case.read_image() for case in cases])
        start = time.process_time()
        cache = CachedDataset(cases, preprocessing(keys=["image"]), Path(folder) / "cache")
        cache.fill()
        filling = time.process_time() - start
        opening = cpu(lambda: CachedDataset(cases, cache.transform, cache.folder).fill())
        stored = sum(file.stat().st_size for file in cache.folder.iterdir()) / 1e6
    print(f"{len(cases)} files, {size:.0f} MB: hashed in {hashing:.3f} s of processor time, {size / hashing:.0f} MB/s")
    print(
        f"reading them as images {reading:.2f} s, preprocessing them into the cache {filling:.2f} s with their digests"
    )
    print(f"compared by size and times {comparing * 1e3:.1f} ms; a cache of {stored:.0f} MB opened in {opening:.3f} s")


def _write(folder: Path) -> list[Case]:
    random, cases = np.random.default_rng(0), []
    side = round((MEGABYTES * 1e6 / FILES / 2 / 0.87) ** (1 / 3))  # int16, which gzip makes a little smaller
    for number in range(FILES):
        values = random.normal(1000, 300, (side, side, side)).astype(np.int16)
        file = folder / f"case_{number}.nii.gz"
        nib.save(nib.Nifti1Image(values, np.eye(4)), file)
        cases.append(Case(f"case_{number}", (str(file),)))
    return cases


if __name__ == "__main__":
    main()
