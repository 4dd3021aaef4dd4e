"""nnU-Net's own trainer, in nnU-Net's Python, until the minutes are over: a part of `nnunet.py`.

    PEERS/bin/python tests/bench/nnunet_trainer.py CONFIGURATION --minutes M --preprocessed DIR --said FILE [--bfloat16]

The learning rate follows the clock in the place of 1000 epochs, without its pauses to validate. `--bfloat16`: its
network in bfloat16 and channels last, which nnU-Net itself has on GPUs only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Theirs


class Trainer(Theirs):
    """Minutes count what medseg's do: steps, and waiting for their data."""

    minutes: float
    bfloat16: bool
    said: Path

    def run_training(self) -> None:
        self.on_train_start()
        self.network.train()
        is_flat = len(self.configuration_manager.patch_size) == 2
        self.layout = torch.channels_last if is_flat else torch.channels_last_3d
        if self.bfloat16:
            self.network.to(memory_format=self.layout)
        steps, seconds = 0, 0.0
        while seconds < 60 * self.minutes:
            begun = time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - seconds / (60 * self.minutes)) ** 0.9  # its PolyLRScheduler
            batch = next(self.dataloader_train)
            self.half_step(batch) if self.bfloat16 else self.train_step(batch)
            seconds += time.perf_counter() - begun
            steps += 1
        settings = {"patch": list(map(int, self.configuration_manager.patch_size)), "batch": int(self.batch_size)}
        self.said.write_text(json.dumps({"steps": steps, "training_seconds": round(seconds, 1), **settings}))
        self.on_train_end()

    def half_step(self, batch: dict[str, Any]) -> None:
        """Its `train_step` with the network in bfloat16 and channels last."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            output = self.network(batch["data"].contiguous(memory_format=self.layout))
        loss = self.loss([level.float() for level in output], batch["target"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", choices=("2d", "3d_fullres"))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--said", type=Path, required=True)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # all cores, as nnUNetv2_train takes on a CPU
    Trainer.minutes, Trainer.bfloat16, Trainer.said = options.minutes, options.bfloat16, options.said
    Trainer.__name__ = Theirs.__name__  # by which nnUNetv2_predict finds what it trained
    plans = json.loads((options.preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((options.preprocessed / "dataset.json").read_text())
    trainer = Trainer(plans, options.configuration, 0, description, torch.device("cpu"))
    trainer.initialize()
    trainer.run_training()


if __name__ == "__main__":
    main()
