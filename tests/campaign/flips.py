"""A single bit that changes in what medseg keeps: it is noticed, or the results are the same to the bit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

from tests.campaign.inputs import MAKERS, Home
from tests.campaign.results import differences, results
from tests.campaign.rows import Row

SECTION = "flips"
EACH, FULL = 20, 400
USUAL = 1.5  # minutes in which there are `EACH` of every kind
KINDS = {
    "model.pt": ("run/models/model.pt", ("predict",)),
    "checkpoint.pt": ("half/models/checkpoint.pt", ("go on",)),
    "cache": ("half/cache/*", ("go on",)),
    "masks of an evaluation": ("folds/fold_0/eval/masks*/*.nii.gz", ("evaluate folds", "postprocess")),
    "sidecars of an evaluation": ("folds/fold_0/eval/masks*/**/*.json", ("evaluate folds", "postprocess")),
    "split.json": ("run/split.json", ("evaluate",)),
    "files.json": ("run/files.json", ("evaluate",)),
    "data.json": ("run/data.json", ("predict", "evaluate")),
    "postprocessing.json": ("folds/fold_0/postprocessing.json", ("predict cleaned", "evaluate folds")),
    "splits.json": ("folds/splits.json", ("folds again", "postprocess")),
}
"""What holds the bit -> its files, and who reads them."""


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    trials = Trials(folder)
    each = FULL if full else min(EACH, round(EACH * minutes / USUAL))
    kinds = dict.fromkeys(KINDS, each) if each else dict.fromkeys(Random(seed).sample(list(KINDS), 3), 1)
    for kind, each in kinds.items():
        pattern, _ = KINDS[kind]
        if trials.home.found(pattern):  # an older tree has no such file
            yield Row.of(SECTION, kind, (trials.tried(kind, f"{seed}-{number}") for number in range(each)))


class Trials:
    """Flips, and what the same commands come to without them."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder, list(MAKERS))
        self.plain: dict[str, dict[str, str]] = {}

    def tried(self, kind: str, seed: str) -> str | None:
        """What went wrong with one flip; None: nothing."""
        pattern, verbs = KINDS[kind]
        random = Random(f"{kind}-{seed}")
        verb, name = random.choice(verbs), random.choice(self.home.found(pattern))
        if verb not in self.plain:
            self.plain[verb] = self._results(verb, None)[0]
        content = bytearray(self.home.content(name))
        bit = random.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        found, fault = self._results(verb, (name, bytes(content)))
        if fault is None and found and (other := [one for one in differences(found, self.plain[verb]) if one != name]):
            fault = f"silent: {', '.join(other[:3])}"
        return None if fault is None else f"{verb}, bit {bit} of {name}: {fault}"

    def _results(self, verb: str, changed: tuple[str, bytes] | None) -> tuple[dict[str, str], str | None]:
        """What the verb comes to (nothing, where it refuses), and what is wrong with how it ended."""
        place = self.home.fresh(verb, *(changed[:1] if changed else ()))
        if changed is not None:
            (place / changed[0]).write_bytes(changed[1])
        outcome = self.home.ask(verb)
        if changed is None and outcome.code != 0:
            raise RuntimeError(f"{verb}: exit {outcome.code}\n{outcome.err}")
        found = {} if outcome.code else results(place, verb)
        return found, outcome.fault
