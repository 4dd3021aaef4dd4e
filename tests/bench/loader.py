"""Pictures a second: what the loader gives of a config's training crops, against what the network takes.

    python tests/bench/loader.py CONFIG DATA [--seconds 10] [--workers N] [--set KEY=VALUE ...]

Both on this machine, one after the other, with the config's crops, batch size and precision. The cache is made first
(in a temporary folder) and does not count. The loader is timed alone, with as many workers as the config has (or
`--workers`), colours included where they are changed on the CPU; the network by whole training steps on a batch that is
there already. Exit code: 0 if the loader gives more than the network takes, else 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import describe_data
from medseg.config.load import load_config
from medseg.engine.device import autocast, choose_precision, memory_format


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("config")
    options.add_argument("data")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--workers", type=int)
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    given = options.parse_args()
    overrides = [f"data.root={Path(given.data).resolve()}", *given.overrides]
    if given.workers is not None:
        overrides.append(f"training.workers={given.workers}")
    config = load_config(given.config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        content = compile_training(config, facts=describe_data(config), bundle_root=folder)
        parser = ConfigParser(content | {"cache_dir": str(Path(folder) / "cache")})
        parser.get_parsed_content("train#cases").fill()
        loader, augment = parser.get_parsed_content("train#dataloader"), parser.get_parsed_content("train#augment")
        loaded = _loader_speed(loader, given.seconds)
        taken, augmented = _step_speed(parser, next(iter(loader)), augment, config.training.precision, given.seconds)
    size = " x ".join(map(str, config.training.patch_size))
    print(f"crops of {size}, {config.training.workers} workers, {torch.get_num_threads()} threads")
    print(f"loader          {loaded:8.1f} pictures/s")
    print(f"augmentation    {augmented:8.1f} pictures/s, on the device of the network")
    print(f"training step   {taken:8.1f} pictures/s: the loader gives {loaded / taken:.1f} times that")
    return 0 if loaded > taken else 1


def _loader_speed(loader: torch.utils.data.DataLoader, seconds: float) -> float:
    count, started = 0, None
    while True:
        for batch in loader:
            if started is None:  # the first batch waits for the workers to start
                started = time.perf_counter()
                continue
            count += len(batch["sample"])
            if time.perf_counter() - started > seconds:
                return count / (time.perf_counter() - started)


def _step_speed(
    parser: ConfigParser, batch: dict, augment: Callable | None, precision: str, seconds: float
) -> tuple[float, float]:
    """Pictures a second of whole steps on one batch, and of its augmentation alone."""
    device, network = parser.get_parsed_content("device"), parser.get_parsed_content("network")
    loss, optimizer = parser.get_parsed_content("loss"), parser.get_parsed_content("optimizer")
    encode, inferer = parser.get_parsed_content("train#trainer#encode"), parser.get_parsed_content("train#inferer")
    kind = choose_precision(precision, device)
    batch = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}
    pictures = len(batch["sample"])
    target = encode(batch["label"])
    network.train()

    def change() -> torch.Tensor:
        image = batch["image"] if augment is None else augment(batch)["image"]
        return image.contiguous(memory_format=memory_format(image.ndim - 2))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, kind):
            logits = inferer(change(), network)
        loss(logits, target).backward()
        optimizer.step()

    return pictures / _time_of(step, device, seconds), pictures / _time_of(change, device, seconds / 5)


def _time_of(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call, the mean over about `seconds`, after two calls that do not count."""
    for _ in range(2):
        work()
    times = 0
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or not times:
        work()
        times += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


if __name__ == "__main__":
    raise SystemExit(main())
