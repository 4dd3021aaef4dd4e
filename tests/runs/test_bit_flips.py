"""A bit that has changed in what a run keeps is found before anything is made of it: of those drawn here, each."""

from __future__ import annotations

import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.facts import config_dataset
from medseg.core.errors import RunError
from medseg.core.foreign import explained
from medseg.core.sealed import sealed, unsealed
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.split import read_split
from medseg.data.training.cache import CachedDataset, known_digests
from medseg.engine.resume import load_safely, load_weights, save_atomically
from medseg.engine.seal import END_SIZE, LENGTH, is_sound
from medseg.runs.decision import SCHEMA, Decision, read_decision
from medseg.runs.disk import cache_folder, run_cache
from medseg.runs.files import read_files
from medseg.runs.folder import read_run
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from tests.workflows.test_changes import replaced

FLIPS = 20


def flipped(file: Path, seed: int, first: int = 0) -> Iterator[int]:
    """The file with one bit another, so many times; it is as before at the end. Gives the number of the bit."""
    whole = file.read_bytes()
    draws = np.random.default_rng(seed).integers(first * 8, len(whole) * 8, FLIPS)
    for bit in map(int, draws):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        yield bit
    file.write_bytes(whole)


def notices(read: Callable[[], object], *errors: type[Exception]) -> bool:
    """Whether it raises one of them."""
    try:
        read()
    except errors:
        return True
    return False


@pytest.fixture
def mine(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pt", "checkpoint.pt"])
def test_weights(mine: Path, name: str) -> None:
    file = mine / "models" / name
    load_safely(file)
    for seed, first in ((0, 0), (1, file.stat().st_size - END_SIZE - LENGTH)):  # anywhere, and in the digest itself
        for bit in flipped(file, seed, first):
            assert notices(lambda: load_safely(file), RunError), f"bit {bit} of {name} went unnoticed"
    load_safely(file)


def test_every_bit_of_a_small_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "small.pt"
    save_atomically({"weight": torch.ones(1)}, file)
    whole = file.read_bytes()
    assert is_sound(file)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        assert is_sound(file) is False, place
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        assert not is_sound(file)


def test_everybody_reads_sealed_weights_and_sealed_ones_say_what_plain_ones_say(tmp_path: Path) -> None:
    """PyTorch, with and without a map of the file, MONAI's way, ZIP; and files from before there was a digest."""
    state = torch.nn.Conv3d(2, 3, 3).state_dict()
    sealed_file, plain = tmp_path / "sealed.pt", tmp_path / "plain.pt"
    save_atomically(state, sealed_file)
    torch.save(state, plain)
    assert zipfile.ZipFile(sealed_file).testzip() is None
    assert is_sound(sealed_file) is True
    assert is_sound(plain) is None
    for options in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
        loaded = torch.load(sealed_file, **options)
        assert all(torch.equal(loaded[name], value) for name, value in state.items())
    for file in (sealed_file, plain):
        load_weights(torch.nn.Conv3d(2, 3, 3), file)


@pytest.mark.slow
def test_monai_runs_a_sealed_model_and_every_verb_finds_a_bit(mine: Path, trained: tuple[Path, Path]) -> None:
    """What `python -m monai.bundle run` calls, on the bundle as it lies in the run's folder."""
    model, images = mine / "models" / "model.pt", trained[1] / "imagesTs"
    yaml = str(mine / "configs" / "inference.yaml")
    (mine / "configs" / "inference.yaml").write_text(Path(yaml).read_text().replace(str(trained[0]), str(mine)))
    assert is_sound(model)
    options = {"config_file": yaml, "dataset_dir": str(images), "bundle_root": str(mine)}
    monai.bundle.run(**options, output_dir=str(mine / "monai"))
    masks = predict(mine, input=images, output=mine / "medseg")
    assert masks
    for mask in masks:
        assert np.array_equal(nib.load(mask).dataobj, nib.load(mine / "monai" / mask.name).dataobj)
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    verbs: list[Callable[[], object]] = [
        lambda: predict(mine, input=images, output=mine / "again"),
        lambda: evaluate(mine, output=mine / "anew", anew=True),
        lambda: Predictor.from_run(mine),
        lambda: monai.bundle.run(**options, output_dir=str(mine / "again")),
    ]
    for verb in verbs:
        with pytest.raises(Exception) as found:  # noqa: PT011  (MONAI wraps it)
            verb()
        known = explained(found.value)
        assert isinstance(known, RunError)
        assert f"{model}: damaged" in str(known)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["split.json", "files.json"])
