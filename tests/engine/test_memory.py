"""Freed memory is used again without new pages from the system; a full GPU is an error that says what to do."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.core.errors import PartialFailure
from medseg.engine.evaluator import SegmentationEvaluator
from medseg.engine.memory import OutOfMemory
from medseg.engine.trainer import SegmentationTrainer
from medseg.inference import postprocess
from medseg.networks.unet import UNet
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import tiny_config

FULL = (  # PyTorch's words
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.18 GiB of which 11.50 GiB is "
    "free. Including non-PyTorch memory, this process has 67.67 GiB memory in use. Of the allocated memory 64.00 GiB "
    "is allocated by PyTorch, and 2.87 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)

# Page faults of filling 64 MiB twenty times, each time in a block of its own.
COUNT = """
import resource
import torch
from medseg.engine.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(2**24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
usual = faults()
done = keep_freed_memory()
faults()  # the heap grows to what is needed
print(done, usual, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_fewer_page_faults() -> None:
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    done, usual, kept = run.stdout.split()
    if done == "False":
        pytest.skip("no glibc")
    assert int(kept) < int(usual) / 4


def fill_the_gpu(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError(FULL)


def test_a_step_that_does_not_fit_says_what_to_make_smaller(tiny_msd, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(SegmentationTrainer, "_step", fill_the_gpu)
    with pytest.raises(OutOfMemory) as caught:
        train(tiny_config(tiny_msd(cases=4)), run=tmp_path / "run")
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "79.18 GiB of which 11.50 GiB is free" in message
    assert "make batch_size or patch_size smaller" in message
    assert "PYTORCH_CUDA_ALLOC_CONF" not in message


def test_a_case_that_does_not_fit_fails_alone_and_says_why(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, root = trained
    forward, calls = UNet.forward, []

    def once(self: UNet, x: torch.Tensor) -> Any:
        calls.append(len(x))
        return fill_the_gpu() if len(calls) == 1 else forward(self, x)

    monkeypatch.setattr(UNet, "forward", once)
    check_one_failed(run, root / "imagesTr", tmp_path / "masks")
    monkeypatch.undo()

    to_native, calls[:] = postprocess.to_native, []

    def once_more(*arguments: Any) -> Any:  # inside MONAI's Compose, which wraps every error
        calls.append(1)
        return fill_the_gpu() if len(calls) == 1 else to_native(*arguments)

    monkeypatch.setattr(postprocess, "to_native", once_more)
    check_one_failed(run, root / "imagesTr", tmp_path / "others")


def check_one_failed(run: Path, images: Path, output: Path) -> None:
    with pytest.raises(PartialFailure):
        predict(run, input=images, output=output)
    [failed] = csv.DictReader((output / "medseg" / "failed.csv").open())
    assert "lower window_batch" in failed["reason"]
    assert "PYTORCH_CUDA_ALLOC_CONF" not in failed["reason"]
    assert len(list(output.glob("*.nii.gz"))) == len(list(images.iterdir())) - 1


def test_a_validation_that_does_not_fit_ends_the_training(tiny_msd, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(SegmentationEvaluator, "predict", fill_the_gpu)
    with pytest.raises(OutOfMemory, match="lower window_batch"):
        train(tiny_config(tiny_msd(cases=4)), run=tmp_path / "run")
