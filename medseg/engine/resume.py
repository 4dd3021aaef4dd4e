"""Checkpoints: a killed run, started again with the same command, ends in the same weights.

Every random draw of training is a function of (seed, epoch, sample), so a checkpoint needs no generator states:
weights, optimiser, loss scaler, epoch, minutes, best metric and history are all there is. Files are written beside
their place, flushed and renamed, and hold only tensors and plain types (they load with `weights_only=True`).
"""

from __future__ import annotations

import signal
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from medseg.core.errors import Problem, RunError
from medseg.core.files import readable, replacing
from medseg.core.foreign import lacks_memory
from medseg.core.stopping import Interrupted, asked
from medseg.engine.checkpoint import check_optimizer, check_progress
from medseg.engine.device import Largest, in_first_process, rank
from medseg.engine.seal import is_sound, save_sealed
from medseg.engine.trainer import Continued
from medseg.networks.tensors import Unreadable, read_tensors

CHECKPOINT, MODEL, HISTORY = "checkpoint.pt", "model.pt", "history.csv"
START = Path("models") / "start.pt"  # what a run begins with that goes on from another one
ANOTHER = "put the file of weights of this run back"


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` with a digest, so that a reader (or a crash) finds the old file or the new, never half of one."""
    with replacing(path, durable=True) as writing, writing.open("wb") as file:
        save_sealed(content, file)


def load_safely(path: Path, device: torch.device | str = "cpu") -> Any:
    """Load tensors and plain types.

    Raises:
        RunError: no such file, a truncated or foreign file, one that holds pickled objects, or one of medseg's that has
            changed since it was written, by as little as a bit.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such file", "train first, or start anew with --restart")
    try:
        if is_sound(path) is False and zipfile.is_zipfile(path):
            raise Unreadable(f"damaged ({path.stat().st_size} bytes): its content is not that of its digest")
        return read_tensors(path, device)
    except Unreadable as error:
        remedy = error.remedy or "restore the file from a copy, or start anew with --restart"
        raise RunError(Problem(str(path), error.what, remedy)) from error


def load_weights(network: torch.nn.Module, path: Path | str, device: torch.device | str = "cpu") -> torch.nn.Module:
    """Load a state dict into `network`.

    Raises:
        RunError: the file is damaged, or its tensors are not those of the network (what differs is said).
    """
    state = load_named(Path(path), device)
    _check_fit(network, state, Path(path))
    network.load_state_dict(state)
    return network


def load_named(path: Path, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """The tensors of a file by their names; raises RunError as `load_safely`, and where it holds anything else."""
    state = load_safely(path, device)
    if isinstance(state, dict) and {"network", "optimizer"} <= state.keys():
        raise RunError(Problem(str(path), "is a checkpoint, not weights alone", f"give {MODEL} of that run"))
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise RunError(Problem(str(path), f"holds a {type(state).__name__}, not named tensors", ANOTHER))
    if other := next((name for name, value in state.items() if not torch.is_tensor(value)), None):
        what = f"holds a {type(state[other]).__name__} as {other[:100]!r}, where a tensor is expected"
        raise RunError(Problem(str(path), what, ANOTHER))
    return state


def _check_fit(network: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Raises RunError where names or shapes are not those of the network."""
    own = network.state_dict()
    differences = [f"missing {name}" for name in own.keys() - state.keys()]
    differences += [f"unexpected {name}" for name in state.keys() - own.keys()]
    both = own.keys() & state.keys()
    differences += [
        f"{name} is {tuple(state[name].shape)}, the network's is {tuple(own[name].shape)}"
        for name in both
        if own[name].shape != state[name].shape
    ]
    differences += [f"{name} is of type {state[name].dtype}" for name in both if not _alike(own[name], state[name])]
    if differences:
        more = f" (and {len(differences) - 5} more)" if len(differences) > 5 else ""
        what = f"these are not the weights of this network: {'; '.join(sorted(differences)[:5])}{more}"
        raise RunError(Problem(str(path), what, "use the config that the weights were trained with"))


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether both are weights, or both are counters: PyTorch would take the one for the other."""
    return one.is_floating_point() == other.is_floating_point() and one.layout == other.layout


def with_start(network: torch.nn.Module, file: str, unless: str) -> torch.nn.Module:
    """The network itself, with the tensors of the file in the place of its own of their names.

    Args:
        unless: a checkpoint. Where it exists its weights are about to replace all others, and nothing is loaded.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    if not Path(unless).exists():
        state = load_named(Path(file))
        _check_fit(network, {**network.state_dict(), **state}, Path(file))
        network.load_state_dict(state, strict=False)
    return network


@contextmanager
def _of_this_run(path: Path) -> Iterator[None]:
    """Inside it whatever a checkpoint of another program, version or optimizer leads to says that it is one."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        if lacks_memory(error) is not None:
            raise
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0][:200]
        what = f"is no checkpoint of this run, or of another version: {said}"
        raise RunError(Problem(str(path), what, "put the run's own back, or start anew with --restart")) from error


class BestWeights:
    """Load `model.pt` into the network of an evaluator when it starts.

    Args:
        path: a state dict.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Any) -> None:
        """Raises RunError when the file is missing, damaged, or of another network."""
        load_weights(engine.network, self.path, engine.state.device)


class Checkpoints:
    """Save everything after each epoch; load it when the trainer starts; keep weights in `model.pt`.

    These are those of the best validation, and until there is one the newest. When a budget in minutes is used up,
    the last weights take their place, unless they are worse by more than a standard error (`surpasses`): the learning
    rate has come down to them, and the best of many validations of a few cases owes a part of its lead to chance.

    Attach it last, so that a checkpoint holds the epoch's metric and history too.

    Args:
        folder: `models/` of the run.
        validator: the engine whose `best_metric` decides about `model.pt`; None: the last epoch's weights.
        early_stop_epochs: end the run after so many epochs without a better metric, or None.
    """

    def __init__(self, folder: str, validator: Any = None, early_stop_epochs: int | None = None) -> None:
        self.folder, self.validator, self.early_stop_epochs = Path(folder), validator, early_stop_epochs
        self._best_scores: list[float] = []  # of each case, by the weights in `model.pt`
        self._asked = Largest()

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.ITERATION_STARTED, self.ask_all)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.stop_if_asked)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Any) -> None:
        """Continue from the checkpoint; without one this must be a new run.

        Raises:
            RunError: the checkpoint is damaged, or missing although the run has begun.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            if (self.folder / MODEL).exists() and self._has_finished_epochs():
                raise RunError(
                    f"{path}: missing, though {MODEL} beside it shows that this run has begun",
                    "restore the checkpoint, or start anew with --restart",
                )
            return
        state = load_safely(path, engine.state.device)
        with _of_this_run(path):
            _check_fit(engine.network, state["network"], path)
            check_progress(state)
            check_optimizer(engine.optimizer, state["optimizer"])
            self._go_on(engine, state)
        if engine.budget.is_over or self._is_stale(engine):
            engine.terminate()

    def _go_on(self, engine: Any, state: dict[str, Any]) -> None:
        """All is as when the checkpoint was written."""
        engine.network.load_state_dict(state["network"])
        engine.optimizer.load_state_dict(state["optimizer"])
        engine.gradient_scaler.load_state_dict(state["scaler"])
        if engine.average is not None:
            engine.average.load_state_dict(state["average"])
        if self.validator is not None:
            self.validator.state.best_metric = state["best_metric"]
            self.validator.state.best_metric_epoch = state["best_epoch"]
            self.validator.state.epoch = state.get("validated_epoch", state["epoch"])
            self._best_scores = state.get("best_scores", [])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        if (begun := state.get("begun")) is not None:
            engine.continued = Continued(**begun)
            engine.state.iteration += engine.continued.steps
        engine.state.history = state["history"]
        engine.budget.load_state_dict(state)
        engine.budget.iterations = engine.state.iteration
        engine.saved = _in_words(engine, state)

    def _has_finished_epochs(self) -> bool:
        """Whether more than one epoch is told of: a run that stops between the files of its first has one row."""
        history = self.folder.parent / HISTORY
        return not history.exists() or len(readable(history).read_text(encoding="utf-8").splitlines()) > 2

    def save(self, engine: Any) -> None:
        """Write `model.pt` when this epoch is the best so far, then the checkpoint; maybe stop early."""
        keeps = self._keeps(engine)
        if rank() == 0 and (keeps or not (self.folder / MODEL).exists()):
            weights = engine.network if engine.average is None else engine.average.module
            save_atomically(weights.state_dict(), self.folder / MODEL)
        self._save(engine, engine.state.epoch)
        if self._is_stale(engine):
            engine.terminate()
        else:
            self.ask_all(engine)
            if by := self._asked.answer():
                raise Interrupted(signal.Signals(by))

    def ask_all(self, engine: Any) -> None:
        """Let all processes know whether a signal asks this one to stop; they hear of it when they ask for the answer.

        A step is computed meanwhile, so it costs no time; and all of them leave after the same one.
        """
        self._asked.ask(asked() or 0)

    def stop_if_asked(self, engine: Any) -> None:
        """Where a signal asked any process to stop, save this step, and stop; an epoch at its last one is ended first.

        Raises:
            Interrupted: by the signal.
        """
        by, steps = self._asked.answer(), engine.state.iteration % engine.state.epoch_length
        if not by or not steps or engine.should_terminate_single_epoch:
            return
        self._save(engine, engine.state.epoch - 1, {"begun": asdict(engine.progress_made())})
        in_first_process(lambda: None)  # who leaves earlier would have the first one ended while it saves
        raise Interrupted(signal.Signals(by))

    def _save(self, engine: Any, epoch: int, begun: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint, in the first process.

        Args:
            epoch: the last that was finished.
            begun: of an epoch behind it.
        """
        best, best_epoch, validated_epoch = -1.0, epoch, 0
        if (validator := self.validator) is not None:
            best, best_epoch = validator.state.best_metric, validator.state.best_metric_epoch
            validated_epoch = validator.state.epoch
        state = {
            "network": engine.network.state_dict(),
            "optimizer": engine.optimizer.state_dict(),
            "scaler": engine.gradient_scaler.state_dict(),
            "average": None if engine.average is None else engine.average.state_dict(),
            "epoch": epoch,
            **engine.budget.state_dict(),
            "best_metric": best,
            "best_epoch": best_epoch,
            "best_scores": self._best_scores,
            "validated_epoch": validated_epoch,
            "history": engine.state.history,
            **(begun or {}),
        }
        if rank() == 0:
            save_atomically(state, self.folder / CHECKPOINT)
        engine.saved = _in_words(engine, state)

    def _keeps(self, engine: Any) -> bool:
        """Whether the weights of this epoch are the best, or take their place."""
        if self.validator is None:
            return True
        state, epoch = self.validator.state, engine.state.epoch
        if state.best_metric_epoch != epoch:
            if state.best_metric_epoch < 1:
                return True
            if engine.budget.allowance is None or not engine.should_terminate:
                return False
            if state.epoch != epoch:  # there was no time left to validate: the next validation begins a new comparison
                state.best_metric, state.best_metric_epoch, self._best_scores = -1.0, -1, []
                return True
            if surpasses(self._best_scores, state.case_scores):
                return False
            state.best_metric, state.best_metric_epoch = state.metrics[state.key_metric_name], epoch
        self._best_scores = list(state.case_scores)
        return True

    def _is_stale(self, engine: Any) -> bool:
        if self.early_stop_epochs is None or self.validator is None:
            return False
        best_epoch = self.validator.state.best_metric_epoch
        if engine.budget.allowance is None:
            return engine.state.epoch - best_epoch >= self.early_stop_epochs
        # validations are as rare as the minutes ask for: only one that was no better speaks against going on
        return best_epoch > 0 and self.validator.state.epoch - best_epoch >= self.early_stop_epochs


def _in_words(engine: Any, state: Mapping[str, Any]) -> str:
    """What a checkpoint holds, for a person."""
    steps = f" and {begun['steps']} of {engine.state.epoch_length} steps" if (begun := state.get("begun")) else ""
    return f"{state['epoch']} epochs{steps} of training"


def surpasses(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether scores are better than others of the same cases by more than one standard error of the difference.

    It is the margin of Breiman et al. (1984), who prefer the simpler of two models in cross-validation by it. Two cases
    at least have to say so.
    """
    if len(one) != len(other) or len(one) < 2:
        return False
    differences = torch.tensor(one, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
    return bool(differences.mean() > differences.std() / len(one) ** 0.5)
