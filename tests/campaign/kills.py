"""The same command goes on, from every moment: it is killed before the n-th change of the disk, and given again.

A process that has imported everything, and has one thread, forks a child for each command (`python -m` would take
seconds). The child dies by SIGKILL before its n-th operation (`operations.py`); another child runs the same command to
its end; and what stands on disk then is compared with the end of a run that was never killed (`same.py`).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.campaign.entry import ROOT, tree, use
from tests.campaign.operations import Operations
from tests.campaign.rows import Row
from tests.campaign.same import differences

SECTION = "kills"
SAMPLE = 60
LIMIT = 120  # seconds of a command
TINY: dict[str, Any] = {
    "network.widths": [2, 4],
    "training.patch_size": [8, 8, 8],
    "training.max_epochs": 2,
    "training.iterations_per_epoch": 1,
    "training.batch_size": 2,
    "training.workers": 0,
    "data.folds": 2,
}
ROLES = {  # what of a path is not its role
    r"fold_\d+": "FOLD",
    r"\.writing-[^/]+": "UNFINISHED",
    r"configs/\w+\.(yaml|json|conf)": "configs/FILE",
    r"docs/\w+\.\w+": "docs/FILE",
    r"[0-9a-f]{32}\.(image|label|voxels)\.npy": "ARRAY",
    r"[0-9a-f]{32}\.json": "ENTRY",
    r"\w+_\d+((_\w+)?\.nii\.gz|\.json)": r"CASE\1",
    r"events\.out\..*": "EVENTS",
}
STEPS = {"half": "write", "close": "write", "fsync": "write"}  # moments of one kind


@dataclass(frozen=True)
class Verb:
    """A command, and what stands in its folder before.

    Args:
        name: in the table.
        arguments: after `medseg`.
        before: a folder that is copied; None: nothing.
    """

    name: str
    arguments: tuple[str, ...]
    before: Path | None = None


@dataclass
class Reference:
    """The end of a verb that was never killed, and the operations on the way."""

    verb: Verb
    end: Path
    operations: list[str]
    seconds: float

    def kinds(self) -> dict[str, list[int]]:
        """Kind -> numbers of the operations, from 1."""
        found: dict[str, list[int]] = {}
        for number, operation in enumerate(self.operations, 1):
            found.setdefault(kind_of(operation), []).append(number)
        return found


@dataclass
class Bench:
    """The folder of all trials: data, the commands' folder `now`, and the ends to compare with."""

    folder: Path
    verbs: dict[str, Reference] = field(default_factory=dict)

    @property
    def now(self) -> Path:
        return self.folder / "now"

    def prepare(self) -> None:
        """Make the data, import all that a training needs, and run every verb once to its end."""
        from tests.conftest import write_msd

        shutil.rmtree(self.folder, ignore_errors=True)
        self.now.mkdir(parents=True)
        data = write_msd(self.folder / "data", cases=4, shape=(8, 8, 8), unlabelled=2)
        (self.folder / "tiny.yaml").write_text("name: tiny\n")
        changes = [f"{key}={value}" for key, value in {**TINY, "data.root": data}.items()]
        sets = [word for change in changes for word in ("--set", change)]
        run = str(self.now / "run")
        train = ("train", "--config", str(self.folder / "tiny.yaml"), "--run", run, *sets)
        self._warm(train)
        trained = self._reference(Verb("train", train)).end
        folds = self._reference(Verb("train --fold all", (*train, "--fold", "all"))).end
        bare = self.folder / "bare"
        copy(trained, bare)
        shutil.rmtree(bare / "run" / "eval")
        self._reference(Verb("evaluate", ("evaluate", "--run", run), bare))
        self._reference(Verb("evaluate (folds)", ("evaluate", "--run", run), folds))
        undecided = self.folder / "undecided"
        copy(folds, undecided)
        for file in undecided.rglob("postprocessing.json"):
            file.unlink()
        self._reference(Verb("postprocess", ("postprocess", "--run", run), undecided))
        out = ("--input", str(data / "imagesTs"), "--output", str(self.now / "out"), "--uncertainty")
        self._reference(Verb("predict", ("predict", "--run", run, *out), trained))

    def _warm(self, arguments: Sequence[str]) -> None:
        """Import what a command imports; it runs in a child, since it would leave threads behind."""
        names = self.folder / "modules.json"
        self.run(arguments, modules=names)
        for name in json.loads(names.read_text()):
            if name not in sys.modules:
                try:
                    import_module(name)
                except Exception:  # a part of a module that is never imported by its name
                    continue
        if len(os.listdir("/proc/self/task")) != 1:
            raise RuntimeError("the process that forks has several threads")

    def begin(self, verb: Verb) -> None:
        """The folder as it is before the verb."""
        shutil.rmtree(self.now)
        if verb.before is None:
            self.now.mkdir()
        else:
            copy(verb.before, self.now)

    def _reference(self, verb: Verb) -> Reference:
        self.begin(verb)
        began = time.monotonic()
        code = self.run(verb.arguments)
        if code != 0:
            raise RuntimeError(f"medseg {' '.join(verb.arguments)} ended with {code}:\n{self.said()}")
        end = self.folder / "ends" / re.sub(r"\W+", "-", verb.name)
        end.parent.mkdir(exist_ok=True)
        copy(self.now, end)
        found = Reference(verb, end, self.done(), time.monotonic() - began)
        self.verbs[verb.name] = found
        return found

    def done(self) -> list[str]:
        """The operations of the last command, each with its path."""
        return (self.folder / "operations").read_text().splitlines()

    def said(self) -> str:
        """What the last command printed."""
        return (self.folder / "said").read_text(errors="replace")

    def run(self, arguments: Sequence[str], last: int | None = None, modules: Path | None = None) -> int:
        """`medseg ARGUMENTS` in a child, killed before its operation `last`; the exit code, -9 of who was killed."""
        child = os.fork()
        if child == 0:
            self._be(arguments, last, modules)
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return 124

    def _be(self, arguments: Sequence[str], last: int | None, modules: Path | None) -> None:
        """The child: never comes back."""
        code = 99
        try:
            said = os.open(self.folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(said, stream)
            log = os.open(self.folder / "operations", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            Operations(self.now, lambda what, path: os.write(log, f"{what} {path}\n".encode()), last).begin()
            code = command(arguments)
            if modules is not None:
                modules.write_text(json.dumps(sorted(sys.modules)))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def trial(self, name: str, number: int) -> str | None:
        """Kill a verb before an operation, run it again, and compare; what is wrong, or None."""
        reference = self.verbs[name]
        self.begin(reference.verb)
        code = self.run(reference.verb.arguments, last=number)
        at = f"{name}, before operation {number} ({self.done()[-1]})"
        if code not in (-9, 0):
            return f"{at}: ended with {code}: {_tail(self.said())}"
        if (code := self.run(reference.verb.arguments)) != 0:
            return f"{at}: the same command ended with {code}: {_tail(self.said())}"
        wrong = differences(reference.end, self.now)
        return f"{at}: {'; '.join(wrong[:4])}" if wrong else None


def command(arguments: Sequence[str]) -> int:
    """`medseg ARGUMENTS`, with pictures that are not drawn, since drawing takes most of its time."""
    from matplotlib.figure import Figure

    from medseg.cli import main

    Figure.savefig = _not_drawn  # type: ignore[method-assign]
    sys.argv = ["medseg", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _not_drawn(figure: Any, file: Any, *, format: str = "png", **options: Any) -> None:
    """In the place of `Figure.savefig`: a point of one colour."""
    from PIL import Image

    if format == "svg":
        file.write("<?xml?>\n<svg></svg>")
    else:
        Image.new("RGB", (1, 1)).save(file, format)


def copy(source: Path, place: Path) -> None:
    """The whole folder: times, and which files are one, stay."""
    subprocess.run(["cp", "-a", str(source), str(place)], check=True)


def kind_of(operation: str) -> str:
    """What happens, and to which file: the same for every folder that it may lie in, fold, case, array and process."""
    what, path = operation.split(" ", 1)
    for pattern, role in ROLES.items():
        path = re.sub(pattern, role, path)
    return f"{STEPS.get(what, what)} {path.rsplit('/', 1)[-1]}"


def _tail(text: str) -> str:
    return " | ".join(line for line in text.splitlines()[-6:] if line)[-600:]


def sample(references: Iterable[Reference], count: int, seed: int) -> list[tuple[str, int]]:
    """Pairs (verb, operation): one of each kind, by the verb that takes least, each verb's last file but one, which it
    is nearly at its end with, and drawn ones up to `count`."""
    draw = random.Random(seed)
    cheapest = sorted(references, key=lambda one: one.seconds)
    chosen: dict[tuple[str, int], None] = {}
    seen: set[str] = set()
    for reference in cheapest:
        for kind, numbers in reference.kinds().items():
            if kind not in seen:
                seen.add(kind)
                chosen[reference.verb.name, draw.choice(numbers)] = None
        renamed = [number for number, one in enumerate(reference.operations, 1) if one.startswith("rename ")]
        chosen[reference.verb.name, renamed[-2:][0]] = None
    others = [point for point in every(cheapest) if point not in chosen]
    draw.shuffle(others)
    return [*chosen, *others[: max(0, count - len(chosen))]]


def every(references: Iterable[Reference]) -> list[tuple[str, int]]:
    """All pairs (verb, operation)."""
    return [(one.verb.name, number) for one in references for number in range(1, len(one.operations) + 1)]


def _trials(seed: int, minutes: float, full: bool, folder: Path) -> Iterator[Row]:
    bench = Bench(folder)
    began = time.monotonic()
    bench.prepare()
    points = every(bench.verbs.values()) if full else sample(bench.verbs.values(), SAMPLE, seed)
    results: dict[str, list[str | None]] = {}
    for name, number in points:
        if not full and time.monotonic() - began > 60 * minutes:
            break
        results.setdefault(name, []).append(bench.trial(name, number))
    for name, found in results.items():
        wrong = [one for one in found if one is not None]
        of = len(bench.verbs[name].operations)
        yield Row(SECTION, f"{name}: killed before one of {of} operations", len(found), len(wrong), tuple(wrong))


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    """A row a verb.

    Args:
        seed: of the sample: a point of each kind, and drawn ones.
        minutes: no trial begins later.
        full: every point, however long it takes.
        folder: for all that is written; emptied first.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.campaign.kills", *map(str, (seed, minutes, int(full), folder, tree()))]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the process of the trials ended with {done.returncode}:\n{done.stderr}")
    return [Row(**{**row, "examples": tuple(row["examples"])}) for row in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    use(Path(sys.argv[5]))
    rows = _trials(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "1", Path(sys.argv[4]).resolve())
    print(json.dumps([asdict(row) for row in rows]))
