"""Preprocessed cases on disk: computed once, then memory-mapped.

An entry is three uncompressed `.npy` files (image, label, voxels of each label value) and a small JSON file, written
last, that makes it valid. Its name is a hash of the case's files (path, size, time of change) and of the transform's
parameters: another config gets other entries, and the same one finds its own again. What nobody uses any more goes
after a while (`entries.py`).

The JSON file holds checksums of the arrays, and digests of the files that they were made from. An entry is compared
with both once, when it is opened: one that a disk has damaged, or whose files have another content now, is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import Dataset

import medseg
from medseg.core.errors import DataError, Problem
from medseg.core.files import readable, replace_file, replacing
from medseg.core.parallel import every_result
from medseg.core.sealed import sealed, unsealed
from medseg.data.cases.case import Case, as_cases
from medseg.data.cases.inspection import CaseFacts
from medseg.data.cases.judge import Judge, from_plain, sampled, to_plain
from medseg.data.files.digests import CaseState, Touched, array_checksum, file_checksum, hashed
from medseg.data.files.images import files_beside, read_once
from medseg.data.files.reading import ReadingRules, now, reading, seen_as
from medseg.data.training.apply import apply
from medseg.data.training.entries import Stored, if_mine, mark_used, remove_unused, stored_entries
from medseg.data.training.identity import identity, parameters
from medseg.data.training.voxels import listed_voxels

FORMAT = 3  # raise it when what is stored changes
ARRAYS = ("image", "label", "voxels")
logger = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "uint8": torch.uint8, "int32": torch.int32}


@dataclass(frozen=True)
class Entry:
    """One case, mapped into memory.

    Args:
        image: `(C, *spatial)` float32, or uint8 where the transform leaves bytes.
        label: `(1, *spatial)` uint8, or None.
        voxels: label value -> (how many voxels have it, int32 flat indices of them or of an even sample).
        judged: `by` whom (its `identity`), and the `facts` as plain data; empty if nobody has judged it.
    """

    case: str
    image: torch.Tensor
    label: torch.Tensor | None
    affine: torch.Tensor
    native_affine: torch.Tensor
    native_shape: tuple[int, ...]
    voxels: Mapping[int, tuple[int, torch.Tensor]]
    judged: Mapping[str, Any] = field(default_factory=dict)


class CachedDataset(Dataset):
    """The cases of `data` after `transform` (a deterministic one), kept in `folder`.

    `dataset[i]` is a dict `case`, `image`, `label` (MetaTensors that share the memory map; writing to them changes
    neither the file nor another process), `native_affine`, `native_shape`. A process holds no copy of the data: the
    operating system keeps pages while memory is free, and drops them when it is not.

    Args:
        data: cases, or MONAI's dictionaries of them (see `Case.from_entry`).
        transform: as `data.transforms.preprocessing`.
        workers: threads that fill the cache.
        progress: show a bar while filling (in a terminal).
        judge: what there is to say of a case (`facts`): found when its entry is made, and kept in it.
    """

    def __init__(
        self,
        data: Iterable[Case | Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], Any],
        folder: str | Path,
        workers: int = 0,
        progress: bool = False,
        judge: Judge | None = None,
    ) -> None:
        self.judge, self._judged_by = judge, "" if judge is None else identity(judge)
        self.made: set[str] = set()  # names of the cases whose entries were made here
        self.data = as_cases(data)
        self._sampled = sampled(len(self.data))
        self.transform = transform
        self.folder = Path(folder)
        self.workers = workers
        self.progress = progress
        self._parameters = json.dumps([FORMAT, medseg.__version__, monai.__version__, parameters(transform)])
        self._open: dict[int, Entry] = {}
        self._rules: ReadingRules | None = None  # of the process that this one works for
        self._sound: set[int] = set()  # which entries were compared with their digests

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}, "_rules": self._rules or now()}  # a worker process maps the files itself

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self.entry(index)
        meta = {"filename_or_obj": self.data[index].first}
        case: dict[str, Any] = {"case": entry.case, "image": MetaTensor(entry.image, affine=entry.affine, meta=meta)}
        if entry.label is not None:
            case["label"] = MetaTensor(entry.label, affine=entry.affine)
        return case | {"native_affine": entry.native_affine.clone(), "native_shape": entry.native_shape}

    def entry(self, index: int) -> Entry:
        """The case's plain tensors; computed and stored on first use, or if what is stored is damaged or outdated."""
        if not 0 <= index < len(self.data):
            raise IndexError(index)
        if index not in self._open:
            with reading(self._rules or now()):
                self._open[index] = self._opened(index)
        return self._open[index]

    def _opened(self, index: int) -> Entry:
        case = self.data[index]
        stem = self._stem(case)
        if index not in self._sound and not _is_sound(stem, case):
            self._make(stem, index)
        self._sound.add(index)
        entry = _read(stem)
        if entry is None:
            self._make(stem, index)
            entry = _read(stem)
            if entry is None:
                raise DataError(Problem(str(stem), "a cache entry cannot be read back", "is the disk full?"))
        return entry

    def fill(self, share: int = 0, shares: int = 1) -> None:
        """Make every entry now, or one of several shares of them, for a process each.

        Raises:
            DataError: of all cases that failed, at once.
        """
        shown = self.progress and share == 0
        indices = range(share, len(self), shares)
        every_result(self.entry, indices, max(1, self.workers), "preprocess" if shown else None)

    def facts(self) -> list[CaseFacts]:
        """What the judge found in the cases that were opened until now; nothing without a judge.

        An entry of somebody who judged by other channels or labels, or not at all, is judged now.
        """
        if self.judge is None:
            return []
        return every_result(self._facts, sorted(self._open), max(1, self.workers))

    def _facts(self, index: int) -> CaseFacts:
        judged = self._open[index].judged
        if judged.get("by") == self._judged_by:
            with contextlib.suppress(ValueError, KeyError):
                return from_plain(judged["facts"])
        stem = self._stem(self.data[index])
        description = _description(stem)
        with reading(self._rules or now()):
            judged = self._judged(index, CaseState.from_plain(description["files"]), {})
        with if_mine():
            _describe(stem, description | {"judged": judged})
        return from_plain(judged["facts"])

    def _judged(self, index: int, state: CaseState, loaded: Mapping[str, Any]) -> dict[str, Any]:
        if self.judge is None:
            return {}
        with read_once():
            found = self.judge(self.data[index], loaded, coarse=index in self._sampled)
        facts = replace(found, digest="-".join(sorted(state.identities)) if state.is_known else "")
        return {"by": self._judged_by, "facts": to_plain(facts)}

    def _make(self, stem: Path, index: int) -> None:
        """Read the case, note the digests of its files, and store what the transform makes of it.

        Raises:
            DataError: its files are damaged, or are being written to.
        """
        case = self.data[index]
        state = case.state().each(hashed)  # the first to read the files: the transform finds them in memory
        with read_once():
            content = apply(self.transform, case.entry())
            judged = self._judged(index, state, content)
        if case.state() != state.each(lambda file: replace(file, sha256="")):
            raise DataError(Problem(case.name, "a file changed while it was read", "wait until nobody writes to it"))
        _write(stem, content, state, judged)
        self.made.add(case.name)

    def missing(self) -> list[Case]:
        """The cases that have no entry yet.

        Raises:
            DataError: files are not there, of all cases at once.
        """
        return [case for case, stem in zip(self.data, self._stems(), strict=True) if not Path(f"{stem}.json").is_file()]

    def tidy(self) -> list[Stored]:
        """Note that its entries are used now, and delete those in the folder that nobody has used for long.

        Returns:
            The entries that went; raises as `missing`.
        """
        stems = self._stems()
        for stem in stems:
            mark_used(stem)
        return remove_unused(self.folder, frozenset(stems))

    def _stems(self) -> list[Path]:
        return every_result(self._stem, self.data)

    def _stem(self, case: Case) -> Path:
        """Path of the case's entry without an ending."""
        return self.folder / self._key(case)

    def _key(self, case: Case) -> str:
        files: list[list[Any]] = []
        for position, path in enumerate(case.files):
            try:
                status = os.stat(path)
                beside = [(file.name, file.stat()) for file in files_beside(Path(path))]
            except OSError as error:
                raise DataError(Problem(str(error.filename or path), "no such file")) from None
            key = "image" if position < len(case.there) else "label"
            files.append([key, str(Path(path).absolute()), status.st_size, status.st_mtime_ns])
            files += [[name, one.st_size, one.st_mtime_ns] for name, one in beside]
        series, spacing = seen_as()
        read_as = [case.missing, series, None if case.is_picture else spacing]
        return hashlib.sha256(json.dumps([self._parameters, case.name, files, *read_as]).encode()).hexdigest()[:32]


