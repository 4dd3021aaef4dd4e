"""Damaged files of every kind that medseg reads, given to the verb that reads them: a result comes, or a message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.campaign import mutate
from tests.campaign.inputs import MAKERS, Home
from tests.campaign.mutate import Mutate, damaged, in_header, unpacked
from tests.campaign.rows import Row

SECTION = "mutants"
A_MINUTE = 165  # of a time that is given; 6.5 minutes, the default, are more than 1,000
FULL = 12_000
NIFTI = 352  # bytes of its header


@dataclass(frozen=True)
class Target:
    """A kind of file, what damages it, and who reads it (named once more, a verb is drawn more often)."""

    what: str
    patterns: tuple[str, ...]
    mutations: tuple[Mutate, ...]
    verbs: tuple[str, ...]
    rare: bool = False  # takes seconds: tried in each third round only


JSON, YAML = (mutate.json_file,), (mutate.yaml_file,)
HEADER = (in_header(0, NIFTI), in_header(0, NIFTI), damaged)
VOLUME = (unpacked(in_header(0, NIFTI)), unpacked(in_header(0, NIFTI)), unpacked(damaged), damaged)
TARGETS = (
    Target("configs (YAML)", ("tiny.yaml",), YAML, ("validate", "validate", "validate", "bundle", "dry-run")),
    Target("config.yaml of a run", ("run/config.yaml",), YAML, ("predict", "evaluate")),
    Target("dataset.json", ("data/dataset.json",), JSON, ("check", "check", "bundle", "dry-run")),
    Target("dataset.json of pictures", ("flat/dataset.json",), JSON, ("check pictures",)),
    Target("a list of cases (CSV)", ("cases.csv",), (mutate.table,), ("check table",)),
    Target("splits.json", ("folds/splits.json",), JSON, ("fold dry", "postprocess")),
    Target("data.json of a run", ("run/data.json",), JSON, ("predict", "evaluate")),
    Target("split.json, files.json", ("run/split.json", "run/files.json"), JSON, ("evaluate",)),
    Target("sidecars of masks", ("masks/*.json", "masks/medseg/*.json"), JSON, ("predict again",)),
    Target("postprocessing.json", ("folds/fold_0/postprocessing.json",), JSON, ("predict cleaned", "evaluate folds")),
    Target("what evaluations keep", ("folds/eval/*.json", "folds/eval/masks/medseg/*.json",
                                     "folds/fold_*/eval/masks*/**/*.json"), JSON, ("postprocess", "evaluate folds")),
    Target("what a training keeps", ("half/*.json", "half/cache/*.json"), JSON, ("go on",), rare=True),
    Target("history.csv", ("half/history.csv",), (mutate.table,), ("go on",), rare=True),
    Target("NIfTI, .nii.gz", ("scans/packed.nii.gz",), VOLUME, ("predict scans",)),
    Target("NIfTI, .nii", ("scans/plain.nii",), HEADER, ("predict scans",)),
    Target("images and labels (NIfTI)", ("data/imagesTr/*", "data/labelsTr/*"), VOLUME,
           (*["check"] * 5, "dry-run", "train")),
    Target("masks that are scored (NIfTI)", ("data/labelsTr/*",), VOLUME, ("score",)),
    Target("masks of a run (NIfTI)", ("folds/fold_0/eval/masks*/*.nii.gz",), VOLUME, ("evaluate folds", "postprocess")),
    Target("NRRD, MetaImage", ("scans/*.nrrd", "scans/*.mh?"), (mutate.text_header,), ("predict scans",)),
    Target("DICOM series", ("series/case/*",), (mutate.dicom, mutate.dicom, damaged), ("predict series",)),
    Target("PNG", ("flat/imagesTs/*", "pictures/*.png"), (mutate.png, mutate.png, damaged),
           ("predict pictures", "predict other pictures")),
    Target("PNG, images and labels", ("flat/imagesTr/*", "flat/labelsTr/*"), (mutate.png, mutate.png, damaged),
           ("check pictures", "check pictures", "train pictures")),
    Target("TIFF", ("pictures/*.tif",), (mutate.tiff, mutate.tiff, damaged), ("predict other pictures",)),
    Target("model.pt", ("run/models/model.pt",), (mutate.weights,), ("predict", "predict", "evaluate")),
    Target("checkpoint.pt", ("half/models/checkpoint.pt",), (mutate.weights,), ("go on",)),
    Target("arrays of the cache", ("half/cache/*.npy",), (damaged, in_header(0, 128)), ("go on",), rare=True),
)  # fmt: skip

ROUNDS = [target for number in range(3) for target in TARGETS if number == 0 or not target.rare]


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    home = Home(folder, list(MAKERS))
    tries = FULL if full else max(1, round(A_MINUTE * minutes))
    found: dict[str, list[str | None]] = {target.what: [] for target in TARGETS}
    for number in range(tries):
        target = ROUNDS[number % len(ROUNDS)]
        if any(home.found(pattern) for pattern in target.patterns):  # an older tree has no such files
            found[target.what].append(tried(home, seed, number))
    return [Row.of(SECTION, what, faults) for what, faults in found.items() if faults]


def tried(home: Home, seed: int, number: int) -> str | None:
    """What went wrong with one mutant, which its two numbers stand for; None: nothing."""
    target = ROUNDS[number % len(ROUNDS)]
    random = Random(f"{seed}-{number}")
    name = random.choice(sorted({name for pattern in target.patterns for name in home.found(pattern)}))
    verb = random.choice(target.verbs)
    content = _mutant(random, target, home, name)
    place = home.fresh(verb, name)
    (place / name).write_bytes(content)
    outcome = home.ask(verb)
    fault = outcome.fault
    if fault is None and (place / "executed").exists():
        fault = "text of the file was executed"
    if fault is None and outcome.code == 0 and verb.startswith("predict") and not _masks(place):
        fault = "exit 0 without a mask"
    return None if fault is None else f"seed {seed}, number {number}: {verb}, {name}: {fault}"


def _mutant(random: Random, target: Target, home: Home, name: str) -> bytes:
    content = home.content(name)
    if random.random() < 0.08:  # another format under this name
        return home.content(random.choice(home.found("*.*") + home.found("*/*.*") + home.found("run/models/*")))
    for _ in range(20):
        if (changed := random.choice(target.mutations)(random, content)) != content:
            return changed
    return b""


def _masks(place: Path) -> bool:
    return any(file.suffix in (".gz", ".png", ".nii", ".tif", ".nrrd", ".mha", ".mhd")
               for folder in ("new", "masks") for file in (place / folder).glob("*"))  # fmt: skip
