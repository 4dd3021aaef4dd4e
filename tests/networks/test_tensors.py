"""A file of weights is tensors, or it is said what else it is, and never as PyTorch does: with advice to execute it."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import ConfigError, RunError
from medseg.engine.resume import load_safely, load_weights
from medseg.networks.pretrained import load_pretrained
from medseg.networks.tensors import Unreadable, read_tensors

NETWORK = torch.nn.Linear(2, 2)


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(NETWORK, torch.zeros(1, 2)), file)
    return file.getvalue()


def archive(compression: int = zipfile.ZIP_STORED, **files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in files.items():
            made.writestr(f"archive/{name.replace('_', '.')}", content)
    return file.getvalue()


def old_archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        made.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


def safetensors() -> bytes:
    description = json.dumps({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    return len(description).to_bytes(8, "little") + description


GOOD = saved(NETWORK.state_dict())
BEFORE = saved(NETWORK.state_dict(), _use_new_zipfile_serialization=False)
OBJECT = "more than tensors and plain types"
DAMAGED = "damaged ("
KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "one letter": (lambda: b"x", DAMAGED),
    "empty": (lambda: b"", DAMAGED),
    "text": (lambda: b"weights", DAMAGED),
    "JSON": (lambda: b'{"weight": [1, 2]}', DAMAGED),
    "zeros": (lambda: bytes(1000), DAMAGED),
    "half": (lambda: GOOD[: len(GOOD) // 2], DAMAGED),
    "half of an old one": (lambda: BEFORE[: len(BEFORE) // 2], DAMAGED),
    "another pickle inside": (lambda: archive(data_pkl=b"\x80\x02}q\x00K"), DAMAGED),
    "web page": (lambda: b"\n<!DOCTYPE html><html></html>", "a web page"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "pickle": (lambda: pickle.dumps({"a": 1}), OBJECT),
    "network": (lambda: saved(NETWORK), OBJECT),
    "number of NumPy": (lambda: saved({"a": np.float64(1)}), OBJECT),
    "old network": (lambda: saved(NETWORK, _use_new_zipfile_serialization=False), OBJECT),
    "TorchScript": (scripted, "a TorchScript archive"),
    "ZIP": (lambda: archive(notes=b"x"), "a ZIP archive, but none of PyTorch"),
    "compressed ZIP": (lambda: archive(zipfile.ZIP_DEFLATED, data_pkl=bytes(10**6)), "an archive that is compressed"),
    "gzip": (lambda: gzip.compress(GOOD), "compressed by gzip"),
    "safetensors": (safetensors, "a file of safetensors"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(8), "a file of HDF5"),
    "tar": (old_archive, "before 0.4"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A file that is no file of tensors, and what is to be said of it."""
    make, words = KINDS[request.param]
    file = tmp_path / "file.pt"
    file.write_bytes(make())
    return file, words


def check_words(error: BaseException, words: str) -> None:
    assert words in str(error)
    for advice in ("weights_only", "safe_globals", "PyTorch 2.6", "likely succeed", "Traceback"):
        assert advice not in str(error)
    assert len(str(error)) < 500


def test_it_is_said_what_it_is_and_what_to_do(kind: tuple[Path, str]) -> None:
    file, words = kind
    with pytest.raises(RunError) as of_a_run:
        load_safely(file)
    check_words(of_a_run.value, words)
    with pytest.raises(ConfigError, match="is not a file of tensors") as of_a_user:
        load_pretrained(NETWORK, file)
    check_words(of_a_user.value, words)
    for caught in (of_a_run, of_a_user):
        assert all(problem.remedy for problem in caught.value.problems)


def test_what_pytorch_saves_is_read(tmp_path: Path) -> None:
    for name, content in {"new": GOOD, "old": BEFORE}.items():
        (tmp_path / name).write_bytes(content)
        assert torch.equal(read_tensors(tmp_path / name)["weight"], NETWORK.weight)


@pytest.mark.parametrize("content", [GOOD, BEFORE], ids=["new", "old"])
def test_of_drawn_damages_each_is_refused_or_harmless(content: bytes, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    file, refused = tmp_path / "file.pt", 0
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(changed))] = random.integers(256)
        file.write_bytes(changed[: random.integers(len(changed) + 1)] if random.random() < 0.3 else changed)
        try:
            read_tensors(file)
        except Unreadable as error:
            refused += 1
            check_words(error, "")
    assert refused > 40


def test_an_unreadable_file_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.pt").write_bytes(GOOD)

    def refuses(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "file.pt")

    monkeypatch.setattr(torch, "load", refuses)
    with pytest.raises(PermissionError):
        read_tensors(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "holds a list, not named tensors"),
        ({1: torch.zeros(1)}, "not named tensors"),
        ({"weight": 1.0, "bias": None}, "holds a float as 'weight'"),
        ({"network": {}, "optimizer": {}}, "is a checkpoint, not weights alone"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"weight is \(3, 2\), the network's is \(2, 2\)"),
    ],
)
def test_weights_of_something_else(content: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(saved(content))
    with pytest.raises(RunError, match=words):
        load_weights(NETWORK, tmp_path / "model.pt")