# --- files ---------------------------------------------------------------------------------------------------------


def known_digests(folder: Path) -> dict[Touched, str]:
    """Of all files that the entries in a folder were made from: the digests, as they were when they were read."""
    found: dict[Touched, str] = {}
    for entry in stored_entries(folder):
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = CaseState.from_plain(_description(entry.stem)["files"])
            found |= {file.touched: file.sha256 for file in state.files}
    return found


def _is_sound(stem: Path, case: Case) -> bool:
    """Whether there is an entry, to the bit as it was written, of files with this content."""
    try:
        description = _description(stem)
        before, now = CaseState.from_plain(description["files"]), case.state()
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s: its entry in the cache is made again: %s", case.name, error)
        return False
    arrays = description["arrays"]
    try:
        damaged = [name for name in arrays if file_checksum(f"{stem}.{name}.npy") != arrays[name]["crc32"]]
    except OSError as error:
        damaged = [str(error)]
    if damaged:
        logger.warning("%s: its entry in the cache is damaged (%s), and made again", case.name, ", ".join(damaged))
        return False
    now, changes = now.compared(before)
    if not changes and now != before:  # somebody touched them: another time they need not be read for it
        with if_mine():
            _describe(stem, description | {"files": now.to_plain()})
    return not changes


def _description(stem: Path) -> dict[str, Any]:
    """What the JSON file says; raises OSError or ValueError where it is not there, or not as it was written."""
    return unsealed(readable(Path(f"{stem}.json")).read_text(encoding="utf-8"), indent=None)


