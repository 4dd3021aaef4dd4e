"""An ensemble -> bundle: the first member's evaluation or inference, with the networks of all in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medseg.bundle import components as parts
from medseg.bundle.compile import compile_evaluation, compile_inference
from medseg.bundle.components import Component, target
from medseg.bundle.facts import DataFacts
from medseg.bundle.write import LOGGING, to_yaml
from medseg.config.schema import Config
from medseg.core.errors import Problem, RunError
from medseg.core.files import replace_file
from medseg.data.cases.dataset import named_cases
from medseg.engine import device as hardware
from medseg.engine.ensemble import EnsembleEvaluator, MemberWeights, SeveralPreprocessings
from medseg.engine.maps import SaveMapsd, SplitMomentsd
from medseg.inference.ensemble import EnsembleInferer


@dataclass(frozen=True)
class Member:
    """A trained run: its config, what its data are, and its weights."""

    run: Path
    config: Config
    facts: DataFacts

    @property
    def weights(self) -> Path:
        return self.run / "models" / "model.pt"


def write_ensemble(members: Sequence[Member], *, output: Path, cases: Sequence[str] | None = None) -> Path:
    """Compile the members into a bundle in `output`: `configs/inference.yaml` and `configs/evaluate.yaml`.

    Members with the same preprocessing see an image once and their logits are averaged as they come; members with
    another one are averaged on the file's own grid. Postprocessing and evaluation are those of the first member.

    Args:
        cases: those that `evaluate.yaml` scores; None: all.

    Raises:
        RunError: the members do not predict the same targets from the same channels, or ask for what an ensemble on
            several grids cannot do.
    """
    _check(members)
    first, root = members[0], str(output)
    contents = {
        "inference": compile_inference(first.config, facts=first.facts, bundle_root=root),
        "evaluate": compile_evaluation(first.config, facts=first.facts, bundle_root=root),
    }
    listed: Component = {"root": "@dataset_dir", "layout": first.config.data.layout}
    names = None if cases is None else list(cases)
    contents["evaluate"]["dataset"]["data"] = target(hardware.shard, cases=target(named_cases, **listed, names=names))
    for name, content in contents.items():
        replace_file(output / "configs" / f"{name}.yaml", to_yaml(_with_members(content, members)))
    replace_file(output / "configs" / "logging.conf", LOGGING)
    replace_file(output / "configs" / "metadata.json", "{}\n")
    return output


def _with_members(content: Component, members: Sequence[Member]) -> Component:
    groups = _groups(members)
    ordered = [member for group in groups for member in group]
    networks = [target(torch.nn.ModuleList, modules=[_network(member) for member in group]) for group in groups]
    spread = "maps" in content and len(members) > 1
    moments: Component = {"moments": "@uncertainty", "labels": "@labels"} if spread else {}
    inferers = [
        target(EnsembleInferer, inferers=[parts.inferer(m.config) for m in group], **moments) for group in groups
    ]
    evaluator = {key: value for key, value in content["evaluator"].items() if key not in ("_target_", "inferer")}
    changed: Component = {
        "network": networks[0],
        "inferer": inferers[0],
        "handlers": [
            target(MemberWeights, paths=[str(m.weights.resolve()) for m in ordered]),
            *content["handlers"][1:],
        ],
    }
    if len(groups) > 1:
        transforms = [parts.preprocessing(group[0].config, group[0].facts) for group in groups]
        changed |= {
            "network": target(torch.nn.ModuleList, modules=networks),
            "inferer": inferers,
            "preprocessing": target(SeveralPreprocessings, transforms=transforms),
            "evaluator": target(EnsembleEvaluator, inferers="@inferer", **evaluator),
        }
    merged = {**content, **changed}
    steps = [dict(step) for step in merged["postprocessing"]["transforms"]]
    for step in steps:
        if "model" in step:  # into the sidecar of every mask
            step["model"] = {"name": "ensemble", "members": ", ".join(_name(member) for member in ordered)}
        if step["_target_"] == target(SaveMapsd)["_target_"]:
            step["members"] = [len(group) for group in groups]
    if spread:
        merged["maps"] = {**content["maps"], "members": len(members)}
        steps.insert(0, target(SplitMomentsd, labels="@labels"))
    return {**merged, "postprocessing": {**merged["postprocessing"], "transforms": steps}}


def _network(member: Member) -> Component:
    channels = (len(member.facts.channels), len(member.facts.labels.channels))
    dims = member.config.network.spatial_dims
    built = parts.network(member.config, *channels)
    return target(hardware.place, network=built, device="@device", spatial_dims=dims)


def _groups(members: Sequence[Member]) -> list[list[Member]]:
    """Members that see an image alike, in the order of the first of each."""
    found: dict[str, list[Member]] = {}
    for member in members:
        grid: dict[str, Any] = member.config.preprocessing.model_dump(mode="json")
        grid["spatial_dims"] = member.config.network.spatial_dims
        found.setdefault(json.dumps(grid), []).append(member)
    return list(found.values())


def _check(members: Sequence[Member]) -> None:
    first, problems = members[0], []
    for member in members[1:]:
        for what, one, other in (
            ("channels", first.facts.channels, member.facts.channels),
            ("labels", _meaning(first), _meaning(member)),
            ("spatial_dims", first.config.network.spatial_dims, member.config.network.spatial_dims),
        ):
            if one != other:
                remedy = "the members of an ensemble predict the same targets from the same channels"
                problems.append(Problem(str(member.run), f"{what} {other}, but {one} in {first.run}", remedy))
    if len(_groups(members)) > 1 and first.config.inference.crf is not None:
        what = "inference.crf needs one grid, but the members see images on different ones"
        problems.append(Problem(str(first.run), what, "give a run without it first, or members with one preprocessing"))
    if problems:
        raise RunError(problems)


def _meaning(member: Member) -> dict[str, Any]:
    return {key: value for key, value in asdict(member.facts.labels).items() if key != "colours"}


def _name(member: Member) -> str:
    fold = member.config.data.fold
    return member.config.name if fold is None else f"{member.config.name} fold {fold}"
