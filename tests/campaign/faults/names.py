"""A: text from strangers becomes code, or another text."""

from __future__ import annotations

import json
import shutil
from functools import partial

from tests.campaign.faults.case import CALL, Case, Fault
from tests.campaign.injections import ZEN

KEYS = ("ignore_index", "background", "also_ignored", "merged", "colours")


def _labels_of_a_run(case: Case) -> str | None:
    content = json.loads((case / "run/data.json").read_text())
    for key in KEYS:
        values = {"also_ignored": [CALL], "merged": {"organ": [CALL]}, "colours": {"organ": [CALL] * 3}}
        labels = content["labels"] | {key: values.get(key, CALL)}
        (case / "run/data.json").write_text(json.dumps(content | {"labels": labels}))
        case.predict("data/imagesTs", f"new-{key}")
    return case.executed


def _convention(case: Case) -> str | None:
    content = json.loads((case / "run/data.json").read_text())
    (case / "run/data.json").write_text(json.dumps(content | {"convention": CALL}))
    case.ask("evaluate", "--run", "run")
    return case.executed


def _name_of_an_image(case: Case) -> str | None:
    (case / "data/imagesTs/tiny_04.nii.gz").rename(case / f"{CALL}.nii.gz")
    case.predict(f"{CALL}.nii.gz", "new")
    return case.executed


def _output(case: Case) -> str | None:
    case.predict("data/imagesTs", CALL)
    return case.executed


def _innocent(name: str, case: Case) -> str | None:
    """A folder with such a name is read, and the mask is the one of any other name."""
    case.predict("data/imagesTs", "plain")
    shutil.copytree(case / "data/imagesTs", case / name)
    outcome = case.predict(name, f"out{name}")
    if outcome.code != 0:
        return f"a folder {name}: exit {outcome.code}"
    masks = [(case / folder / "tiny_04.nii.gz") for folder in ("plain", f"out{name}")]
    if not masks[1].exists():
        return f"the output out{name} is elsewhere"
    return None if masks[0].read_bytes() == masks[1].read_bytes() else f"another mask in a folder {name}"


def _run_folder(case: Case) -> str | None:
    if (outcome := case.train(run="exp#1")).code != 0:
        return None if not (case / "exp#1").exists() else f"after the training: exit {outcome.code}"
    return None if case.predict("data/imagesTs", "new", run="exp#1").code == 0 else "the run is not found"


def _case_name(case: Case) -> str | None:
    """In an evaluation of several runs."""
    _called(case)
    case.ask("evaluate", "--run", "folds/fold_0", "--run", "folds/fold_1", "--data", "data")
    return case.executed


def _called(case: Case) -> None:
    """The cases are called by code, in every folder and file."""
    code = f"{CALL}or 1"  # 10 is the first
    for file in [file for file in case.place.rglob("*") if file.is_file()]:
        if file.suffix in (".json", ".csv"):
            file.write_text(file.read_text().replace("tiny_0", json.dumps(code)[1:-1]))
        if "tiny_0" in file.name:
            file.rename(file.with_name(file.name.replace("tiny_0", code)))


def _case_name_in_crf(case: Case) -> str | None:
    _called(case)
    case.ask("postprocess", "--run", "folds", "--crf", "pydensecrf")
    return case.executed


def _channel_name(case: Case) -> str | None:
    case.described(modality={"0": "$import this"})
    outcome = case.train()
    return "executed" if ZEN in outcome.out + outcome.err else None


def _class_name(case: Case) -> str | None:
    case.described(labels={"0": "background", "1": "GTV#1", "2": "lesion"})
    outcome = case.train("evaluation.lesions=['GTV#1']", "inference.keep_largest_component=['GTV#1']")
    return f"after the training: exit {outcome.code}" if outcome.code and (case / "new/models").exists() else None


FAULTS = (
    Fault("A", "ignore_index, background, ... of data.json are code in predict", _labels_of_a_run, ("run",), slow=True),
    Fault("A", "the convention in data.json is code in evaluate", _convention, ("run",)),
    Fault("A", "the name of an image is code in predict", _name_of_an_image, ("run",)),
    Fault("A", "--output is code in predict", _output, ("run",)),
    *(Fault("A", f"a folder {name} is no folder", partial(_innocent, name), ("run",))
      for name in ("@eaDir", "%scans", "$scans", "out#2")),
    Fault("A", "a run exp#1 is trained into, and not found", _run_folder, slow=True),
    Fault("A", "the name of a case is code in evaluate --run A --run B", _case_name, ("folds",), slow=True),
    Fault("A", "the name of a case is code in postprocess --crf", _case_name_in_crf, ("folds",)),
    Fault("A", "the name of a channel imports a module", _channel_name),
    Fault("A", "a class GTV#1 fails after the training", _class_name, slow=True),
)  # fmt: skip
