"""Names that are code, references, macros or ids to MONAI are names in every verb, with the results of plain ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medseg.config.load import load_config
from medseg.workflows.composite import composite
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.postprocess import postprocess
from medseg.workflows.predict import predict
from medseg.workflows.submission import write_submission
from medseg.workflows.train import train
from tests.conftest import write_msd
from tests.injections import CALL, executed
from tests.tiny import finish, medseg, same_weights, tiny_config
from tests.workflows.test_composite import LIGHT, draw

PLAIN = {"classes": ["a", "b"], "channels": ["c", "d"], "case": "case", "data": "data", "run": "run", "out": "out"}
ODD = {
    "classes": ["GTV#1 {x}: 'q'\"", 'b::%c\n"d'],
    "channels": ["$import this", "@labels"],
    "case": f"${CALL}",
    "data": "%scans #1 @x",
    "run": f"${CALL}#1",
    "out": "@eaDir#2",
}

ODD_FILES = [f"{text}x" for text in ("$", "@", "%", "#1 ", "{y}: ", "\n'\"", f"${CALL} ")]


def renamed(root: Path, case: str) -> None:
    """Give the cases another name, in the files and in their list."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        for file in (root / folder).iterdir():
            file.rename(file.with_name(file.name.replace("tiny", case)))
    listed = root / "dataset.json"
    listed.write_text(listed.read_text().replace("tiny_", json.dumps(case)[1:-1] + "_"))


def voxels(folder: Path) -> dict[str, np.ndarray]:
    """The masks of a folder by the number of their case."""
    return {file.name[-9:]: np.asarray(nib.load(file).dataobj) for file in folder.glob("*.nii.gz")}


def same_masks(one: Path, other: Path) -> bool:
    a, b = voxels(one), voxels(other)
    return len(a) > 0 and a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def numbers(content: Any) -> Any:
    """The figures of a summary, whatever they are called."""
    if isinstance(content, dict):
        return [numbers(value) for value in content.values()]
    return [numbers(value) for value in content] if isinstance(content, list) else isinstance(content, str) or content


@pytest.mark.slow
def test_a_run_with_odd_names_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for place, names in ((tmp_path / "plain", PLAIN), (tmp_path / "odd", ODD)):
        root = write_msd(place / names["data"], labels=("background", *names["classes"]), channels=names["channels"])
        renamed(root, names["case"])
        monkeypatch.chdir(place)
        cleaned, lesions = {"inference.keep_largest_component": names["classes"][:1]}, names["classes"][1:]
        config = tiny_config(root, evaluation__lesions=lesions, training__max_epochs=1, data__validation=0.5, **cleaned)
        run, out = Path(names["run"]), Path(names["out"])
        train(config, run=run)
        masks = predict(run=run, input=root / "imagesTs", output=out, uncertainty=True, probabilities=True)
        assert [mask.name for mask in masks] == [f"{names['case']}_04.nii.gz"]
        predict(run=[run, run], input=Path(names["data"], "imagesTs"), output=out / names["out"])
        together = evaluate(run=[run, run], output=out / "eval")
        assert list(together["targets"]) == names["classes"], "nothing is renamed"
        results.append((place / run, place / out, numbers(evaluate(run=run, anew=True)), numbers(together)))
        assert sorted(path.name for path in place.iterdir()) == sorted([names["data"], names["run"], names["out"]])
    (run, out, *scores), (odd_run, odd_out, *odd_scores) = results
    assert same_weights(run / "models" / "model.pt", odd_run / "models" / "model.pt")
    assert same_masks(out, odd_out)
    assert same_masks(out / PLAIN["out"], odd_out / ODD["out"])
    assert scores == odd_scores
    scans = tmp_path / "scans"  # on MONAI's own command line a path that is code is code
    scans.symlink_to(odd_run.parent / ODD["data"] / "imagesTs")
    arguments = ["--dataset_dir", scans, "--output_dir", tmp_path / "monai"]
    yaml = Path(ODD["run"], "configs", "inference.yaml")
    finish(medseg("run", "--config_file", yaml, *arguments, cwd=odd_run.parent, module="monai.bundle"))
    assert same_masks(out, tmp_path / "monai")
    assert not executed()


