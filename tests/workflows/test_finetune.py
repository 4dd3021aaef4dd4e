"""`train --from RUN`: a finished run goes on, on other data, with other channels, targets and spacing."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medseg.config.load import dump_config, load_config, start_with
from medseg.core.errors import ConfigError, RunError
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.split import Split
from medseg.runs.folder import open_run, read_run
from medseg.runs.start import start_from
from medseg.workflows.bundle import bundle
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.conftest import write_msd
from tests.tiny import settings, tiny_config
from tests.workflows.test_changes import replaced

STILL = {"training__optimizer": {"name": "sgd", "learning_rate": 1e-12, "momentum": 0.0}, "training__max_epochs": 1}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "models" / "model.pt", weights_only=True)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A data set that shares a channel and a target with that of the run `trained`, on another grid."""
    options = {"labels": ("background", "lesion", "cyst"), "channels": ("FLAIR", "T2", "T1ce")}
    root = write_msd(tmp_path / "other", 4, seed=9, spacing_mm=(1.5, 1.0, 2.0), **options)
    for file in sorted(root.rglob("tiny_*")):
        file.rename(file.with_name(file.name.replace("tiny", "other")))
    (root / "dataset.json").write_text((root / "dataset.json").read_text().replace("tiny_", "other_"))
    return root