def test_what_a_run_knows_of_its_data(mine: Path, name: str) -> None:
    read = read_split if name == "split.json" else lambda file: read_files(file.parent)
    file = mine / name
    read(file)
    for bit in flipped(file, 2):
        assert notices(lambda: read(file), RunError), f"bit {bit} of {name} went unnoticed"


@pytest.mark.slow
def test_the_cache(trained: tuple[Path, Path], mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is damaged is said, and made again from the files."""
    run = read_run(mine)
    [case, *_] = config_dataset(run.config).cases

    def opened() -> CachedDataset:
        return run_cache(run.config, run.facts, [case], mine)

    for file in cache_folder(run.config, mine).iterdir():
        file.unlink()  # those of the training say what was found in the case too
    opened().fill()
    (stem,) = {file.name.split(".")[0] for file in cache_folder(run.config, mine).glob(f"{opened()._stem(case).name}*")}
    files = sorted(cache_folder(run.config, mine).glob(f"{stem}.*"))
    assert len(files) == 4
    whole = {file: file.read_bytes() for file in files}
    for seed, file in enumerate(files):
        for bit in flipped(file, 3 + seed):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                opened().fill()
            assert "made again" in caplog.text, f"bit {bit} of {file.suffixes} went unnoticed"
            assert all(one.read_bytes() == content for one, content in whole.items())


@pytest.mark.slow
def test_a_checked_cache_is_not_checked_by_each_worker(trained: tuple[Path, Path], mine: Path, monkeypatch) -> None:
    run = read_run(mine)
    cache = run_cache(run.config, run.facts, config_dataset(run.config).cases, mine)
    cache.fill()
    monkeypatch.setattr("medseg.data.training.cache._is_sound", lambda *_: pytest.fail("checked again"))
    worker = pickle.loads(pickle.dumps(cache))
    assert len(worker[0]["image"]) == 2


@pytest.mark.slow
def test_the_cache_notices_another_label_of_the_same_size_and_time(mine: Path, trained: tuple[Path, Path]) -> None:
    root = shutil.copytree(trained[1], mine.parent / "data")
    run, [case, *_] = read_run(mine), read_dataset(root).cases
    cache = run_cache(run.config, run.facts, [case], mine)
    before = cache[0]["label"].clone()
    replaced("labels")(root, [case.name])
    again = run_cache(run.config, run.facts, [case], mine)
    assert not torch.equal(again[0]["label"], before)
    assert again.missing() == []
    assert set(known_digests(cache.folder)) >= {file.touched for file in case.state().files}


def test_sealed_json_says_what_was_written() -> None:
    content = {"name": "x", "names": ["ä", "b"], "none": None, "number": 0.1}
    text = sealed(content)
    assert unsealed(text) == content
    with pytest.raises(ValueError, match="no digest"):
        unsealed('{"name": "x"}')
    assert unsealed('{"name": "x"}', required=False) == {"name": "x"}
    for place in range(len(text)):
        for bit in range(7):
            changed = text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
            assert notices(lambda changed=changed: unsealed(changed), ValueError), changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data.json", "postprocessing.json"])
def test_what_a_run_says_of_its_masks(mine: Path, name: str) -> None:
    """Each bit is noticed, but one of the layout or of the way a letter is written, which changes nothing."""
    run = read_run(mine)
    if name == "postprocessing.json":
        decided = {"schema": SCHEMA, "steps": {"keep_largest_component": ["lesion"]}, "evidence": {"why": "x"}}
        Decision.model_validate(decided).write(mine)
    read = (lambda: read_run(mine).facts) if name == "data.json" else lambda: read_decision(mine, run.facts)
    before = read()
    noticed = 0
    for bit in flipped(mine / name, 11):
        try:
            assert read() == before, f"bit {bit} of {name} went unnoticed"
        except RunError:
            noticed += 1
    assert noticed > FLIPS // 2
    assert '"sha256"' in (mine / name).read_text()
    content = (mine / name).read_text().replace("lesion", "tumour")
    (mine / name).write_text(content)
    with pytest.raises(RunError, match="takes out its last key, sha256"):
        read()
