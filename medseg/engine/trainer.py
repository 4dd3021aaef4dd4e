"""The training engine: one step, in any precision, on any device.

MONAI's own trainer hard-codes `torch.autocast("cuda")`; this one asks `engine.device` instead. Everything else
(handlers, events, state) is MONAI's `Trainer` and so Ignite's `Engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Trainer
from monai.inferers import Inferer
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from medseg.core.errors import RunError
from medseg.core.stopping import SIGNALS, Interrupted, patiently
from medseg.engine.budget import Budget
from medseg.engine.device import autocast, choose_precision, memory_format, to_device, world_size
from medseg.engine.memory import enough_memory

logging.getLogger("dev_collate").disabled = True  # MONAI repeats what fails there, with a line for each key
SMALLER_STEPS = (
    "make batch_size or patch_size smaller, as `medseg plan --memory-gib` does; "
    "or end what else uses the memory (of a GPU: nvidia-smi lists it)"
)


@dataclass(frozen=True)
class Continued:
    """An epoch that was left before its end.

    Args:
        steps: that were taken.
        loss_sum: of these, a scalar.
        progress: how much of the budget was used up when it began; None: now.
    """

    steps: int
    loss_sum: torch.Tensor
    progress: float | None = None


class SegmentationTrainer(Trainer):
    """Train `network` on batches `{"image": (B, C, *spatial), "label": (B, 1, *spatial), "sample": (B,)}`.

    Args:
        device: where to train.
        max_epochs: number of epochs, a checkpoint's included.
        train_data_loader: a loader; if its sampler has `set_epoch`, it is called before each epoch, and so is
            `set_progress` with the share of the budget that is used up.
        network: already on `device`, channels last.
        optimizer: of the network's parameters.
        loss_function: (output of the network, target) -> scalar.
        encode: label values -> target of the loss.
        inferer: how the network is applied to a batch.
        budget: learning rate and end of the run.
        augment: random changes of a batch, or None.
        average: an averaged copy of the network (`AveragedModel`) to update after every step, or None.
        precision: float32, bfloat16, float16 (with loss scaling, on a GPU) or auto.
        gradient_clip: largest norm of the gradient, 0 for no limit.
        seed: every step starts from generators seeded with it and the step's number, so a resumed run repeats it.
        compile: run the network through `torch.compile`.
        train_handlers: Ignite handlers, attached in their order.

    Raises:
        RunError: at the end of an epoch whose loss is not finite.
        OutOfMemory: a step does not fit the GPU, or the machine's memory.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[[Any, torch.Tensor], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        inferer: Inferer,
        budget: Budget,
        *,
        augment: Callable[[dict], dict] | None = None,
        average: torch.optim.swa_utils.AveragedModel | None = None,
        precision: str = "auto",
        gradient_clip: float = 0.0,
        seed: int = 0,
        compile: bool = False,
        train_handlers: Sequence[Any] = (),
    ) -> None:
        self.network, self.optimizer, self.loss_function = network, optimizer, loss_function
        self.encode, self.inferer, self.budget = encode, inferer, budget
        self.augment, self.average = augment, average
        self.gradient_clip, self.seed = gradient_clip, seed
        self.precision = choose_precision(precision, device)
        self.gradient_scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)
        self.forward = torch.compile(network) if compile else network
        if world_size() > 1:
            self.forward = DistributedDataParallel(self.forward)
        super().__init__(device, max_epochs, train_data_loader, non_blocking=True, decollate=False)
        self.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._average_loss)
        self.state.history = []  # a row an epoch, see `handlers.History`
        self.saved = ""  # in words, what a checkpoint holds
        self.continued: Continued | None = None
        self._register_handlers([budget, *train_handlers])

    def run(self) -> None:  # type: ignore[override]
        """Train to the end; a signal that asks to stop (see `core.stopping`) waits for the end of a step.

        Raises:
            Interrupted: by it, with what is saved.
        """
        try:
            with patiently(*SIGNALS):
                super().run()
        except Interrupted as stopped:
            stopped.saved = stopped.saved or self.saved
            raise

    def progress_made(self) -> Continued:
        """Of the epoch that is going on, what its rest has to know."""
        return Continued(self._steps, self._loss_sum.cpu(), self._progress)

    def _start_epoch(self, engine: Any) -> None:
        begun, self.continued = self.continued or Continued(0, torch.zeros(())), None
        sampler = getattr(self.data_loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.state.epoch - 1)
        if begun.steps and sampler is not None:
            sampler.skip(begun.steps)
        self.budget.agree(self)
        now = self.budget.progress(self, self.state.iteration)
        self._progress = now if begun.progress is None else begun.progress
        if sampler is not None and hasattr(sampler, "set_progress"):
            sampler.set_progress(self._progress)
        self._loss_sum = begun.loss_sum.to(self.state.device)
        self._steps = begun.steps

    def _iteration(self, engine: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        with enough_memory(SMALLER_STEPS):
            return self._step(batch)

    def _step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        device = self.state.device
        torch.manual_seed((self.seed * 1_000_003 + self.state.iteration) % 2**63)  # dropout
        batch = to_device(batch, device)
        if self.augment is not None:
            batch = self.augment(batch)
        image = batch["image"].contiguous(memory_format=memory_format(batch["image"].ndim - 2))
        target = self.encode(batch["label"])

        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(device, self.precision):
            logits = self.inferer(image, self.forward)
        loss = self.loss_function(logits, target)
        self.gradient_scaler.scale(loss).backward()
        if self.gradient_clip:
            self.gradient_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.gradient_scaler.step(self.optimizer)
        self.gradient_scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self._loss_sum += loss.detach()
        self._steps += 1
        return {"loss": loss.detach()}

    def _average_loss(self, engine: Any) -> None:
        loss = (self._loss_sum / max(self._steps, 1)).item()
        if not torch.isfinite(self._loss_sum):
            raise RunError(
                f"training diverged: the mean loss of epoch {self.state.epoch} is {loss}",
                "lower learning_rate, set gradient_clip, or compute in the precision float32; "
                "the checkpoint of the last good epoch is kept",
            )
        self.state.metrics["loss"] = loss