@pytest.mark.slow
def test_a_run_goes_on_with_other_channels_targets_and_spacing(
    trained: tuple[Path, Path], other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, run = shutil.copytree(trained[0], tmp_path / "origin"), tmp_path / "run"
    config = tmp_path / "new.yaml"
    config.write_text("name: tiny\n")
    changes = {key: value for key, value in settings(other, **STILL).items() if not key.startswith("network.")}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    loaded = load_config(config, [*overrides, f"training.start={origin}", "preprocessing.spacing_mm=[1, 1, 2]"])
    assert loaded.network.options()["widths"] == [4, 8]  # as there
    train(loaded, run=run)
    printed = capsys.readouterr().out
    assert printed.count("begins with") == 1
    assert "encoder.levels.0.blocks.0.conv.weight (input channels)" in printed
    theirs, ours = weights(origin), weights(run)
    first, head = "encoder.levels.0.blocks.0.conv.weight", "heads.0.conv.weight"
    torch.testing.assert_close(ours[first][:, 1], theirs[first][:, 1])  # T2
    assert ours[first][:, [0, 2]].abs().max() < 1e-9
    torch.testing.assert_close(ours[head][:2], theirs[head][[0, 2]])  # background, lesion
    for name in ours.keys() - {first, head, "heads.0.conv.bias"}:
        torch.testing.assert_close(ours[name], theirs[name])

    record = json.loads((run / "start.json").read_text())
    digest = hashlib.sha256((origin / "models" / "model.pt").read_bytes()).hexdigest()
    assert (record["run"], record["weights"]["sha256"]) == (str(origin), digest)
    assert record["trained_on"][0]["cases"] == json.loads((origin / "split.json").read_text())["training"]

    shutil.rmtree(origin)  # what is begun needs it no more
    (run / "models" / "start.pt").unlink()
    longer = loaded.model_copy(update={"training": loaded.training.model_copy(update={"max_epochs": 2})})
    train(longer, run=run)
    assert "begins with" not in capsys.readouterr().out
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert len(predict(run, input=other / "imagesTs", output=tmp_path / "masks")) == 1
    with pytest.raises(RunError, match="no run of medseg"):
        train(longer, run=run, restart=True)
    assert (run / "models" / "model.pt").exists()  # and nothing is lost by trying


@pytest.mark.slow
def test_what_stops_before_the_first_checkpoint_begins_with_the_same_weights(
    trained: tuple[Path, Path], other: Path, tmp_path: Path
) -> None:
    run, once = tmp_path / "run", tmp_path / "once"
    for folder in (once, run):
        train(tiny_config(other, **STILL), run=folder, start=trained[0])
    for file in ("model.pt", "checkpoint.pt"):
        (run / "models" / file).unlink()
    (run / "history.csv").unlink()
    before = (run / "start.json").stat().st_mtime_ns
    train(tiny_config(other, **STILL), run=run, start=trained[0])
    assert (run / "start.json").stat().st_mtime_ns == before
    assert all(torch.equal(value, weights(once)[name]) for name, value in weights(run).items())
    with pytest.raises(RunError, match=r"training\.start: is None, but this run was begun with"):
        train(tiny_config(other, **STILL), run=run)


def test_nobody_is_held_out_whom_the_weights_have_seen(trained: tuple[Path, Path], tmp_path: Path) -> None:
    origin, root = trained
    config = tiny_config(root, **STILL)
    with pytest.raises(RunError, match=r"was trained on [12] of the 2 cases that are held out now"):
        train(config.model_copy(update={"seed": 5}), run=tmp_path / "run", start=origin)
    assert not (tmp_path / "run").exists()


def test_nor_is_a_patient_of_whom_they_have_seen_another_case(trained: tuple[Path, Path], tmp_path: Path) -> None:
    origin, root = read_run(trained[0]), trained[1]
    split = json.loads((trained[0] / "split.json").read_text())
    held_out, seen = split["validation"][0], split["training"][0]
    table = tmp_path / "patients.csv"
    names = [*split["training"], *split["validation"]]
    who = {name: name for name in names} | {held_out: "somebody", seen: "somebody"}
    table.write_text("case,patient\n" + "".join(f"{name},{patient}\n" for name, patient in who.items()))
    config, dataset = tiny_config(root), read_dataset(root)
    new = Split(training=(), validation=(held_out,))
    assert not start_from(origin, config, origin.facts, dataset, new).seen
    config = tiny_config(root, data__patient_table=str(table))
    with pytest.raises(RunError, match=f"was trained on 1 of the 1 cases .* or on their patients: {held_out}"):
        start_from(origin, config, origin.facts, dataset, new)
    copied = shutil.copytree(root, tmp_path / "copied")
    with pytest.raises(RunError, match=f"was trained on 2 of the 2 cases .*: {held_out}, {seen}|{seen}, {held_out}"):
        start_from(origin, config, origin.facts, read_dataset(copied), replace(new, validation=(held_out, seen)))
    replaced("images")(copied, names)
    elsewhere = read_dataset(copied)
    found = start_from(origin, config, origin.facts, elsewhere, replace(new, validation=(held_out, seen)))
    assert found.seen == (seen,)  # only a name: it is said
    assert f"1 held-out cases are called as cases of other data that it was trained on ({seen})" in str(found)


def test_nor_is_a_patient_whose_other_case_has_left_the_data_set(trained: tuple[Path, Path], tmp_path: Path) -> None:
    origin, root = read_run(trained[0]), trained[1]
    split = json.loads((trained[0] / "split.json").read_text())
    held_out, seen = split["validation"][0], split["training"][0]
    dataset = read_dataset(root)
    dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.name != seen))
    new = Split(training=(), validation=(held_out,))
    assert not start_from(origin, tiny_config(root), origin.facts, dataset, new).seen
    both = f"tiny_0(?=[{held_out[-1]}{seen[-1]}])"  # are of one patient, and every other case of its own
    config = tiny_config(root, data__patient_pattern=f"{both}|.+")
    with pytest.raises(RunError, match=f"was trained on 1 of the 1 cases .* or on their patients: {held_out}"):
        start_from(origin, config, origin.facts, dataset, new)


def test_a_run_that_went_on_from_another_says_whom_that_has_seen(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, root = shutil.copytree(trained[0], tmp_path / "run"), trained[1]
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("\n  start: null", "\n  start: elsewhere"))
    origin, dataset = read_run(folder), read_dataset(root)
    assert origin.config.training.start == "elsewhere"
    (held_out, *_) = json.loads((folder / "split.json").read_text())["validation"]
    new, config = Split(training=(), validation=(held_out,)), tiny_config(root)
    for content in (None, "{}", "{"):
        if content is not None:
            (folder / "start.json").write_text(content)
        with pytest.raises(RunError, match=r"does not say on which cases .*: start\.json is missing or damaged"):
            start_from(origin, config, origin.facts, dataset, new)
    before = [{"root": str(dataset.root), "cases": [held_out]}]
    (folder / "start.json").write_text(json.dumps({"trained_on": before}))
    with pytest.raises(RunError, match="was trained on 1 of the 1 cases"):
        start_from(origin, config, origin.facts, dataset, new)


