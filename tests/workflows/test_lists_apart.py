"""Official lists that share images: named before anything is trained, and never scored as held out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.bundle.facts import describe_data
from medseg.config.schema import Config
from medseg.core.errors import DataError, MedsegError, RunError
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.split import decide_split, find_split
from medseg.runs.changes import held_out
from medseg.runs.folder import open_run
from medseg.runs.members import held_out_by_all
from medseg.workflows.check import check
from medseg.workflows.plan import plan
from medseg.workflows.train import train
from tests.tiny import tiny_config

CLASSES = {"background": 0, "thing": 1}
KEYS = {"network__spatial_dims": 2, "training__patch_size": [16, 16], "data__classes": CLASSES}


class Lists:
    """A folder of VOC's form whose lists are drawn; some pictures are links to others."""

    def __init__(self, root: Path, draws: np.random.Generator, *, share: bool) -> None:
        self.root = root
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True)
        names = draws.permutation([f"p{number}" for number in range(8)]).tolist()
        for name in names:
            self.picture(name, draws.integers(256, size=(16, 16, 3)))
        training, validation, self.shared = names[:4], names[4:6], []
        for name in draws.choice(training, draws.integers(1, 4), replace=False).tolist() if share else ():
            self.shared.append(self.linked(name, draws.choice(["itself", "symbolic", "hard"])))
        validation = draws.permutation([*validation[: draws.integers(0 if share else 1, 3)], *self.shared]).tolist()
        self.apart = [name for name in validation if name not in self.shared]
        for file, some in (("train", training), ("val", validation), ("trainval", {*training, *validation})):
            (root / "ImageSets" / "Segmentation" / f"{file}.txt").write_text("\n".join(some) + "\n")
        self.config = tiny_config(root, **KEYS)

    def picture(self, name: str, pixels: np.ndarray) -> None:
        Image.fromarray(pixels.astype(np.uint8)).save(self.root / "JPEGImages" / f"{name}.jpg")
        self.mask(name)

    def mask(self, name: str) -> None:
        mask = np.zeros((16, 16), np.uint8)
        mask[4:9, 3:12] = 1
        Image.fromarray(mask).save(self.root / "SegmentationClass" / f"{name}.png")

    def linked(self, name: str, how: str) -> str:
        """The same picture as the list to validate on names it."""
        if how == "itself":
            return name
        folder = self.root / "JPEGImages"
        link = os.link if how == "hard" else os.symlink
        link(folder / f"{name}.jpg", folder / f"{how}_{name}.jpg")
        self.mask(f"{how}_{name}")
        return f"{how}_{name}"

    def with_lists(self, training: str, validation: str) -> Config:
        return tiny_config(self.root, **KEYS, data__training_split=training, data__validation_split=validation)


@pytest.mark.parametrize("seed", range(4))
def test_they_are_named_before_anything_is_trained(seed: int, tmp_path: Path) -> None:
    lists = Lists(tmp_path / "data", np.random.default_rng(seed), share=True)
    root, run = lists.root, tmp_path / "run"
    dataset = read_dataset(root)
    rules = {"labels": describe_data(lists.config, dataset).labels}
    asked = {
        "train": lambda: train(lists.config, run=run),
        "train --restart": lambda: train(lists.config, run=run, restart=True),
        "train --dry-run": lambda: train(lists.config, run=run, dry_run=True),
        "plan": lambda: plan(root, output=tmp_path / "plan.yaml", overrides=[f"data.classes={CLASSES}"]),
        "MONAI's own way": lambda: find_split(dataset, tmp_path / "split.json", keep=True, **rules),
    }
    for verb, call in asked.items():
        with pytest.raises(DataError, match=f"names {len(lists.shared)} of the .* to validate on") as told:
            call()
        (problem,) = told.value.problems
        assert all(name in problem.what for name in lists.shared), verb
        assert "take those out of one of the lists" in problem.remedy
        assert not any(name in problem.what.partition(": ")[2].split(", ") for name in lists.apart), verb
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing is written"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [True, False])
def test_check_lists_each(seed: int, share: bool, tmp_path: Path) -> None:
    lists = Lists(tmp_path, np.random.default_rng(seed), share=share)
    (tmp_path / "ImageSets/Segmentation/test.txt").write_text(lists.apart[0] if lists.apart else "p0")
    found = check(tmp_path, card="voc2012", progress=False).findings
    in_two = [one for one in found if one.kind == "image in two lists"]
    assert sorted(one.case for one in in_two if one.level == "error") == sorted(lists.shared)
    if lists.apart:
        assert [(one.case, one.detail) for one in in_two if one.level == "warning"] == [
            (lists.apart[0], "in val and in test")
        ]


@pytest.mark.parametrize("seed", range(3))
def test_lists_that_share_none_are_trained_on(seed: int, tmp_path: Path) -> None:
    """As is one list inside the other that nobody asks for, and a fold, which asks no list."""
    lists = Lists(tmp_path / "data", np.random.default_rng(seed), share=False)
    dataset = read_dataset(lists.root)
    opened = open_run(lists.config, tmp_path / "run", dataset)
    assert sorted(opened.split.validation) == sorted(lists.apart)
    with pytest.raises(DataError, match="'trainval' to train on names"):
        open_run(lists.with_lists("trainval", "val"), tmp_path / "other", dataset)
    config = lists.with_lists("trainval", "val")
    fold = config.model_copy(update={"data": config.data.model_copy(update={"fold": 0, "folds": 2})})
    assert open_run(fold, tmp_path / "fold", dataset).split.validation


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_of_a_run_that_was_trained_so_what_is_apart_is_scored(seed: int, old: bool, tmp_path: Path) -> None:
    """Before that was asked, also before there was a `split.json`: at the end, and where it goes on."""
    lists = Lists(tmp_path / "data", np.random.default_rng(seed), share=True)
    dataset = read_dataset(lists.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medseg.data.splits.split.check_apart", lambda *_: None)
        run = open_run(lists.config, tmp_path / "run", dataset).run
    run.weights.parent.mkdir(exist_ok=True)
    run.weights.touch()
    if old:
        (run.folder / "split.json").unlink()
        (run.folder / "files.json").unlink()
    again = [lambda: held_out(run, dataset).cases, lambda: held_out_by_all([run, run], dataset)]
    for scored in again:
        if lists.apart:
            assert [case.name for case in scored()] == sorted(lists.apart)
        else:
            with pytest.raises(RunError, match="no case is"):
                scored()
    if not lists.apart:
        with pytest.raises(MedsegError, match="to validate on"):
            open_run(lists.config, tmp_path / "run", dataset)
    else:
        assert open_run(lists.config, tmp_path / "run", dataset).split == decide_split(dataset, labels=run.facts.labels)
