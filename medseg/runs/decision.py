"""What `medseg postprocess` decided, in `postprocessing.json` of a folder of folds and of each of its folds.

It is one decision, so the one file in the folder makes it, for all folds in there; what stands in a fold is a copy for
who moves the fold elsewhere. So no moment lies between two folds that are cleaned otherwise.

`predict` and `evaluate` add it to what the run's config asks for; `--no-postprocess` leaves it out.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg.bundle.facts import DataFacts
from medseg.bundle.trained import Trained
from medseg.config.crf import CRFConfig
from medseg.config.postprocess import PostprocessConfig, in_words, with_step
from medseg.config.schema import Config
from medseg.config.section import Section
from medseg.core.errors import Problem, RunError, did_you_mean
from medseg.core.files import replace_file
from medseg.core.sealed import sealed
from medseg.core.stored import read_stored
from medseg.data.splits.folds import FOLDS_FILE
from medseg.engine.device import speaks
from medseg.runs.folder import DECISION_FILE, read_run
from medseg.runs.folds import FOLD

SCHEMA = "medseg-postprocessing/1"
REMEDY = "run medseg postprocess again, or remove the file"


class Decision(Section):
    """The steps that are kept, and the evidence for and against every one."""

    schema_name: Literal["medseg-postprocessing/1"] = Field(alias="schema")
    steps: PostprocessConfig = PostprocessConfig()
    crf: CRFConfig | None = None
    evidence: dict[str, Any] = Field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        return not self.steps.cleaning and self.crf is None

    def words(self) -> str:
        crf = [] if self.crf is None else [f"dense CRF ({self.crf.parameters})"]
        return ", ".join([*crf, *map(str, self.steps.steps)]) or "nothing"

    def write(self, folder: Path) -> None:
        replace_file(folder / DECISION_FILE, sealed(json.loads(self.model_dump_json(by_alias=True))))


def read_decision(folder: Path, facts: DataFacts) -> Decision | None:
    """The decision in a folder; None if there is none.

    Raises:
        RunError: the file is damaged, of another kind, or names a target that the run does not have.
    """
    path = _decided_in(folder) / DECISION_FILE
    if not path.is_file():
        return None
    decision = read_stored(path, Decision, "no decision of medseg postprocess", REMEDY)
    targets = facts.labels.targets
    unknown = dict.fromkeys(name for _, name in decision.steps.named() if name not in targets)
    if unknown:
        raise RunError(
            [Problem(str(path), f"no target {n!r}", f"{did_you_mean(n, targets)} {REMEDY}") for n in unknown]
        )
    return decision


def _decided_in(folder: Path) -> Path:
    """Where the decision for a run stands: in its folder of folds, where that has one, else in its own."""
    together = folder.absolute().parent
    is_fold = FOLD.fullmatch(folder.absolute().name) is not None and (together / FOLDS_FILE).is_file()
    return together if is_fold and (together / DECISION_FILE).is_file() else folder


def read_decided(run: Path, postprocess: bool = True) -> Trained:
    """As `read_run`, with the decision in the folder, if any, added to `inference`; what the config asks for stays.

    Args:
        postprocess: False leaves the decision out.
    """
    trained = read_run(run)
    decision = read_decision(run, trained.facts) if postprocess else None
    if decision is None or decision.nothing:
        return trained
    inference = trained.config.inference
    asked = {(step.kind, step.target) for step in inference.steps}
    for step in decision.steps.steps:
        if (step.kind, step.target) not in asked:
            inference = with_step(inference, step)
    if inference.crf is None:
        inference = inference.model_copy(update={"crf": decision.crf})
    return replace(trained, config=trained.config.model_copy(update={"inference": inference}))


def say_cleaning(config: Config) -> None:
    """Say in the log what is done to every mask, if anything is."""
    if config.inference.cleaning and speaks():
        print(f"masks are cleaned: {in_words(config.inference.cleaning)}")
