"""Small valid inputs of every kind, and runs on them, made once: what the parts of the campaign damage copies of.

Configs hold absolute paths, so a copy lies where the original was made: `Home.fresh` puts it there.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
import tifffile
from PIL import Image

from tests.campaign.entry import Outcome, medseg
from tests.conftest import write_msd
from tests.dicom import write_series

KEYS = """
network: {widths: [4, 8], spatial_dims: DIMS}
training: {patch_size: PATCH, max_epochs: 2, iterations_per_epoch: 1, batch_size: 2}
inference: {keep_largest_component: [lesion]}
evaluation: {lesions: [lesion]}
"""
VOLUMES = "name: tiny\ndescription: 'for the campaign'\ndata: {root: data, validation: 0.25, folds: 2}" + KEYS
PICTURES = "name: flat\ndata: {root: flat, validation: 0.25}" + KEYS
VERBS = {
    "validate": ["validate", "tiny.yaml"],
    "bundle": ["bundle", "--config", "tiny.yaml", "--output", "compiled"],
    "dry-run": ["train", "--config", "tiny.yaml", "--run", "new", "--dry-run"],
    "check": ["check", "data"],
    "plan": ["plan", "data", "--output", "plan.yaml", "--minutes", "0.1"],
    "train": ["train", "--config", "tiny.yaml", "--run", "new"],
    "go on": ["train", "--config", "tiny.yaml", "--run", "half"],
    "again": ["train", "--config", "tiny.yaml", "--run", "run"],
    "fold": ["train", "--config", "tiny.yaml", "--run", "folds", "--fold", "1"],
    "fold dry": ["train", "--config", "tiny.yaml", "--run", "folds", "--fold", "1", "--dry-run"],
    "folds again": ["train", "--config", "tiny.yaml", "--run", "folds", "--fold", "all"],
    "from": ["train", "--config", "tiny.yaml", "--run", "new", "--from", "run", "--dry-run"],
    "evaluate": ["evaluate", "--run", "run"],
    "evaluate folds": ["evaluate", "--run", "folds/fold_0"],
    "evaluate both": ["evaluate", *("--run", "folds/fold_0"), *("--run", "folds/fold_1"), "--data", "data",
                      "--output", "new"],
    "postprocess": ["postprocess", "--run", "folds"],
    "predict": ["predict", "--run", "run", "--input", "data/imagesTs", "--output", "new"],
    "predict cleaned": ["predict", "--run", "folds/fold_0", "--input", "data/imagesTs", "--output", "new"],
    "predict again": ["predict", "--run", "run", "--input", "data/imagesTs", "--output", "masks"],
    "predict scans": ["predict", "--run", "run", "--input", "scans", "--output", "new"],
    "predict series": ["predict", "--run", "run", "--input", "series", "--output", "new"],
    "predict pictures": ["predict", "--run", "flat_run", "--input", "flat/imagesTs", "--output", "new"],
    "predict other pictures": ["predict", "--run", "flat_run", "--input", "pictures", "--output", "new"],
    "check pictures": ["check", "flat"],
    "train pictures": ["train", "--config", "flat.yaml", "--run", "new"],
    "check table": ["check", "cases.csv"],
    "score": ["score", "--prediction", "data/labelsTr", "--truth", "truth", "--dataset", "task04_hippocampus"],
}  # fmt: skip
"""What is asked of medseg -> its arguments, in `Home.place`."""
FOLDERS = ("images", "labels")


class Home:
    """A folder with inputs and runs, of which copies come and go.

    Args:
        folder: to make it in.
        parts: those of `MAKERS` that are needed.
    """

    def __init__(self, folder: Path, parts: Sequence[str]) -> None:
        self.place, self._kept = folder / "home", folder / "kept"
        if self._kept.exists():
            return
        self.place.mkdir()
        for part in parts:
            MAKERS[part](self.place)
        self.place.rename(self._kept)

    def fresh(self, verb: str, *names: str) -> Path:
        """The folder as it was made: what the verb is given, the data, and what else is named."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        for top in {Path(name).parts[0] for name in (*VERBS[verb], *names, "data", "tiny.yaml")}:
            if (kept := self._kept / top).is_dir():
                shutil.copytree(kept, self.place / top)
            elif kept.exists():
                shutil.copy2(kept, self.place / top)
        return self.place

    def found(self, pattern: str) -> list[str]:
        """Names of the files that fit, from the folder on."""
        return sorted(str(file.relative_to(self._kept)) for file in self._kept.glob(pattern) if file.is_file())

    def content(self, name: str) -> bytes:
        return (self._kept / name).read_bytes()

    def ask(self, verb: str, **options: object) -> Outcome:
        """What medseg does in the copy."""
        return medseg(*VERBS[verb], cwd=self.place, **options)  # type: ignore[arg-type]


