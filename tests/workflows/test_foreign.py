"""No verb replaces or removes what medseg did not write: every verb that writes, times every way to meet it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.config.load import load_config
from medseg.core.errors import ConfigError, MedsegError, PartialFailure
from medseg.core.files import WRITING
from medseg.core.lock import LOCK
from medseg.data.files.frames import write_frame
from medseg.workflows import predict as predicting
from medseg.workflows.bundle import bundle
from medseg.workflows.composite import _places
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.postprocess import postprocess
from medseg.workflows.predict import predict
from medseg.workflows.score import nnunet_file, score
from medseg.workflows.submission import write_submission
from medseg.workflows.train import train
from tests.tiny import tiny_config

Call = Callable[[Path, Path], object]


def snapshot(folder: Path) -> dict[str, object]:
    """Every entry below a folder with its content, or where it links to; a lock and what is being written are gone."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        assert not path.name.startswith((WRITING, LOCK))
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return {name: content for name, content in found.items() if content is not None}


def pictures(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        Pillow.fromarray(np.full((6, 8), 1, np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def calls(trained: tuple[Path, Path], tmp_path: Path) -> dict[str, Call]:
    """Verb -> what it does with an output folder."""
    run, root = trained
    images = root / "imagesTs"
    config = tiny_config(root)
    masks = pictures(tmp_path / "pictures")

    def composed(out: Path, _: Path) -> None:
        frames = sorted(masks.iterdir())
        with _places(frames, masks, out) as places:
            for place in places.values():
                write_frame(place, np.zeros((4, 4, 3), np.uint8))

    def scored(out: Path, _: Path) -> None:
        labels = root / "labelsTr"
        with nnunet_file(out / "summary.json", str(run)) as write:
            write(score(labels, labels, dataset=str(run), workers=1, progress=False))

    def decided(out: Path, _: Path) -> None:
        from medseg.runs.decision import SCHEMA
        from medseg.runs.folder import DECISION_FILE
        from medseg.runs.foreign import check_decision

        check_decision([out], DECISION_FILE, SCHEMA)

    return {
        "predict": lambda out, _: predict(run, input=images, output=out),
        "predict --overwrite": lambda out, _: predict(run, input=images, output=out, overwrite=True, uncertainty=True),
        "predict --format bids": lambda out, _: predict(run, input=images, output=out, formats=["bids"]),
        "score --nnunet-summary": scored,
        "evaluate": lambda out, _: evaluate(run, output=out),
        "bundle": lambda out, _: bundle(config, output=out),
        "submission": lambda out, _: write_submission(masks, dataset="voc2012", output=out),
        "composite": composed,
        "train": lambda out, _: train(config, run=out),
        "train --restart": lambda out, _: train(config, run=out, restart=True),
        "train --fold": lambda out, _: train(config, run=out, fold="all"),
        "plan": lambda out, _: plan(root, output=out / "config.yaml", overwrite=True),
        "postprocess": decided,
    }


SIDECARS = ("medseg/CASE.json", "masks/medseg/x.json")
PLACES = {
    "predict": ["CASE.nii.gz", "volumes.csv", "medseg/CASE.json", "medseg/failed.csv"],
    "predict --overwrite": ["CASE.nii.gz", "volumes.csv", "medseg/CASE.json", "medseg/CASE_entropy.nii.gz"],
    "evaluate": [
        "metrics.json",
        "metrics.csv",
        "report.html",
        "failed.csv",
        "masks/notes.nii.gz",
        "masks/medseg/x.json",
    ],
    "bundle": ["LICENSE", "docs/README.md", "configs/train.yaml", "configs/metadata.json", "configs/logging.conf"],
    "predict --format bids": ["dseg.tsv", "dataset_description.json", ".bidsignore"],
    "score --nnunet-summary": ["summary.json"],
    "submission": ["a.png", "b.png"],
    "composite": ["a.png", "b.png"],
    "train": ["config.yaml", "notes.txt", "models/model.pt"],
    "train --restart": ["config.yaml", "history.csv", "models/model.pt", "report.html"],
    "train --fold": ["environment.json", "report.html", "eval/metrics.json"],
    "plan": ["config.yaml", "config.json"],
    "postprocess": ["postprocessing.json"],
}
CONTENTS = {
    "text": b"mine: precious\n",
    "JSON": json.dumps({"Modality": "MR", "name": "mine"}).encode(),
    "image": gzip.compress(b"\0" * 400),
}
LINKED = (
    *("predict", "predict --overwrite", "predict --format bids", "score --nnunet-summary", "evaluate"),
    *("submission", "composite", "bundle", "plan", "postprocess"),
)


def meetings() -> list[tuple[str, str, str]]:
    """(verb, place, way); no link in a folder whose every other file is refused, no damaged sidecar."""
    found = [(verb, place, way) for verb, places in PLACES.items() for place in places for way in CONTENTS]
    found = [(verb, place, way) for verb, place, way in found if way == "JSON" or place not in SIDECARS]
    links = ("link", "dangling link", "folder")
    named = [(verb, place) for verb in LINKED for place in PLACES[verb] if not place.startswith("masks/")]
    return [*found, *((verb, place, way) for verb, place in named for way in links)]


@pytest.mark.parametrize(("verb", "place", "way"), meetings())
def test_no_verb_replaces_what_medseg_did_not_write(
    verb: str, place: str, way: str, calls: dict[str, Call], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    case = min((trained[1] / "imagesTs").iterdir()).name.removesuffix(".nii.gz")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    file = out / place.replace("CASE", case)
    file.parent.mkdir(parents=True)
    elsewhere.write_bytes(CONTENTS["text"])
    if way in CONTENTS:
        file.write_bytes(CONTENTS[way])
    elif way == "folder":
        (file / "inside").mkdir(parents=True)
        (file / "inside" / "file").write_bytes(b"mine")
    else:
        file.symlink_to(elsewhere if way == "link" else tmp_path / "nowhere")
    before = snapshot(tmp_path)
    with pytest.raises(MedsegError) as caught:
        calls[verb](out, tmp_path)
    assert caught.value.exit_code == 2
    assert any(problem.remedy for problem in caught.value.problems)
    assert len(str(caught.value).splitlines()) < 20
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("verb", ["predict", "predict --overwrite", "submission", "composite", "bundle", "evaluate"])
def test_every_verb_replaces_its_own(verb: str, calls: dict[str, Call], tmp_path: Path) -> None:
    out = tmp_path / "out"
    calls[verb](out, tmp_path)
    first = snapshot(out)
    calls[verb](out, tmp_path)
    assert snapshot(out).keys() == first.keys()


@pytest.fixture
def no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("something was predicted")

    monkeypatch.setattr(predicting, "run_compiled", fail)


@pytest.mark.usefixtures("no_prediction")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("how", ["same folder", "by a link", "one file", "labels", "two of one name"])
def test_inputs_and_labels_are_never_masks(
    how: str, overwrite: bool, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = trained
    data = tmp_path / "data"
    shutil.copytree(root / "imagesTs", data / "scans")
    shutil.copytree(root / "labelsTr", data / "labels")
    scans, out = data / "scans", data / "scans"
    source = scans
    if how == "by a link":
        (data / "link").symlink_to(scans)
        out = data / "link"
    elif how == "one file":
        source = min(scans.iterdir())
    elif how == "labels":
        out = data / "labels"
        for file, label in zip(sorted(scans.iterdir()), sorted(out.iterdir()), strict=False):
            file.rename(scans / label.name)
    elif how == "two of one name":
        out = tmp_path / "new"
        first = min(scans.iterdir())
        (scans / first.name.removesuffix(".gz")).write_bytes(gzip.decompress(first.read_bytes()))
    before = snapshot(data)
    with pytest.raises(MedsegError) as caught:
        predict(run, input=source, output=out, overwrite=overwrite)
    assert caught.value.exit_code == 2
    assert snapshot(data) == before


def edit(mask: Path) -> None:
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), image.affine), mask)


STATES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "as it was": (lambda mask, sidecar: None, "kept"),
    "empty mask": (lambda mask, sidecar: mask.write_bytes(b""), "again"),
    "no mask": (lambda mask, sidecar: mask.unlink(), "again"),
    "truncated sidecar": (lambda mask, sidecar: sidecar.write_text(sidecar.read_text()[:40]), "again, said"),
    "empty sidecar": (lambda mask, sidecar: sidecar.write_text(""), "again, said"),
    "other weights": (lambda mask, sidecar: change(sidecar, weights="0" * 64), "again, said"),
    "other options": (lambda mask, sidecar: change(sidecar, pipeline="0" * 64), "again, said"),
    "another image": (lambda mask, sidecar: change(sidecar, image="0" * 64, touched="0" * 64), "again, said"),
    "no digests": (lambda mask, sidecar: change(sidecar, files=None), "again, said"),
    "another shape": (lambda mask, sidecar: edit(mask), "left"),
    "truncated mask": (lambda mask, sidecar: mask.write_bytes(mask.read_bytes()[:50]), "left"),
    "edited, no digests": (lambda mask, sidecar: (change(sidecar, files=None), edit(mask), later(mask)), "left"),
    "edited, damaged sidecar": (lambda mask, sidecar: (sidecar.write_text("{"), edit(mask), later(mask)), "left"),
    "edited, other weights": (lambda mask, sidecar: (change(sidecar, weights="0" * 64), edit(mask)), "left"),
    "no sidecar": (lambda mask, sidecar: sidecar.unlink(), "refused"),
    "another program's sidecar": (lambda mask, sidecar: sidecar.write_text('{"Modality": "MR"}'), "refused"),
}


def later(mask: Path) -> None:
    """As if it was changed an hour after it was written, not in the same second."""
    os.utime(mask, (mask.stat().st_mtime + 3600,) * 2)


def change(sidecar: Path, **changed: object) -> None:
    content = json.loads(sidecar.read_text())
    for key, value in changed.items():
        if value is None:
            del content[key], content["origin"]
        else:
            content["origin"][key] = value
    sidecar.write_text(json.dumps(content))


@pytest.mark.parametrize("state", STATES)
def test_what_a_finished_mask_is(
    state: str, trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = trained
    spoil, expected = STATES[state]
    out = tmp_path / "out"
    masks = predict(run, input=root / "imagesTs", output=out)
    whole = snapshot(out)
    spoil(masks[0], out / "medseg" / f"{masks[0].name.removesuffix('.nii.gz')}.json")
    before = snapshot(out)
    capsys.readouterr()
    if expected == "refused":
        with pytest.raises(MedsegError) as caught:
            predict(run, input=root / "imagesTs", output=out)
        assert caught.value.exit_code == 2
        assert snapshot(out) == before
        return
    if expected == "left":
        masks[1].unlink()
        for overwrite in (False, True):
            with pytest.raises(PartialFailure, match=f"{masks[0].name}: was changed since medseg wrote it") as caught:
                predict(run, input=root / "imagesTs", output=out, overwrite=overwrite)
            assert caught.value.result == {"masks": [str(mask) for mask in masks[1:]]}, "one edit stops no other case"
            assert snapshot(out) == before
        return
    assert predict(run, input=root / "imagesTs", output=out) == masks
    said = capsys.readouterr().out
    assert f"{0 if expected == 'kept' else 1} cases predicted, {len(masks)} masks in" in said
    assert ("predicted again" in said) == expected.endswith("said")
    assert snapshot(out) == whole


def test_maps_of_other_weights_do_not_stay_beside_a_new_mask(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    out = tmp_path / "out"
    masks = predict(run, input=root / "imagesTs", output=out, uncertainty=True)
    sidecars = [out / "medseg" / f"{mask.name.removesuffix('.nii.gz')}.json" for mask in masks]
    predict(run, input=root / "imagesTs", output=out, overwrite=True)
    assert len(list((out / "medseg").glob("*_entropy.nii.gz"))) == len(masks), "they are by the same weights"
    change(sidecars[0], weights="0" * 64)
    predict(run, input=root / "imagesTs", output=out)
    assert len(list((out / "medseg").glob("*_entropy.nii.gz"))) == len(masks) - 1


def test_tables_are_of_all_calls(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    files = sorted((root / "imagesTs").iterdir())
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    with pytest.raises(PartialFailure):
        predict(run, input=damaged, output=tmp_path / "out")
    assert (tmp_path / "out" / "medseg" / "failed.csv").read_text().splitlines()[1].startswith("damaged,")
    for source in files:
        predict(run, input=source, output=tmp_path / "out")
    rows = (tmp_path / "out" / "volumes.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["case", *(file.name.removesuffix(".nii.gz") for file in files)]
    assert not (tmp_path / "out" / "medseg" / "failed.csv").exists(), "it is of the last call"


def test_a_config_of_a_run_that_is_none_is_said(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    assert load_config(trained[0] / "config.yaml").name
    with pytest.raises(MedsegError):
        postprocess(tmp_path)
    with (
        pytest.raises(ConfigError, match="would be overwritten"),
        _places([tmp_path / "a.png"], tmp_path, tmp_path),
    ):
        pass