@pytest.mark.slow
def test_cases_with_odd_names_are_cleaned_and_refined(tmp_path: Path) -> None:
    root = write_msd(tmp_path / ODD["data"], labels=("background", *ODD["classes"]))
    renamed(root, ODD["case"])
    config = tiny_config(root, data__folds=2, training__max_epochs=1)
    train(config, run=tmp_path / ODD["run"], fold="all")
    decided = postprocess(run=tmp_path / ODD["run"], crf="pydensecrf")
    assert list(decided["evidence"]["targets"]) == ODD["classes"]
    assert not executed()


def test_masks_with_odd_names_are_submitted_as_they_are(tmp_path: Path) -> None:
    """Those of a benchmark's server: nothing but the names differs, and those stay."""
    names, random, written = ODD_FILES, np.random.default_rng(0), {}
    masks = [random.integers(0, 21, (6, 8), dtype=np.uint8) for _ in names]
    for kind, called in (("plain", [f"case{number}" for number in range(len(names))]), ("odd", names)):
        (tmp_path / kind).mkdir()
        for name, mask in zip(called, masks, strict=True):
            Image.fromarray(mask).save(tmp_path / kind / f"{name}.png")
        files = write_submission(tmp_path / kind, dataset="voc2012", output=tmp_path / f"$@{kind}#1")
        assert sorted(file.name for file in files) == sorted(f"{name}.png" for name in called)
        written[kind] = [(tmp_path / f"$@{kind}#1" / f"{name}.png").read_bytes() for name in called]
    assert written["plain"] == written["odd"]
    assert not executed()


@pytest.mark.slow
def test_a_plan_for_odd_names_is_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    for place, names in ((tmp_path / "plain", PLAIN), (tmp_path / "odd", ODD)):
        root = write_msd(place / names["data"], labels=("background", *names["classes"]), channels=names["channels"])
        renamed(root, names["case"])
        monkeypatch.chdir(place)
        given = ["network.widths=[4, 8]", "training.max_epochs=1"]
        made = plan(names["data"], output=f"x{names['run']}.yaml", overrides=given)
        written = load_config(Path(f"x{names['run']}.yaml"))
        assert made.config == written
        assert written.data.root == str(root)
        assert sorted(path.name for path in place.iterdir()) == sorted(
            [names["data"], f"x{names['run']}.yaml", f"x{names['run']}.json"]
        )
        planned.append(numbers(written.model_dump(mode="json")))
    assert planned[0] == planned[1]
    assert not executed()


@pytest.mark.slow
def test_composites_of_odd_names_are_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    plain_files = [f"case{sorted(ODD_FILES).index(name)}" for name in ODD_FILES]  # in the same order
    for kind, names, called in (("plain", PLAIN, plain_files), ("odd", ODD, ODD_FILES)):
        place = tmp_path / kind
        root, frames, behind = place / names["data"], place / f"{names['data']} frames", place / f"{names['out']}.png"
        frames.mkdir(parents=True)
        for number, file in enumerate(f"{name}.png" for name in called):
            picture, distance = draw(number)
            for part, pixels in (("images", picture), ("masks", (distance < 0).astype(np.uint8))):
                folder = root / part / ("val" if number < 2 else "train")
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / file)
            Image.fromarray(picture[:, ::-1]).save(frames / file)
        Image.fromarray(draw(99)[0][::-1]).save(behind)
        kept = names["classes"][0]
        classes = {"background": 0, kept: 1}
        settings = {**LIGHT, "data.root": json.dumps(str(root)), "data.classes": json.dumps(classes)}
        few = {"training.max_iterations": "4", "training.iterations_per_epoch": "4"}
        config = load_config("camvid_cpu", [f"{key}={value}" for key, value in {**settings, **few}.items()])
        monkeypatch.chdir(place)
        run, out = Path(names["run"]), Path(names["out"])
        train(config, run=run)
        done = composite(run, input=frames, background=str(behind), output=out, target=[kept])
        assert sorted(file.name for file in done.pictures) == sorted(f"{name}.png" for name in called)
        made[kind] = [(place / out / f"{name}.png").read_bytes() for name in called]
    assert made["plain"] == made["odd"]
    assert len({*made["odd"]}) == len(ODD_FILES)
    assert not executed()
