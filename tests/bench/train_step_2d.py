"""One training step in 2D against torchvision and segmentation-models-pytorch, in turns, on this machine's CPU.

    python tests/bench/train_step_2d.py [--batch 4] [--size 256] [--threads N] [--repeats 7] [--network NAME]

`deeplabv3`: on ResNet-50 with the auxiliary head, against torchvision's deeplabv3_resnet50 (aux_loss). `unet`: on
ResNet-34, against segmentation-models-pytorch's Unet. 3 channels, 21 classes, random weights; the same images and
labels. A step is forward, cross-entropy (and half of that of the auxiliary head), backward, and SGD with momentum.

Three sides: the peer in float32; medseg in float32; medseg in its default precision and memory format. Each is a
process of its own, and they take turns, step by step: a ratio is the median of the ratios of neighbouring steps. Memory
is how far the steps raise the process's peak (`ru_maxrss`) over what is resident before the first one. Targets: at most
1.05 in float32 (time and memory), and at most 0.6 of the peer's time by default on a CPU with AMX.

Exit code: 0 all targets met (the last one counts with AMX only), 1 one missed, 2 a peer is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

# The parent never imports torch: a child begins with its parent's peak memory.
CLASSES = 21
PARAMETERS = {"deeplabv3": 42_004_074, "unet": 24_439_269}
PEERS = {"deeplabv3": "torchvision", "unet": "segmentation_models_pytorch"}
SIDES = ("peer", "float32", "default")
SAME, FAST = 1.05, 0.6
INSTALL = "pip install --no-deps torchvision==0.28.0 && pip install segmentation-models-pytorch"
ROOT = Path(__file__).parents[2]


def build(network: str, side: str) -> Any:
    if side != "peer":
        from medseg.networks import build_network

        options: dict[str, Any] = (
            {"encoder": "resnet50", "auxiliary": True} if network == "deeplabv3" else {"encoder": "resnet34"}
        )
        return build_network(network, spatial_dims=2, in_channels=3, out_channels=CLASSES, **options)
    from tests.networks.oracles import segmentation_models, torchvision

    if network == "deeplabv3":
        options = {"weights": None, "weights_backbone": None, "num_classes": CLASSES, "aux_loss": True}
        return torchvision().models.segmentation.deeplabv3_resnet50(**options)
    return segmentation_models().Unet("resnet34", encoder_weights=None, in_channels=3, classes=CLASSES)


def training_step(network: str, side: str, batch: int, size: int) -> tuple[Callable[[], float], dict[str, Any]]:
    """The step, which returns its loss, and what this process is."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    model = build(network, side).train()
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != PARAMETERS[network]:
        raise SystemExit(f"{side} {network} has {count} parameters, expected {PARAMETERS[network]}")
    image = torch.randn(batch, 3, size, size)
    label = torch.randint(0, CLASSES, (batch, size, size))
    device, precision = torch.device("cpu"), torch.float32
    if side != "peer":
        from medseg.engine.device import choose_precision, memory_format, place, prepare

        prepare(0)
        precision = choose_precision("auto" if side == "default" else "float32", device)
        model = place(model, device, 2)
        image = image.contiguous(memory_format=memory_format(2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != torch.float32):
            output = model(image)
        outputs = list(output.values()) if isinstance(output, dict) else output
        main, *auxiliary = outputs if isinstance(outputs, list) else [outputs]
        if len(auxiliary) != (network == "deeplabv3") or main.shape[2:] != label.shape[1:]:
            raise SystemExit(f"{side} {network}: {len(auxiliary)} auxiliary outputs, logits {tuple(main.shape)}")
        loss = F.cross_entropy(main.float(), label)
        for other in auxiliary:
            loss = loss + 0.5 * F.cross_entropy(other.float(), label)
        loss.backward()
        optimizer.step()
        return loss.item()

    isa = "AMX" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability()
    facts = {"isa": isa, "precision": str(precision).removeprefix("torch."), "torch": torch.__version__}
    return step, facts


def serve(network: str, side: str, batch: int, size: int, threads: int) -> None:
    """One step for each line on standard input, answered with its seconds and loss, and the memory so far (MiB)."""
    import torch

    torch.set_num_threads(threads)
    step, facts = training_step(network, side, batch, size)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize() / 2**20
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts in KiB
        print(json.dumps({"seconds": seconds, "loss": loss, "mib": peak - before}), flush=True)


class Worker:
    """A process that serves one side."""

    def __init__(self, arguments: argparse.Namespace, network: str, side: str) -> None:
        command = [sys.executable, __file__, "--serve", side, "--network", network]
        for name in ("batch", "size", "threads"):
            command += [f"--{name}", str(getattr(arguments, name))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)
        self.facts = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.wait()}")  # type: ignore[arg-type]
        return json.loads(line)

    def step(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print("step", file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        self.process.communicate()


def orders() -> Iterator[tuple[str, ...]]:
    """Who begins changes from turn to turn, so that nobody always runs in the wake of the same other."""
    return cycle([SIDES[start:] + SIDES[:start] for start in range(len(SIDES))])


def compare(arguments: argparse.Namespace, network: str) -> tuple[list[str], bool, dict[str, Any]]:
    """Rows of the table, whether the targets are met, and the facts of the side `default`."""
    workers = {side: Worker(arguments, network, side) for side in SIDES}
    try:
        for worker in workers.values():
            worker.step()  # the first one allocates
        turns = [{side: workers[side].step() for side in order} for order in islice(orders(), arguments.repeats)]
    finally:
        for worker in workers.values():
            worker.close()
    rows, met = [], True
    for side, worker in workers.items():
        seconds = median(turn[side]["seconds"] for turn in turns)
        times = median(turn[side]["seconds"] / turn["peer"]["seconds"] for turn in turns)
        memory = turns[-1][side]["mib"] / turns[-1]["peer"]["mib"]
        name = PEERS[network] if side == "peer" else f"medseg, {side}"
        rows.append(
            f"| {network} | {name} | {worker.facts['precision']} | {seconds:.3f} | {times:.2f} "
            f"| {turns[-1][side]['mib']:.0f} | {memory:.2f} |"
        )
        if side == "float32":
            met &= times <= SAME and memory <= SAME
        elif side == "default" and worker.facts["isa"] == "AMX":
            met &= times <= FAST
    return rows, met, workers["default"].facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=PARAMETERS, help="one of the two (default: both)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="height and width of the images")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.network, arguments.serve, arguments.batch, arguments.size, arguments.threads)
        return 0
    networks = [arguments.network] if arguments.network else list(PARAMETERS)
    missing = [peer for name in networks if importlib.util.find_spec(peer := PEERS[name]) is None]
    if missing:
        print(f"{', '.join(missing)} missing: {INSTALL}", file=sys.stderr)
        return 2
    rows, met, facts = [], True, {}
    for network in networks:
        found, fine, facts = compare(arguments, network)
        rows += found
        met &= fine
    print(
        f"CPU with {facts['isa']}, {arguments.threads} threads, torch {facts['torch']}; a step of "
        f"{arguments.batch} x 3 x {arguments.size} x {arguments.size}, median of {arguments.repeats} turns\n\n"
        "| network | side | precision | s a step | time / peer | MiB of the steps | memory / peer |\n"
        "|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    print(f"\ntargets: float32 at most {SAME} (time, memory); default at most {FAST} (time) on a CPU with AMX")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
