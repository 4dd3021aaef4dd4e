"""An ensemble -> bundle: the first member's evaluation or inference, with the networks of all in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch

from medseg.bundle import components as parts
from medseg.bundle.facts import reading_rules
from medseg.bundle.language import Code, Component, target
from medseg.bundle.preprocessing import preprocessing
from medseg.bundle.run import checked
from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError
from medseg.engine.ensemble import EnsembleEvaluator, MemberWeights, SeveralPreprocessings
from medseg.engine.maps import SplitMomentsd
from medseg.inference.ensemble import EnsembleInferer

READ_ALIKE = {"spacing_mm": ("spacing_mm",), "dicom": ("modality", "description")}
"""What all members have to say alike of how images are read, as keys of `data`: the names in `ReadingRules`."""


def compile_members(kind: Literal["evaluate", "inference"], members: Sequence[Trained]) -> Component:
    """What one or several runs together do, in memory: the first one's pipeline, with the networks of all in its place.

    Members with the same preprocessing see an image once and their logits are averaged as they come; members with
    another one are averaged on the file's own grid. Postprocessing and evaluation are those of the first member.

    Raises:
        RunError: the members do not predict the same targets from the same channels, or ask for what an ensemble on
            several grids cannot do.
    """
    content = members[0].compiled(kind)
    if len(members) == 1:
        return content
    _check(members)
    return _with_members(content, members)


def _with_members(content: Component, members: Sequence[Trained]) -> Component:
    groups = _groups(members)
    ordered = [member for group in groups for member in group]
    networks = [target(torch.nn.ModuleList, modules=[_network(member) for member in group]) for group in groups]
    spread = "maps" in content
    moments: Component = {"moments": Code("@uncertainty"), "labels": Code("@labels")} if spread else {}
    inferers = [
        target(EnsembleInferer, inferers=[parts.inferer(m.config) for m in group], **moments) for group in groups
    ]
    changed: Component = {
        "network": networks[0],
        "inferer": inferers[0],
        "weights": target(MemberWeights, paths=[str(m.weights.resolve()) for m in ordered]),
    }
    if any(member.finder is not None for member in members):  # also where the first one has none
        changed["dataloader"] = {**content["dataloader"], "workers": 0}
    if len(groups) > 1:
        transforms = [_preprocessing(group[0]) for group in groups]
        evaluator = {key: value for key, value in content["evaluator"].items() if key not in ("_target_", "inferer")}
        changed |= {
            "network": target(torch.nn.ModuleList, modules=networks),
            "inferer": inferers,
            "preprocessing": target(SeveralPreprocessings, transforms=transforms),
            "evaluator": target(EnsembleEvaluator, inferers=Code("@inferer"), **evaluator),
        }
    model = {"name": "ensemble", "members": ", ".join(member.name for member in ordered)}  # in every mask's sidecar
    steps = {name: {**step, "model": model} if "model" in step else step for name, step in content["steps"].items()}
    if spread:
        changed["maps"] = {**content["maps"], "members": len(members)}
        steps["maps"] = {**steps["maps"], "members": [len(group) for group in groups]}
        steps = {"moments": target(SplitMomentsd, labels=Code("@labels")), **steps}
    postprocessing = {**content["postprocessing"], "transforms": [Code(f"@steps#{name}") for name in steps]}
    return {**content, **changed, "steps": steps, "postprocessing": postprocessing}


def _preprocessing(member: Trained) -> Component:
    finder = None if member.finder is None else str(member.finder.weights.resolve())
    return preprocessing(member.config, member.facts, finder=finder)


def _network(member: Trained) -> Component:
    return parts.placed(member.config, checked(parts.network(member.config, member.facts)))


def _groups(members: Sequence[Trained]) -> list[list[Trained]]:
    """Members that see an image alike, in the order of the first of each."""
    found: dict[str, list[Trained]] = {}
    for member in members:
        grid: dict[str, Any] = member.config.preprocessing.model_dump(mode="json")
        grid["spatial_dims"] = member.config.network.spatial_dims
        grid["slices"] = member.config.data.context is not None
        grid["finder"] = None if member.finder is None else str(member.finder.folder)  # each finds another region
        found.setdefault(json.dumps(grid), []).append(member)
    return list(found.values())


def _check(members: Sequence[Trained]) -> None:
    first, problems = members[0], []
    for member in members[1:]:
        for what, one, other in (
            ("channels", first.facts.channels, member.facts.channels),
            ("labels", _meaning(first), _meaning(member)),
            ("dimensions of the images", first.config.image_dims, member.config.image_dims),
        ):
            if one != other:
                remedy = "the members of an ensemble predict the same targets from the same channels"
                problems.append(Problem(str(member.folder), f"{what} {other}, but {one} in {first.folder}", remedy))
        for key, rules in READ_ALIKE.items():
            one, other = ({name: getattr(reading_rules(run.config), name) for name in rules} for run in (first, member))
            if one != other:
                what = f"reads images by data.{key} {_rules(other)}, but {first.folder} by {_rules(one)}"
                remedy = "the members of an ensemble read an image alike: give runs that say the same of it"
                problems.append(Problem(str(member.folder), what, remedy))
    if len(_groups(members)) > 1 and first.config.inference.crf is not None:
        what = "inference.crf needs one grid, but the members see images on different ones"
        problems.append(
            Problem(str(first.folder), what, "give a run without it first, or members with one preprocessing")
        )
    if problems:
        raise RunError(problems)


def _rules(said: dict[str, Any]) -> str:
    values = [str(list(value) if isinstance(value, tuple) else value) for value in said.values() if value is not None]
    return ", ".join(values) or "null"


def _meaning(member: Trained) -> dict[str, Any]:
    return {key: value for key, value in asdict(member.facts.labels).items() if key != "colours"}