def test_what_is_killed_as_it_begins_has_both_files_in_the_end(
    trained: tuple[Path, Path], other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = start_with(tiny_config(other), trained[0]), tmp_path / "run"
    dataset = read_dataset(other)

    def killed(content: object, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medseg.runs.start.save_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            open_run(config, run, dataset)
    assert (run / "start.json").is_file()
    assert not (run / "models" / "start.pt").exists()
    open_run(config, run, dataset)
    assert (run / "models" / "start.pt").is_file()
    (run / "start.json").unlink()  # as a run of an older version may be that was killed between the two
    open_run(config, run, dataset)
    assert json.loads((run / "start.json").read_text())["trained_on"]


def test_a_bundle_without_the_weights_that_it_begins_with_is_refused(
    trained: tuple[Path, Path], other: Path, tmp_path: Path
) -> None:
    config, output = start_with(tiny_config(other), trained[0]), tmp_path / "bundle"
    with pytest.raises(ConfigError, match=r"training\.start: .* has no models/start\.pt[\s\S]*medseg train"):
        bundle(config, output=output)
    assert not output.exists()
    open_run(config, output, read_dataset(other))
    (output / "configs" / "train.yaml").unlink()
    bundle(config, output=output)
    assert (output / "configs" / "train.yaml").is_file()


def test_another_network_is_refused_with_the_keys_that_differ(
    trained: tuple[Path, Path], other: Path, tmp_path: Path
) -> None:
    for changes, message in (
        ({"network__widths": [4, 12]}, r"network\.widths: is \[4, 12\], but \[4, 8\] in"),
        ({"network__name": "segresnet", "network__widths": None}, r"network\.name: is 'segresnet', but 'unet' in"),
    ):
        for dry_run in (False, True):
            with pytest.raises(ConfigError, match=message):
                train(tiny_config(other, **changes), run=tmp_path / "run", start=trained[0], dry_run=dry_run)
    with pytest.raises(RunError, match="no run of medseg"):
        train(tiny_config(other), run=tmp_path / "run", start=tmp_path)
    assert not (tmp_path / "run").exists()


def test_the_network_is_that_of_the_run_where_the_config_names_none(
    trained: tuple[Path, Path], other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(f"name: new\ntraining:\n  start: {trained[0]}\nnetwork:\n  dropout: 0.1\n")
    network = load_config(file).network
    assert (network.options()["widths"], network.options()["dropout"]) == ([4, 8], 0.1)
    assert load_config(file, ["network.name=unet"]).network.options()["widths"] != [4, 8]
    file.write_text(f"name: new\ntraining:\n  start: {tmp_path}\n")
    with pytest.raises(ConfigError, match="no run of medseg"):
        load_config(file)
    for text, message in (
        ("network: 5\n", r"config\.yaml:1 network: expected a section, got 5\n    -> give another run"),
        ("network: [5\n", "is not YAML"),
    ):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(file)
    file.write_text(dump_config(tiny_config(other)))
    with pytest.raises(ConfigError, match="both say which weights to begin with"):
        load_config(file, [f"training.start={trained[0]}", "network.pretrained=efficientnet_lite0"])
    config = load_config(file)
    assert start_with(config, trained[0]) == config.model_copy(
        update={"training": config.training.model_copy(update={"start": str(trained[0])})}
    )


@pytest.mark.slow
def test_each_fold_begins_with_the_fold_that_held_out_the_same(
    crossed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds, root = crossed
    config = tiny_config(root, data__folds=2, **STILL)
    train(config, run=tmp_path / "run", fold="all", start=folds)
    printed = capsys.readouterr().out
    for number in (0, 1):
        assert f"begins with {folds / f'fold_{number}'}" in printed
        record = json.loads((tmp_path / f"run/fold_{number}/start.json").read_text())
        assert record["run"] == str(folds / f"fold_{number}")
    with pytest.raises(RunError, match="was trained on 2 of the 2 cases"):
        train(config, run=tmp_path / "wrong", fold=1, start=folds / "fold_0")