def _describe(stem: Path, description: Mapping[str, Any]) -> None:
    replace_file(Path(f"{stem}.json"), sealed(description, indent=None))


def _write(stem: Path, case: Mapping[str, Any], state: CaseState, judged: Mapping[str, Any]) -> None:
    image = np.ascontiguousarray(torch.as_tensor(case["image"]).numpy())
    image = image if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    label = np.ascontiguousarray(torch.as_tensor(case["label"]).numpy(), dtype=np.uint8) if "label" in case else None
    counts, voxels = listed_voxels(label) if label is not None else ({}, np.zeros(0, np.int32))
    sizes: dict[str, Any] = {}
    for name, array in zip(ARRAYS, (image, label, voxels), strict=True):
        if array is not None:
            path = Path(f"{stem}.{name}.npy")
            with replacing(path) as writing, writing.open("wb") as file:
                np.save(file, array)
                size = file.tell()
            crc = array_checksum(array)
            sizes[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "bytes": size, "crc32": crc}
    description = {
        "case": case["case"],
        "arrays": sizes,
        "affine": torch.as_tensor(case["image"].affine, dtype=torch.float64).tolist(),
        "native_affine": case["native_affine"].tolist(),
        "native_shape": list(case["native_shape"]),
        "voxels": [[value, *numbers] for value, numbers in counts.items()],
        "files": state.to_plain(),
    } | ({"judged": judged} if judged else {})
    _describe(stem, description)


def _read(stem: Path) -> Entry | None:
    """The entry, or None if it is missing or damaged (truncated, emptied, another format)."""
    try:
        description = _description(stem)
        arrays = {
            name: _mapped(Path(f"{stem}.{name}.npy"), about["shape"], DTYPES[about["dtype"]], about["bytes"])
            for name, about in description["arrays"].items()
        }
        voxels, start = {}, 0
        for value, count, listed in description["voxels"]:
            voxels[value] = (count, arrays["voxels"][start : start + listed])
            start += listed
        return Entry(
            description["case"],
            arrays["image"],
            arrays.get("label"),
            torch.tensor(description["affine"], dtype=torch.float64),
            torch.tensor(description["native_affine"], dtype=torch.float64),
            tuple(description["native_shape"]),
            voxels,
            description.get("judged", {}),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _mapped(path: Path, shape: Sequence[int], dtype: torch.dtype, size: int) -> torch.Tensor:
    """A private (copy-on-write) map of an `.npy` file; unlike NumPy's, it keeps no file open."""
    if path.stat().st_size != size:
        raise ValueError(f"{path} has not the {size} bytes that were written")
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    length = int(np.prod(shape)) * dtype.itemsize
    return content[size - length :].view(dtype).view(*shape)  # the header fills a multiple of 64 bytes before the data
