"""`medseg plan`: a data set to a complete, commented config, every derived number with its reason.

What is derived is in `planning.rules` (from the fingerprint of the data and from the machine) and `planning.network`
(patch, levels, strides); what is written, in `planning.write`. The memory that the rules estimate is measured by one
real step.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import torch

from medseg.bundle.facts import describe_data
from medseg.config.document import Document, dotted
from medseg.config.load import load_config
from medseg.config.network import PER_LEVEL, NetworkConfig
from medseg.config.schema import Config
from medseg.config.validate import validated
from medseg.core.errors import ConfigError
from medseg.core.files import replace_file
from medseg.core.machine import count_cores, machine_memory
from medseg.data.cases.dataset import Dataset, read_dataset
from medseg.data.cases.unnamed import found_classes
from medseg.data.splits.folds import Folds, make_folds
from medseg.data.splits.patients import find_patients
from medseg.engine.device import choose_device, choose_precision
from medseg.engine.memory import OutOfMemory
from medseg.planning.config import choose_all, patient_pattern
from medseg.planning.disk import planned_disk
from medseg.planning.fingerprint import Fingerprint, fingerprint
from medseg.planning.rules import Choice, Machine, Sampling, choose_sampling
from medseg.planning.step import Step, measure_step
from medseg.planning.write import config_text
from medseg.runs.disk import Disk
from medseg.runs.folder import RUNS

MEMORY_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the machine's; on a CPU the rest keeps the cached cases in memory
ATTEMPTS = 3
GIVEN = "as given"


@dataclass(frozen=True)
class Plan:
    """A written plan and what it was made from."""

    path: Path
    config: Config
    fingerprint: Fingerprint
    sampling: Sampling
    step: Step
    folds: Folds | None
    disk: Disk


def plan(
    data: str | Path,
    *,
    output: str | Path,
    minutes: float | None = None,
    memory_gib: float | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> Plan:
    """Measure a data set and write a config for it and for this machine.

    Args:
        data: folder of the data set.
        output: the YAML file to write.
        minutes: of training, on this machine; default: epochs.
        memory_gib: that training may use; default: half of this machine's memory, or four fifths of its GPU's.
        overrides: `key=value` that the plan takes as given, as `data.card=camvid` or `network.widths=[8, 16, 32]`.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: `output` exists, or not even the smallest patch fits the memory.
        RunError: the disk has no room for the preprocessed cases.
        DataError: the data set, or some of its cases, cannot be read.
    """
    data, output = Path(data), Path(output)
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: exists already", "choose another name, or add --overwrite")
    root = data.expanduser().resolve()
    given = _given(root, overrides)
    dataset = read_dataset(root, given.data.layout)
    given, named = _named(given, dataset)
    facts = describe_data(given)
    measured = fingerprint(dataset, facts.modality, labels=facts.labels, channels=facts.channels, progress=progress)
    names = [case.case for case in measured.cases]
    pattern, table = given.data.patient_pattern, given.data.patient_table
    pattern = pattern if pattern or table or dataset.patients else patient_pattern(names)
    patients = find_patients(names, pattern, table, dataset.patients)
    people = len(set(patients.values())) if patients else len(names)
    folds = None
    if people > 1:
        folds = make_folds(measured.presence(), patients, 5 if people >= 10 else max(2, people // 2), seed=0)
    machine = this_machine(memory_gib)
    factor, text, taken = 1.0, "", 0.0
    full: OutOfMemory | None = None
    for _ in range(ATTEMPTS):
        sampling = choose_sampling(measured, machine, minutes, len(facts.labels.channels), factor)
        if sampling is None:
            what = f"{machine.memory_gib:.3g} GiB hold not even a step on the smallest patch"
            raise full or ConfigError(what, "give --memory-gib more, or resample the images to larger voxels")
        choices = choose_all(measured, machine, sampling, minutes, folds, pattern, root)
        own = [choice for choice in named if choice.key.startswith("data.")]
        others = [choice for choice in named if choice not in own]
        choices = _override([choices[0], *own, *choices[1:], *others], overrides)
        text = config_text(measured, machine, choices, _name(measured.name), minutes, output)
        config = _validated(text, output, overrides)
        disk = planned_disk(measured, config, RUNS / config.name)
        disk.check()
        fixed = sampling.memory_gib - sampling.activations_gib
        try:
            step, full = measure_step(config, facts, count=False), None
        except OutOfMemory as error:
            full = OutOfMemory(error.problems)  # without the frames, which hold the step's tensors
            factor *= 1.5 * max(1.0, (machine.memory_gib - fixed) / sampling.activations_gib)  # two thirds of this one
            continue
        taken = fixed + step.kept_gib
        if taken <= machine.memory_gib:
            break
        factor *= 1.05 * step.kept_gib / sampling.activations_gib
    else:
        raise full or ConfigError(f"a step takes {taken:.3g} GiB of {machine.memory_gib:.3g}", "give --memory-gib more")
    replace_file(output, text.replace("{measured}", f"{taken:.2g}"))
    return Plan(output, load_config(output), measured, sampling, step, folds, disk)


def this_machine(memory_gib: float | None = None) -> Machine:
    """What a training can use here."""
    device = choose_device()
    precision = choose_precision("auto", device)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    else:
        memory = (machine_memory().total or 0) / 2**30
    share = MEMORY_SHARE[device.type]
    return Machine(
        device=device.type,
        cores=count_cores(),
        memory_gib=memory_gib or round(memory * share, 1),
        bytes_a_value=4 if precision == torch.float32 else 2,
        compiles=device.type == "cuda" and can_compile(),
    )


def can_compile() -> bool:
    """Whether `torch.compile` finds what it makes a GPU's programs with: Triton, a C compiler, Python's C headers."""
    compiler = os.environ.get("CC") or which("gcc") or which("clang")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    is_recent = torch.cuda.get_device_capability() >= (7, 0)
    return is_recent and find_spec("triton") is not None and compiler is not None and headers.exists()


def summary(made: Plan) -> str:
    """What was planned, on one screen."""
    sampling, step, found = made.sampling, made.step, made.fingerprint
    network, training = made.config.network, made.config.training
    called = f"{network.name} on {network.encoder}" if network.encoder else network.name
    if network.part == NetworkConfig.of().part:
        called = f"U-Net {'-'.join(map(str, network.options()['widths']))}"
    lines = [
        f"data      {found.name}: {len(found.cases)} labelled cases, {', '.join(found.channels)} ({found.modality})",
        f"targets   {', '.join(found.targets)}",
        f"grid      {'as the files are' if sampling.target_mm is None else sampling.target_mm}"
        + (", cropped to what is not background" if sampling.crop else ""),
        f"network   {network.spatial_dims}D {called}, {step.parameters / 1e6:.2f} M"
        f" parameters, patch {' x '.join(map(str, training.patch_size))}, batch {training.batch_size}",
        f"one step  {step.seconds:.2f} s measured, {sampling.step_seconds:.2f} s estimated; {step.precision} on"
        f" {step.device}",
        f"disk      {made.disk.text()}",
        *(f"folds     {note}" for note in (made.folds.notes if made.folds else ())),
        f"written   {made.path}; train with: medseg train --config {made.path}",
    ]
    return "\n".join(lines)


def _given(root: Path, overrides: Sequence[str]) -> Config:
    """What is known before anything is measured: the data section."""
    document = Document(source="medseg plan", data={"name": "plan", "data": {"root": str(root)}})
    for assignment in overrides:
        if assignment.startswith("data."):
            document.override(assignment)
    return validated(Config, document)


def _named(given: Config, dataset: Dataset) -> tuple[Config, list[Choice]]:
    """What is known, and as choices what was found in the labels of a data set that does not say what they mean."""
    if given.data.card is not None or given.data.classes is not None or dataset.labels.classes:
        return given, []
    classes, ignored = found_classes(dataset)
    why = "the values found in the labels; names that mean something show in every table and picture"
    data: dict[str, Any] = {"classes": classes}
    choices = [Choice("data.classes", classes, why)]
    if ignored is not None:
        data["ignore_index"] = ignored
        choices.append(Choice("data.ignore_index", ignored, "beside other values it means that nothing is known there"))
    evaluation = given.evaluation.model_copy(update={"convention": "medical"} if dataset.natural else {})
    known = given.model_copy(update={"data": given.data.model_copy(update=data), "evaluation": evaluation})
    if dataset.natural:
        choices.append(Choice("evaluation.convention", "medical", "0 is taken for the background, which is no target"))
    return known, choices


def _override(choices: list[Choice], overrides: Sequence[str]) -> list[Choice]:
    """The choices with what was given in their place; a key that the plan does not have is added to its section."""
    document = Document(source="medseg plan")
    for assignment in overrides:
        document.override(assignment)
    for keys in [keys for keys in document.places if keys]:
        if any(other[:-1] == keys for other in document.places if other):  # a section, of which keys were given
            continue
        value: Any = document.data
        for key in keys:
            value = value[key]
        choice = Choice(dotted(keys), value, GIVEN)
        at = next((n for n, old in enumerate(choices) if old.key == choice.key), None)
        if at is not None:
            choices = [*choices[:at], choice, *choices[at + 1 :]]
        else:
            section = f"{keys[0]}."
            last = max((n for n, old in enumerate(choices) if old.key.startswith(section)), default=len(choices) - 1)
            choices = [*choices[: last + 1], choice, *choices[last + 1 :]]
    return _fitting(choices)


def _fitting(choices: list[Choice]) -> list[Choice]:
    """The choices without those of the planned U-Net that do not go with the network that was given."""
    given = {_network_key(choice): choice.value for choice in choices if choice.reason == GIVEN}
    planned = NetworkConfig.of().part
    same = NetworkConfig.parts_of({key: value for key, value in given.items() if value is not None}) == (planned,)
    widths = given.get("widths")
    kept = []
    for choice in choices:
        key = _network_key(choice)
        if choice.reason == GIVEN or key not in planned.options:
            kept.append(choice)
        elif same and key in PER_LEVEL and isinstance(widths, list):
            if len(widths) <= len(choice.value):
                kept.append(replace(choice, value=choice.value[: len(widths)]))
        elif same:
            kept.append(choice)
    return kept


def _network_key(choice: Choice) -> str:
    """`name` of `network.name`; empty for keys of other sections."""
    section, _, key = choice.key.partition(".")
    return key if section == "network" else ""


def _name(name: str) -> str:
    """A data set's name as a config may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-").lower() or "plan"


def _validated(text: str, output: Path, overrides: Sequence[str]) -> Config:
    """The config that the text will be, where what was given is wrong by itself or with what was planned."""
    draft = output.with_name(f".{output.name}.draft")
    replace_file(draft, text)
    try:
        return load_config(draft, overrides)
    finally:
        draft.unlink()
