"""`medseg postprocess` is the only writer of the folder of folds, and of each fold; who only reads is not kept out."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import RunError
from medseg.core.files import WRITING
from medseg.core.lock import LOCK
from medseg.workflows.postprocess import postprocess
from tests.processes import writer_of
from tests.tiny import medseg, train_arguments
from tests.workflows.test_postprocess import folder_of_folds, stray_lesions

deciding = import_module("medseg.workflows.postprocess")  # the name is that of the function in the package


@pytest.mark.parametrize("where", ["", "fold_1"])
def test_nothing_is_decided_while_another_process_writes_there(where: str, tmp_path: Path) -> None:
    run = folder_of_folds(tmp_path, stray_lesions)
    with writer_of(run / where), pytest.raises(RunError, match=r"is writing there\n    -> wait for it"):
        postprocess(run)
    assert not [*run.rglob("postprocessing.json")]
    postprocess(run)
    assert not [*run.rglob(LOCK), *run.rglob(f"{WRITING}*")]


@pytest.mark.slow
def test_no_fold_is_trained_while_it_is_decided_and_readers_are_not_kept_out(
    crossed: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, images = Path(shutil.copytree(crossed[0], tmp_path / "run")), crossed[1] / "imagesTr"
    weights = (run / "fold_1" / "models" / "model.pt").read_bytes()
    others = {
        "train": [*train_arguments(crossed[1], run, data__folds=2), "--fold", "1", "--restart"],
        "predict": ["predict", "--run", run, "--input", images, "--output", tmp_path / "masks"],
        "evaluate": ["evaluate", "--run", run / "fold_1", "--output", tmp_path / "scores"],
    }
    said = {}
    candidates = deciding.candidates

    def meanwhile(*arguments: Any) -> Any:
        processes = {name: medseg(*words, cwd=tmp_path) for name, words in others.items()}
        said.update({name: process.finish() for name, process in processes.items()})
        return candidates(*arguments)

    monkeypatch.setattr(deciding, "candidates", meanwhile)
    postprocess(run)
    assert {name: code for name, (code, *_) in said.items()} == {"train": 2, "predict": 0, "evaluate": 0}, said
    assert f"process {os.getpid()} on" in said["train"][2]
    assert "fold_1: " in said["train"][2]
    assert (run / "fold_1" / "models" / "model.pt").read_bytes() == weights
    assert not [*run.rglob(LOCK)]
