"""`training.channel_dropout` from a training on cases that lack channels to masks, sidecars and scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.config.load import load_config
from medseg.core.errors import ConfigError, DataError
from medseg.data.files.images import read_image
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from medseg.workflows.train import train
from tests.conftest import MadeOnce, write_msd
from tests.tiny import same_weights, tiny_config

NAMES = ("FLAIR", "T1", "T1gd")


def write_nnunet(root: Path, cases: int = 6, lacking: dict[int, tuple[int, ...]] | None = None) -> Path:
    """A data set of one file a channel, in which some cases lack some; and two cases without labels, one whole."""
    msd = write_msd(root / "msd", cases, channels=NAMES, unlabelled=2)
    for folder, images in (("imagesTr", msd / "imagesTr"), ("imagesTs", msd / "imagesTs")):
        (root / folder).mkdir()
        for file in sorted(images.iterdir()):
            image = nib.load(file)
            number = int(file.name[5:7])
            for channel in set(range(3)) - set((lacking or {}).get(number, ())):
                name = f"{file.name.removesuffix('.nii.gz')}_{channel:04d}.nii.gz"
                nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., channel], image.affine), root / folder / name)
    shutil.copytree(msd / "labelsTr", root / "labelsTr")
    content = {"channel_names": dict(zip("012", NAMES, strict=True)), "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content | {"labels": {"background": 0, "organ": 1, "lesion": 2}}))
    shutil.rmtree(msd)
    return root


@pytest.fixture(scope="module")
def lacking(made_once: MadeOnce) -> Path:
    """A run that was trained to do without channels (`run`), and its data set, of whose cases some lack some."""

    def make(folder: Path) -> None:
        root = write_nnunet(folder / "data", lacking=dict.fromkeys(range(5), (2,)) | {7: (0, 2)})
        train(tiny_config(root, training__channel_dropout=0.5), run=folder / "run")

    return made_once("lacking", make)


@pytest.mark.slow
def test_a_run_that_was_trained_for_it_predicts_cases_that_lack_channels(
    lacking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = predict(lacking / "run", input=lacking / "data", output=tmp_path / "masks")
    assert [mask.name for mask in masks] == ["tiny_06.nii.gz", "tiny_07.nii.gz"]
    assert "1 of the cases lack channels: FLAIR 1, T1gd 1" in capsys.readouterr().out
    said = [json.loads((tmp_path / f"masks/medseg/tiny_0{n}.json").read_text())["missing_channels"] for n in (6, 7)]
    assert said == [[], ["FLAIR", "T1gd"]]

    predictor, saved = Predictor.from_run(lacking / "run"), np.asarray(nib.load(masks[1]).dataobj)
    file = str(lacking / "data/imagesTs/tiny_07_0001.nii.gz")
    read = read_image(file)
    ways = [predictor([None, file, None]), predictor([file], channels=["T1"]), predictor(file, channels=["T1"])]
    ways += [predictor(read.array, affine=read.affine, channels=["T1"])]
    assert all(np.array_equal(one.array, saved) for one in ways)
    for wrong in (["T2"], ["T1", "T1"], ["T1", "FLAIR"]):
        with pytest.raises(DataError, match=r"the run knows FLAIR, T1, T1gd|are named|on different"):
            predictor([file], channels=wrong)


@pytest.mark.slow
def test_held_out_cases_that_lack_channels_are_scored_and_say_so(
    lacking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = evaluate(lacking / "run", output=tmp_path / "eval", anew=True)
    assert scored["mean_dice"] is not None
    split = json.loads((lacking / "run" / "split.json").read_text())
    for name in split["validation"]:
        sidecar = json.loads((tmp_path / f"eval/masks/medseg/{name}.json").read_text())
        assert sidecar["missing_channels"] == ([] if name == "tiny_05" else ["T1gd"])
    assert (lacking / "run" / "report.html").is_file()

    before = {file.name: file.read_bytes() for file in (tmp_path / "eval/masks/medseg").iterdir()}
    evaluate(lacking / "run", output=tmp_path / "eval")
    assert "2 of 2 cases have masks by these weights" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in (tmp_path / "eval/masks/medseg").iterdir()} == before


@pytest.mark.slow
def test_which_channels_go_depends_on_seed_and_sample_alone(lacking: Path, tmp_path: Path) -> None:
    for name, probability, workers in (("again", 0.5, 1), ("other", 0.2, 0)):
        changes = {"training__channel_dropout": probability, "training__workers": workers}
        train(tiny_config(lacking / "data", **changes), run=tmp_path / name)
        same = same_weights(tmp_path / name / "models/model.pt", lacking / "run/models/model.pt")
        assert same == (name == "again")


def test_a_run_that_was_not_trained_for_it_refuses_such_cases(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    scan = next((root / "imagesTs").iterdir())
    image = nib.load(scan)
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a_0001.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., 1], image.affine), file)
    with pytest.raises(DataError, match=r"case 'a' has a_0001[\s\S]*channel_dropout"):
        predict(run, input=tmp_path / "in", output=tmp_path / "out")
    with pytest.raises(DataError, match=r"lacks 1 of its 2 channels[\s\S]*channel_dropout"):
        Predictor.from_run(run)([None, str(file)])
    assert not (tmp_path / "out").exists()


def test_what_cannot_lack_a_channel_is_a_mistake_of_the_config(tiny_msd, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.channel_dropout[\s\S]*have one channel, T1w"):
        train(tiny_config(tiny_msd(), training__channel_dropout=0.5), run=tmp_path / "run")
    with pytest.raises(ConfigError, match="a picture has all its colours"):
        load_config("voc_fcn8s", ["training.channel_dropout=0.5"])
