"""What costs time is done once: reading a data set, compiling a bundle, building a network to count it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.bundle import compile as compiler
from medseg.data.cases import dataset
from medseg.networks.analysis.pretended import Pretended
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import tiny_config

COMPILERS = ("compile_training", "compile_evaluation", "compile_inference")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counted: Counter[str] = Counter()

    def count(home: Any, name: str) -> None:
        function = getattr(home, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(home, name, counting)

    for name in COMPILERS:
        count(compiler, name)
    count(dataset, "find_dataset")
    count(Pretended, "built")
    return counted


def test_a_training(tiny_msd: Callable[..., Path], tmp_path: Path, calls: Counter[str]) -> None:
    config = tiny_config(tiny_msd(), training__max_epochs=1, training__iterations_per_epoch=1)
    train(config, run=tmp_path / "run")
    assert calls == dict.fromkeys(["find_dataset", "built", *COMPILERS], 1)


def test_an_evaluation_and_a_prediction(trained: tuple[Path, Path], tmp_path: Path, calls: Counter[str]) -> None:
    run, root = trained
    evaluate(run, output=tmp_path / "scores")
    assert calls == {"find_dataset": 1, "compile_evaluation": 1}
    calls.clear()
    predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert calls == {"compile_inference": 1}
