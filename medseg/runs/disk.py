"""Room on disk: what the preprocessed cases of a run will take, said before it starts, refused where it is not there.

The formula is that of `data/training/size.py`; the grid after preprocessing is that of a few cases, scaled to all by
the size of their files, so no header has to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.bundle.facts import DataFacts
from medseg.bundle.language import parsed
from medseg.bundle.preprocessing import preprocessing
from medseg.config.schema import Config
from medseg.core.errors import DataError, Problem, RunError
from medseg.core.machine import free_disk, size_text
from medseg.core.parallel import in_threads
from medseg.data.cases.case import Case
from medseg.data.files.images import files_beside
from medseg.data.training.apply import apply
from medseg.data.training.cache import CachedDataset
from medseg.data.training.size import entry_bytes

CACHE = "cache"  # in the run's folder, unless the config names another
PROBED = 3  # cases that are preprocessed to see what one takes
REMEDY = "make room (medseg clean RUN says what older runs can spare), or give --set data.cache=DIR on a larger disk"


@dataclass(frozen=True)
class Disk:
    """What a cache still needs (None: no case could be read to find out), and what is free where it lies, in bytes."""

    folder: Path
    needed: int | None
    free: int

    def text(self) -> str:
        if self.needed is None:
            return f"unknown: none of {PROBED} cases can be preprocessed"
        if not self.needed:
            return f"nothing more: the cases are preprocessed in {self.folder}"
        return (
            f"about {size_text(self.needed)} for preprocessed cases in {self.folder}; {size_text(self.free)} are free"
        )

    def check(self) -> None:
        """Raises RunError where less is free than needed."""
        if self.needed is not None and self.needed > self.free:
            what = f"preprocessed cases need about {size_text(self.needed)}, but {size_text(self.free)} are free"
            raise RunError(Problem(str(self.folder), what, REMEDY))


def cache_folder(config: Config, run: Path) -> Path:
    """Where a run keeps its preprocessed cases."""
    return Path(config.data.cache) if config.data.cache else run / CACHE


def run_cache(config: Config, facts: DataFacts, cases: Sequence[Case], run: Path) -> CachedDataset:
    """The cases as the run will find them in its cache; nothing is computed yet."""
    parser = parsed({"preprocessing": preprocessing(config, facts)})
    return CachedDataset(cases, parser.get_parsed_content("preprocessing"), cache_folder(config, run))


def cache_disk(cache: CachedDataset) -> Disk:
    """What the cases without an entry will take; those that cannot be preprocessed count as the others do."""
    missing = cache.missing()
    sizes = [_files_bytes(case) for case in missing]
    chosen = range(0, len(missing), max(1, -(-len(missing) // PROBED)))
    probed = list(in_threads(lambda index: _preprocessed_bytes(cache, missing[index]), chosen))
    found = [(taken, sizes[index]) for taken, index in zip(probed, chosen, strict=True) if taken is not None]
    if missing and not found:
        return Disk(cache.folder, None, free_disk(cache.folder))
    growth = sum(taken for taken, _ in found) / max(1, sum(size for _, size in found))
    return Disk(cache.folder, round(growth * sum(sizes)), free_disk(cache.folder))


def _preprocessed_bytes(cache: CachedDataset, case: Case) -> int | None:
    """What an entry takes; None for a case that is damaged, as filling the cache will say of all such cases at once."""
    try:
        content: dict[str, Any] = apply(cache.transform, case.entry())
    except DataError:
        return None
    image, label = torch.as_tensor(content["image"]), content.get("label")
    counts = [] if label is None else torch.as_tensor(label).flatten().to(torch.int64).bincount()[1:].tolist()
    voxels, width = image[0].numel(), 1 if image.dtype == torch.uint8 else 4
    return entry_bytes(voxels, len(image), bytes_a_value=width, labelled=label is not None, counts=counts)


def _files_bytes(case: Case) -> int:
    """Bytes of the image's files (of a DICOM series, of all its slices)."""
    paths = [Path(path) for path in case.there]
    files = [file for path in paths for file in (files_beside(path) if path.is_dir() else (path,))]
    return sum(file.stat().st_size for file in files)
