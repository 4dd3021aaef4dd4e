"""B: a run does not know its data."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from functools import partial

from tests.campaign.faults.case import Case, Fault, state
from tests.campaign.results import differences

MORE = ("training.max_epochs=3",)  # another command of the same run


def _go_on(case: Case) -> int | None:
    return case.train(*MORE, run="run").code


def _evaluate(case: Case) -> int | None:
    return case.ask("evaluate", "--run", "run").code


def _added(case: Case, names: tuple[str, ...] = ("a",)) -> None:
    """Cases of other content, in the list of the data set too."""
    listed = json.loads((case / "data/dataset.json").read_text())["training"]
    for number, name in enumerate(names, 5):
        for folder in ("imagesTr", "labelsTr"):
            raw = bytearray(gzip.decompress((case / f"data/{folder}/tiny_00.nii.gz").read_bytes()))
            raw[-number] ^= 1
            (case / f"data/{folder}/{name}.nii.gz").write_bytes(gzip.compress(bytes(raw), mtime=0))
        listed.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    case.described(training=listed, numTraining=len(listed))


def _removed(case: Case) -> None:
    listed = json.loads((case / "data/dataset.json").read_text())["training"]
    gone = next(iter(case.held_out()))
    listed = [one for one in listed if gone not in one["image"]]
    case.described(training=listed, numTraining=len(listed))


def _held_out(change: Callable[[Case], None], verb: Callable[[Case], int | None], case: Case) -> str | None:
    """Who is scored afterwards was never trained on."""
    before = case.held_out()
    known = {f"tiny_0{number}" for number in range(4)}
    change(case)
    if verb(case) != 0:
        return None
    leaked = (case.held_out() & known) - before
    return f"scored as held out, but trained on: {sorted(leaked)}" if leaked else None


def _labels(*names: str) -> Callable[[Case], None]:
    return lambda case: case.described(labels={str(value): name for value, name in enumerate(names)})


def _modality(case: Case) -> None:
    case.described(modality={"0": "FLAIR"})


def _replaced(kind: str, case: Case) -> None:
    """Other content of the same size and time."""
    for file in (case / f"data/{kind}Tr").iterdir():
        before, raw = file.stat(), bytearray(gzip.decompress(file.read_bytes()))
        raw[-4:] = raw[-8:-4] if kind == "images" else b"\1\1\1\1"
        raw[-1] ^= 1
        file.write_bytes(gzip.compress(bytes(raw), 9, mtime=0).ljust(before.st_size, b"\0")[: before.st_size])
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _root(case: Case) -> None:
    """Another data set, whose cases have the same names."""
    shutil.copytree(case / "data", case / "other")
    for folder in ("imagesTr", "labelsTr"):
        files = sorted((case / "other" / folder).iterdir())
        contents = [file.read_bytes() for file in files]
        for file, content in zip(files, contents[1:] + contents[:1], strict=True):
            file.write_bytes(content)
    for name in ("tiny.yaml", "run/config.yaml"):
        text = (case / name).read_text()
        for old in (str(case / "data"), "root: data"):
            text = text.replace(old, old.removesuffix("data") + "other")
        (case / name).write_text(text)


def _accepted(change: Callable[[Case], None], verb: Callable[[Case], int | None], case: Case) -> str | None:
    """What has changed is said, before anything is written."""
    change(case)
    before = state(case / "run")
    if verb(case) == 0:
        return "accepted"
    return None if state(case / "run") == before else "refused after something was written"


def _predicts_on(change: Callable[[Case], None], case: Case) -> str | None:
    """A finished run predicts, whatever became of the data that it was trained on."""
    change(case)
    _go_on(case)
    return None if case.predict("data/imagesTs", "new").code == 0 else "the finished run does not predict any more"


def _bit(name: str, verb: str, case: Case) -> str | None:
    """One in the largest file, at one of five places: refused, or without effect."""
    plain = case.results(verb)
    for tenth in (2, 3, 5, 7, 8):
        case.renewed()
        file = max(case.place.glob(name), key=lambda one: (one.stat().st_size, one.name))
        content = bytearray(file.read_bytes())
        content[len(content) * tenth // 10 // 4 * 4 + 3] ^= 64  # of a float, the exponent's highest
        file.write_bytes(content)
        found = case.results(verb)
        if found and differences(found, plain):
            return "exit 0, and other results"
    return None


CHANGES: dict[str, Callable[[Case], None]] = {
    "a class added": _labels("background", "organ", "lesion", "vein"),
    "a class renamed": _labels("background", "organ", "cyst"),
    "classes swapped": _labels("background", "lesion", "organ"),
    "another modality": _modality,
    "labels replaced": partial(_replaced, "labels"),
    "images replaced": partial(_replaced, "images"),
    "another data.root": _root,
}
FAULTS = (
    Fault("B", "a case added: trained-on cases are held out", partial(_held_out, _added, _go_on), ("run",), slow=True),
    Fault("B", "a case removed: the same", partial(_held_out, _removed, _go_on), ("run",), slow=True),
    Fault("B", "a case removed: the same in evaluate", partial(_held_out, _removed, _evaluate), ("run",)),
    *(Fault("B", f"{name}: accepted in train", partial(_accepted, change, _go_on), ("run",), slow=True)
      for name, change in CHANGES.items()),
    *(Fault("B", f"{name}: accepted in evaluate", partial(_accepted, change, _evaluate), ("run",))
      for name, change in CHANGES.items()),
    Fault("B", "classes changed: the finished run does not predict", partial(_predicts_on, CHANGES["a class added"]),
          ("run",), slow=True),
    Fault("B", "a bit of model.pt: other masks", partial(_bit, "run/models/model.pt", "predict"), ("run",), slow=True),
    Fault("B", "a bit of the cache: other weights", partial(_bit, "half/cache/*.npy", "go on"), ("half",), slow=True),
)  # fmt: skip
