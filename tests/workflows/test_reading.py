"""Every verb reads images as its own config says, whatever a verb before it, or beside it, was told."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import describe_data, reading_rules
from medseg.bundle.language import parsed
from medseg.core.errors import RunError
from medseg.core.labels import Labels
from medseg.data.cases.inspection import OTHER_SPACING
from medseg.data.files.images import read_image
from medseg.data.files.reading import SPACING, ReadingRules, now, reading
from medseg.engine.sidecar import read_sidecar
from medseg.runs.described import described
from medseg.runs.folder import read_run
from medseg.runs.kept import made_by
from medseg.workflows.check import check
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.postprocess import postprocess
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Mask, Predictor
from medseg.workflows.score import score
from medseg.workflows.train import train
from tests.dicom import write_series
from tests.tiny import tiny_config
from tests.workflows.test_ensemble import changed, masks

SAID = [1.0, 1.0, 5.0]
Verb = Callable[[Path, Path, Path], object]


def predicted(run: Path, root: Path, to: Path) -> object:
    predict(run, input=root / "imagesTs", output=to)
    return {name: mask.tolist() for name, mask in masks(to).items()}, (to / "volumes.csv").read_text()


def evaluated(run: Path, root: Path, to: Path) -> object:
    return evaluate(run, output=to, anew=True), (to / "metrics.csv").read_text()


def evaluated_elsewhere(run: Path, root: Path, to: Path) -> object:
    return evaluate(run, data=root, output=to, anew=True), (to / "metrics.csv").read_text()


def scored(run: Path, root: Path, to: Path) -> object:
    to.mkdir()
    for file in (root / "labelsTr").glob("*.nii.gz"):
        image = nib.load(file)
        moved = nib.Nifti1Image(np.roll(image.dataobj, 2, 2), image.affine, image.header)
        nib.save(moved, to / file.name)
    return score(to, root / "labelsTr", dataset=str(run), progress=False, workers=1).text()


def checked(run: Path, root: Path, to: Path) -> object:
    return [case.spacing_mm for case in check(root, progress=False).cases]


def by_hand(run: Path, root: Path, to: Path) -> object:
    return [read_image(file).spacing_mm for file in sorted((root / "imagesTs").glob("*.nii.gz"))]


def from_python(run: Path, root: Path, to: Path) -> object:
    return Predictor.from_run(run, device="cpu")(scan_of(root)).volume_ml


def scan_of(root: Path) -> Path:
    return min((root / "imagesTs").glob("*.nii.gz"))


VERBS: tuple[Verb, ...] = (predicted, evaluated, evaluated_elsewhere, scored, checked, by_hand, from_python)


@pytest.fixture
def told(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    """The run, as one whose config says another spacing."""
    return changed(trained[0], tmp_path / "told", data={"spacing_mm": SAID})


@pytest.mark.slow
def test_no_verb_hears_what_another_one_was_told(trained: tuple[Path, Path], told: Path, tmp_path: Path) -> None:
    run, root = trained
    environment = dict(os.environ)
    fresh = [verb(run, root, tmp_path / f"fresh{number}") for number, verb in enumerate(VERBS)]
    for number, before in enumerate(VERBS):
        before(told, root, tmp_path / f"told{number}")
        assert now() == ReadingRules(), before
        assert os.environ == environment, before
    for number, (verb, expected) in enumerate(zip(VERBS, fresh, strict=True)):
        assert verb(run, root, tmp_path / f"again{number}") == expected, verb


@pytest.mark.slow
def test_each_verb_with_a_config_reads_as_it_says(told: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    for number, verb in enumerate((predicted, evaluated, scored, from_python)):
        plain = verb(run, root, tmp_path / f"plain{number}")
        assert verb(told, root, tmp_path / f"told{number}") != plain, verb
        with reading(ReadingRules(spacing_mm=(9.0, 9.0, 9.0))):  # what holds around it is nothing to it
            assert verb(run, root, tmp_path / f"around{number}") == plain, verb


@pytest.mark.slow
def test_training_planning_and_deciding_leave_nothing_behind(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root, environment = tiny_msd(cases=4), dict(os.environ)
    said = {"data__spacing_mm": SAID, "data__dicom": {"modality": "MR"}, "data__largest_file_gib": 3.0}
    config = tiny_config(root, **said, data__folds=2, training__max_epochs=1)
    train(config, run=tmp_path / "run", dry_run=True)
    train(config, run=tmp_path / "run", fold="all")
    postprocess(tmp_path / "run")
    assert now() == ReadingRules()
    with pytest.raises(RunError):  # there is no such run
        train(config.model_copy(update={"training": config.training.model_copy(update={"start": "nowhere"})}))
    assert now() == ReadingRules()
    made = plan(root, output=tmp_path / "plan.yaml", overrides=[f"data.spacing_mm={SAID}"], progress=False)
    assert {case.spacing_mm for case in made.fingerprint.cases} == {tuple(SAID)}
    assert now() == ReadingRules()
    assert os.environ == environment
    volumes = [nib.load(file).header.get_zooms() for file in (root / "labelsTr").glob("*.nii.gz")]
    assert {tuple(map(float, zooms)) for zooms in volumes} == {(1.0, 1.0, 2.0)}, "headers stay as they are"


@pytest.mark.slow
def test_predictors_in_threads_do_not_hear_of_each_other(trained: tuple[Path, Path], told: Path) -> None:
    scan = scan_of(trained[1])
    predictors = [Predictor.from_run(run, device="cpu") for run in (trained[0], told)]
    alone = [one(scan).volume_ml for one in predictors]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda number: predictors[number % 2](scan).volume_ml, range(20)))
    assert together == alone * 10
    assert read_image(scan).spacing_mm == (1.0, 1.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"spacing_mm": SAID}, r"data.spacing_mm \[1.0, 1.0, 5.0\], but .* by null"),
        ({"dicom": {"modality": "MR"}}, "data.dicom MR, but .* by null"),
        ({"dicom": {"description": "T2"}}, "data.dicom T2, but .* by null"),
    ],
)
def test_members_that_read_otherwise_are_no_ensemble(
    data: dict, named: str, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = trained
    other = changed(run, tmp_path / "other", data=data)
    for verb in (partial(predict, input=root / "imagesTs", output=tmp_path / "to"), Predictor.from_run):
        with pytest.raises(RunError, match=named):
            verb([run, other])
    same = changed(run, tmp_path / "same", data={"dicom": {}, "largest_file_gib": 3.0})  # says nothing of what is read
    assert Predictor.from_run([run, same])(scan_of(root)).array.any() in (True, False)


def test_who_makes_a_mask_is_who_reads_so(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(trained[0])
    content = run.compiled("evaluate")
    rules = (
        ReadingRules(),
        ReadingRules(spacing_mm=(1.0, 1.0, 5.0)),
        ReadingRules(spacing_mm=(1.0, 5.0, 1.0)),
        ReadingRules(modality="MR"),
        ReadingRules(description="MR"),
    )
    makers = []
    for one in rules:
        with reading(one):
            makers.append(made_by(run, content)["pipeline"])
    assert len(set(makers)) == len(rules)
    with reading(ReadingRules(largest_file_gib=3.0, largest_picture_mp=9.0)):
        assert made_by(run, content)["pipeline"] == makers[0], "how large one may be changes no voxel"
    monkeypatch.setenv(SPACING, "1,1,5")
    assert made_by(run, content)["pipeline"] == makers[1], "whoever says it"


def test_masks_are_scored_as_their_run_reads(told: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    assert described(str(told)).rules == reading_rules(read_run(told).config) == ReadingRules(spacing_mm=tuple(SAID))
    assert described(str(trained[0])).rules == ReadingRules()
    assert described(str(trained[1])).rules is None


@pytest.mark.slow
def test_a_sidecar_says_whose_spacing_a_volume_is_of(
    told: Path, trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = scan_of(trained[1])
    predict(told, input=scan, output=tmp_path / "to")
    note = "the spacing is that of the config: 1 x 1 x 5 mm; the file says 1 x 1 x 2 mm"
    assert note in capsys.readouterr().out
    (name,) = masks(tmp_path / "to")
    assert note in str(read_sidecar(tmp_path / "to", name.removesuffix(".nii.gz")))


def test_a_mask_is_saved_on_the_series_that_was_read(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(40, 20, (6, 16, 12)).astype(np.int16)
    write_series(tmp_path / "study" / "ct", volume)
    write_series(tmp_path / "study" / "mr", volume[:3], series=2, modality="MR")
    with reading(ReadingRules(modality="MR")):
        read = read_image(tmp_path / "study")
        mask = Mask(np.ones(read.shape, np.uint8), read.affine, Labels({"background": 0, "a": 1}), read.path)
    assert nib.load(mask.save(tmp_path / "mask.nii.gz")).shape == (12, 16, 3)


@pytest.mark.slow
def test_a_bundle_reads_as_its_config_says_whatever_ran_before(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    configs = [tiny_config(root, data__spacing_mm=SAID), tiny_config(root)]
    with reading(ReadingRules(spacing_mm=(9.0, 9.0, 9.0))):
        for number, (config, expected) in enumerate(zip(configs, (SAID, [1, 1, 2]), strict=True)):
            facts, folder = describe_data(config), str(tmp_path / str(number))
            parser = parsed(compile_training(config, facts=facts, bundle_root=folder))
            parser.get_parsed_content("initialize")
            cases = parser.get_parsed_content("train#cases")
            assert np.allclose(np.diag(cases[0]["native_affine"])[:3], expected)


def test_a_check_says_whose_spacing_volumes_have(tiny_msd: Callable[..., Path]) -> None:
    root = tiny_msd(cases=2)
    with reading(ReadingRules(spacing_mm=tuple(SAID))):
        found = [one for one in check(root, progress=False).findings if one.kind == OTHER_SPACING]
    assert len(found) == 3, "each case once"
    assert all(one.level == "warning" and "1 x 1 x 5 mm; the file says 1 x 1 x 2 mm" in one.detail for one in found)
    assert not [one for one in check(root, progress=False).findings if one.kind == OTHER_SPACING]