def _done(home: Path, *arguments: str, code: int = 0) -> None:
    outcome = medseg(*arguments, cwd=home)
    if outcome.code != code:
        raise RuntimeError(f"medseg {' '.join(arguments)}: exit {outcome.code}\n{outcome.err}")


def _data(home: Path) -> None:
    root = write_msd(home / "data", cases=4, unlabelled=1)
    (home / "tiny.yaml").write_text(VOLUMES.replace("PATCH", "[16, 16, 16]").replace("DIMS", "3"))
    (home / "scans").mkdir()
    scan = root / "imagesTs" / "tiny_04.nii.gz"
    image = nib.load(scan)
    nib.save(image, home / "scans" / "plain.nii")
    shutil.copy(scan, home / "scans" / "packed.nii.gz")
    read = SimpleITK.GetImageFromArray(np.asarray(image.dataobj).T)  # without the keys of its NIfTI header
    read.SetSpacing((1.0, 1.0, 2.0))
    for name in ("one.nrrd", "two.mha", "three.mhd"):
        SimpleITK.WriteImage(read, str(home / "scans" / name))
    write_series(home / "series" / "case", np.asarray(image.dataobj).T[:6], modality="MR")
    shutil.copytree(root / "labelsTr", home / "truth")
    with (home / "cases.csv").open("w", newline="") as file:
        lines = [
            (f"c{n}", f"p{n}", *(f"data/{kind}Tr/tiny_0{n}.nii.gz" for kind in ("images", "labels"))) for n in range(4)
        ]
        csv.writer(file).writerows([("case", "patient", "image", "label"), *lines])


def _run(home: Path) -> None:
    _done(home, *VERBS["train"][:-1], "run")
    _done(home, *VERBS["predict"][:-1], "masks")


def _half(home: Path) -> None:
    """A run that ended when its first checkpoint was there."""

    def end_early() -> None:
        replace = os.replace

        def last(source: str, target: str) -> None:
            replace(source, target)
            if os.path.basename(target) == "checkpoint.pt":
                os._exit(9)

        os.replace = last  # type: ignore[assignment]

    outcome = medseg(*VERBS["go on"], cwd=home, before=end_early)
    if outcome.code != 9:
        raise RuntimeError(f"the run was to end early\n{outcome.err}")


def _folds(home: Path) -> None:
    _done(home, *VERBS["folds again"])


def _flat(home: Path) -> None:
    """Pictures in nnU-Net's layout, and a run on them; the same picture as TIFF and in other modes."""
    random = np.random.default_rng(0)
    root = home / "flat"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        label = (np.add.outer(np.arange(24), np.arange(28)) // (16 + number)).clip(0, 2).astype(np.uint8)
        pixels = (label * 80 + random.integers(0, 20, label.shape)).astype(np.uint8)
        Image.fromarray(pixels).save(root / ("imagesTr" if number < 4 else "imagesTs") / f"p{number}_0000.png")
        if number < 4:
            Image.fromarray(label).save(root / "labelsTr" / f"p{number}.png")
    labels = {"background": 0, "organ": 1, "lesion": 2}
    description = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": 4, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(description))
    (home / "pictures").mkdir()
    tifffile.imwrite(home / "pictures" / "plain.tif", pixels)
    tifffile.imwrite(home / "pictures" / "deep.tif", pixels.astype(np.uint16) * 200, compression="zlib", predictor=True)
    Image.fromarray(pixels).save(home / "pictures" / "grey.png")
    Image.fromarray(pixels).convert("P").save(home / "pictures" / "palette.png")
    (home / "flat.yaml").write_text(PICTURES.replace("PATCH", "[16, 16]").replace("DIMS", "2"))
    _done(home, "train", "--config", "flat.yaml", "--run", "flat_run")


MAKERS = {"data": _data, "run": _run, "half": _half, "folds": _folds, "flat": _flat}
