"""`medseg plan`: a data set to a complete, commented config, every derived number with its reason.

What is derived is in `planning.rules` (from the fingerprint of the data and from the machine) and `planning.network`
(patch, levels, strides); what is written, in `planning.write`. The memory that the rules estimate is measured by one
real step.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import torch

from medseg.bundle.facts import config_dataset, describe_data, reading_as
from medseg.config.document import Document
from medseg.config.load import load_config, load_text
from medseg.config.network import NetworkConfig
from medseg.config.schema import Config
from medseg.config.validate import validated
from medseg.core.errors import ConfigError
from medseg.core.files import absolute, replace_file
from medseg.core.machine import count_cores, machine_memory
from medseg.core.sealed import data_digest
from medseg.core.written import digest_of, digest_of_text
from medseg.data.cases.dataset import Dataset
from medseg.data.cases.unnamed import found_classes
from medseg.data.splits.apart import check_apart
from medseg.data.splits.folds import Folds, make_folds
from medseg.data.splits.patients import find_patients, found_table
from medseg.engine.device import choose_device, choose_precision
from medseg.engine.places import Place, check_places, door
from medseg.networks.weights import how_to_install, is_installed
from medseg.planning.candidates import Kind, decide, shortlist
from medseg.planning.config import patient_pattern
from medseg.planning.disk import planned_disk
from medseg.planning.fingerprint import Fingerprint, channel_said, fingerprint
from medseg.planning.fitting import Fitter, Proposal
from medseg.planning.overrides import CONTEXT, kinds_that_fit
from medseg.planning.planes import ENCODER
from medseg.planning.record import RECORD, Record, Trial, is_record, read_record
from medseg.planning.rules import Choice, Machine
from medseg.planning.step import Step, measure_step
from medseg.planning.write import config_text, is_planned
from medseg.runs.disk import Disk
from medseg.runs.folder import RUNS
from medseg.workflows.try_out import no_trial, official_folds, try_all, without_test

ELSEWHERE = "choose another name or folder, or move it away"
MEMORY_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the machine's; on a CPU the rest keeps the cached cases in memory


@dataclass(frozen=True)
class Plan:
    """A written plan and what it was made from.

    Args:
        record: the JSON file with all that was measured.
    """

    path: Path
    record: Path
    config: Config
    fingerprint: Fingerprint
    proposal: Proposal
    folds: Folds | None
    disk: Disk
    why: str
    missing: str = ""


def plan(
    data: str | Path | None = None,
    *,
    output: str | Path,
    minutes: float | None = None,
    memory_gib: float | None = None,
    overrides: Sequence[str] = (),
    again: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Plan:
    """Measure a data set and write a config for it and for this machine, and beside it (.json) what was measured.

    Kinds of network that are worth it are fitted to the minutes by measured steps; where each gets enough steps within
    a sixth of the minutes they are tried for the same time on the same cases, and the better one is written.

    Args:
        data: folder of the data set.
        output: the YAML file to write.
        minutes: of training, on this machine; default: epochs.
        memory_gib: that training may use; default: half of this machine's memory, or four fifths of its GPU's.
        overrides: `key=value` that the plan takes as given, as `data.card=camvid` or `network.widths=[8, 16, 32]`.
        again: the JSON file beside an earlier plan, by which the same config is written again: minutes, memory,
            machine, overrides, measured steps and trials are those, and the data set too unless it is given.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: `output` exists, or not even the smallest patch fits the memory; neither data nor `again`.
        RunError: the disk has no room for the preprocessed cases.
        DataError: the data set, or some of its cases, cannot be read; its official lists share images.
    """
    output = Path(output)
    if again is not None and (minutes, memory_gib, *overrides) != (None, None):
        raise ConfigError("--from: says what the minutes, the memory and the overrides are", "leave those out")
    with door(output.parent, lambda: _check(output, overwrite), only=output.name, remedy=ELSEWHERE):
        return _plan(data, output, minutes, memory_gib, overrides, again, progress=progress)


def _plan(
    data: str | Path | None,
    output: Path,
    minutes: float | None,
    memory_gib: float | None,
    overrides: Sequence[str],
    again: str | Path | None,
    *,
    progress: bool,
) -> Plan:
    """As `plan`, where nothing speaks against writing there."""
    record = _asked(data, minutes, memory_gib, overrides) if again is None else read_record(Path(again))
    root = absolute(record.data if data is None else data)
    given = _given(root, record.overrides)
    with reading_as(given):
        return _decided(record, root, given, output, anew=again is None, progress=progress)


def _decided(record: Record, root: Path, given: Config, output: Path, *, anew: bool, progress: bool) -> Plan:
    """The plan of what was asked for, or measured before (`anew` False: nothing is tried again); it is written."""
    beside = output.with_suffix(RECORD)
    dataset = without_test(config_dataset(given))
    _check_lists(given, dataset)
    given, named = _named(given, dataset)
    facts = describe_data(given)
    measured = fingerprint(dataset, facts.modality, labels=facts.labels, channels=facts.channels, progress=progress)
    record = _of_data(record, measured)
    names = [case.case for case in measured.cases]
    pattern, table = given.data.patient_pattern, given.data.patient_table
    if not dataset.patients and not given.data.model_fields_set & {"patient_pattern", "patient_table"}:
        lying, why = found_table(root, names)
        if why:
            table = str(lying) if lying else None
            named.append(Choice("data.patient_table", table, why))
        pattern = None if table else patient_pattern(names)
    patients = find_patients(names, pattern, table, dataset.patients)
    people = len(set(patients.values())) if patients else len(names)
    folds = None
    if people > 1:
        folds = make_folds(measured.presence(), patients, 5 if people >= 10 else max(2, people // 2), seed=0)
    steps = dict(record.steps)

    def measure(name: str, config: Config) -> Step:
        if name not in steps:
            planned_disk(measured, config, RUNS / config.name).check()
            bare = config.network.model_copy(update={"pretrained": None})  # which weights changes no cost
            steps[name] = measure_step(config.model_copy(update={"network": bare}), facts, count=False)
        return steps[name]

    def text_of(choices: Sequence[Choice], notes: Sequence[str] = ()) -> str:
        return config_text(measured, record.machine, choices, _name(measured.name), record.minutes, output, notes)

    fitter = Fitter(
        found=measured,
        machine=record.machine,
        minutes=record.minutes,
        folds=folds,
        pattern=pattern,
        root=root,
        named=named,
        overrides=record.overrides,
        config_of=lambda choices: load_text(text_of(choices), str(output), record.overrides),
        measure=measure,
    )
    listed = shortlist(
        measured,
        record.machine,
        record.minutes,
        len(facts.labels.channels),
        weights=None if is_installed(ENCODER) else how_to_install(ENCODER),
        only=kinds_that_fit(record.overrides),
    )
    proposals = fitter.fit_all(listed.kinds)
    trials = record.trials
    if anew and folds is not None:
        tried_on = official_folds(dataset, measured.presence(), patients) or folds
        trials = try_all(proposals, tried_on, record.minutes, output.parent)
    untried = no_trial(proposals, folds, record.minutes)
    chosen, why = decide([proposal.kind for proposal in proposals], trials, listed.why, untried)
    best = next(proposal for proposal in proposals if proposal.kind == chosen)
    disk = planned_disk(measured, best.config, RUNS / best.config.name)
    disk.check()
    text = text_of(best.choices, _notes(chosen, why, listed.missing, proposals, trials))
    written = (*([digest_of(output)] if output.is_file() else ()), digest_of_text(text))
    replace(record, steps=steps, trials=trials, chosen=chosen.name, why=why, written=written).write(beside)
    replace_file(output, text)
    return Plan(output, beside, load_config(output), measured, best, folds, disk, why, listed.missing)


def _check(output: Path, overwrite: bool) -> None:
    """Raise a ConfigError where a file is in the way: of others, changed since, or not to be replaced."""
    beside = output.with_suffix(RECORD)
    if beside == output:
        raise ConfigError(f"{output}: what is measured goes into {beside.name}", "name the config NAME.yaml")
    written = read_record(beside).written if is_record(beside) and output.exists() else ()
    places = [
        Place(output, output.parent, "the config", ours=is_planned(output), written=written or None),
        Place(beside, output.parent, "what was measured", ours=is_record(beside)),
    ]
    check_places(places, error=ConfigError, remedy=ELSEWHERE)
    if output.exists() and not overwrite:  # a record alone is what an interrupted plan left
        raise ConfigError(f"{output}: exists already", "choose another name, or add --overwrite")


def _of_data(record: Record, measured: Fingerprint) -> Record:
    """The record, of these data; raises ConfigError where it is of others."""
    digest = data_digest(measured.as_dict())
    if record.fingerprint not in ("", digest):
        what = f"--from: what was measured is of other data than these {len(measured.cases)} cases"
        raise ConfigError(what, "plan these anew, without --from")
    return replace(record, fingerprint=digest)


def _asked(
    data: str | Path | None, minutes: float | None, memory_gib: float | None, overrides: Sequence[str]
) -> Record:
    """What is asked for, nothing measured yet."""
    if data is None:
        raise ConfigError("no data set is given", "medseg plan DATA --output CONFIG, or --from the JSON of a plan")
    root = str(absolute(data))
    minutes, memory_gib = (None if number is None else float(number) for number in (minutes, memory_gib))
    return Record(root, minutes, memory_gib, tuple(overrides), this_machine(memory_gib))


def _notes(
    chosen: Kind, why: str, missing: str, proposals: Sequence[Proposal], trials: Mapping[str, Trial]
) -> list[str]:
    """Lines of the config's head: which network, why, and what of each kind was measured."""
    lines = [f"Network:   {chosen.said}", f"Why:       {why}"]
    for proposal in proposals:
        patch = " x ".join(map(str, proposal.config.training.patch_size))
        line = f"Fitted:    {proposal.kind.name}: {proposal.config.training.batch_size} x {patch}, "
        line += f"{proposal.step.seconds:.3g} s a step"
        if (trial := trials.get(proposal.kind.name)) is not None:
            after = f"of {trial.cases} held-out cases after {trial.minutes:.2g} minutes"
            line += f"; failed: {trial.failed}" if trial.failed else f"; Dice {trial.dice:.3f} {after}"
        lines.append(line)
    return [*lines, *([f"Missing:   {missing}"] if missing else [])]


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
    sampling, step, found = made.proposal.sampling, made.proposal.step, made.fingerprint
    network, training = made.config.network, made.config.training
    grid = made.config.preprocessing.spacing_mm or "as the files are"
    if (side := made.config.preprocessing.longest_side) is not None:
        grid = f"{side} pixels along the longer side"
    called = f"{network.name} on {network.encoder}" if network.encoder else network.name
    if network.part == NetworkConfig.of().part:
        called = f"U-Net {'-'.join(map(str, network.options()['widths']))}"
    lines = [
        f"data      {found.name}: {found.of_what}"
        + (f" ({found.modality})" if channel_said(found.channels[0]) else ""),
        f"targets   {', '.join(found.targets)}",
        f"grid      {grid}" + (", cropped to what is not background" if sampling.crop else ""),
        *([f"finder    sees voxels of {first.spacing_mm} mm"] if (first := made.config.finder) is not None else []),
        f"network   {network.spatial_dims}D {called}, {step.parameters / 1e6:.2f} M"
        f" parameters, patch {' x '.join(map(str, training.patch_size))}, batch {training.batch_size}",
        f"why       {made.why}" + (f"; {made.missing}" if made.missing else ""),
        f"one step  {step.seconds:.2f} s measured; {step.precision} on {step.device}"
        + ("" if sampling.steps is None else f"; about {sampling.steps} steps in {training.max_minutes:g} minutes"),
        f"disk      {made.disk.text()}",
        *(f"folds     {note}" for note in (made.folds.notes if made.folds else ())),
        f"written   {made.path}, and {made.record.name} beside it; train with: medseg train --config {made.path}",
    ]
    return "\n".join(lines)


def _given(root: Path, overrides: Sequence[str]) -> Config:
    """What is known before anything is measured: the data section, and whether cases may lack channels."""
    document = Document(source="medseg plan", data={"name": "plan", "data": {"root": str(root)}})
    for assignment in overrides:
        of_data = assignment.startswith(("data.", "training.channel_dropout="))
        if of_data and not assignment.startswith(f"{CONTEXT}="):  # which says how the data are seen, not what they are
            document.override(assignment)
    return validated(Config, document)


def _check_lists(given: Config, dataset: Dataset) -> None:
    """Raise a DataError where the lists that the config will train and validate on share images."""
    one, other = given.data.training_split, given.data.validation_split
    if given.data.fold is None:
        check_apart(dataset, dataset.splits.get(one, ()), dataset.splits.get(other, ()), (one, other))


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


def _name(name: str) -> str:
    """A data set's name as a config may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-").lower() or "plan"
