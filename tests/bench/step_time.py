"""One training step of the same network in nnU-Net and in medseg, measured in turns on this machine's CPU.

    python tests/bench/step_time.py [--peer-python PYTHON] [--threads N] [--repeats N]

The network is the one that nnU-Net's planner makes for the hippocampus (MSD Task04) at patch 40x56x40: PlainConvUNet
with instance norm, leaky ReLU, transposed convolutions and deep supervision. nnU-Net's side runs its own modules as its
trainer does on a CPU: float32, contiguous memory, its own loss, gradient clipping, SGD with Nesterov momentum. medseg's
side copies those weights and is first checked to give the same logits; then it runs in its own default precision and
memory format, with the same optimiser. Each side is a process of its own, and they take turns, step by step.

nnU-Net is looked for in this Python, or in the one that `--peer-python` or MEDSEG_PEER_PYTHON names. Without it the
script says what to install and exits with 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

PATCH = (40, 56, 40)
CLASSES = 3
INSTALL = """nnU-Net is not installed in {python}. Make an environment of its own for it:
    python3 -m venv PEERS && PEERS/bin/pip install nnunetv2==2.8.1
    python tests/bench/step_time.py --peer-python PEERS/bin/python"""


def peer(batch: int, exchange: Path) -> Callable[[], float]:
    """nnU-Net's step; leaves its plan, its weights and the logits of one image in `exchange`."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    torch.manual_seed(0)
    _, strides, kernels, _, _ = get_pool_and_conv_props((1.0, 1.0, 1.0), PATCH, 4, 999999)
    stages = len(strides)
    plan = {
        "strides": [list(map(int, stride)) for stride in strides],
        "kernel_sizes": [list(map(int, kernel)) for kernel in kernels],
        "widths": [min(320, 32 * 2**stage) for stage in range(stages)],
    }
    network = PlainConvUNet(
        1,
        stages,
        plan["widths"],
        torch.nn.Conv3d,
        plan["kernel_sizes"],
        plan["strides"],
        [2] * stages,
        CLASSES,
        [2] * (stages - 1),
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(network.initialize)
    image = torch.randn(1, 1, *PATCH)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()  # so that the comparison of the logits sees every one of them
        torch.save(
            {"plan": json.dumps(plan), "image": image, "logits": network(image)[0], "weights": network.state_dict()},
            exchange / "peer.pt",
        )
    weights = [0.5**level for level in range(stages - 1)]
    weights[-1] = 0.0  # as nnU-Net's trainer does
    weights = [weight / sum(weights) for weight in weights]
    loss = DeepSupervisionWrapper(
        DC_and_CE_loss(
            {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
            {},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        weights,
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    data = torch.randn(batch, 1, *PATCH)
    labels = torch.randint(0, CLASSES, (batch, 1, *PATCH)).float()
    target = [labels[..., :: 2**level, :: 2**level, :: 2**level].clone() for level in range(stages - 1)]

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value = loss(network(data), target)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        value.item()
        return time.perf_counter() - start

    return step


def ours(batch: int, exchange: Path) -> Callable[[], float]:
    """medseg's step with nnU-Net's weights, after a check that the two give the same logits."""
    import torch

    from medseg.networks import build_network

    saved = torch.load(exchange / "peer.pt", weights_only=True)
    network = build_network("unet", spatial_dims=3, in_channels=1, out_channels=CLASSES, **json.loads(saved["plan"]))
    copy_weights(network, saved["weights"])
    with torch.no_grad():
        difference = (network.eval()(saved["image"]) - saved["logits"]).abs().max().item()
    if difference > 1e-3 * saved["logits"].abs().max().item():
        raise SystemExit(f"not the same network: logits differ by {difference:.2e}")
    print(json.dumps({"difference": difference}), flush=True)
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    return training_step(network, optimizer, batch)


def recipe(batch: int, exchange: Path) -> Callable[[], float]:
    """The step of the hippocampus recipe: U-Net 16-32-64-128, AdamW."""
    import torch

    from medseg.networks import build_network

    network = build_network("unet", spatial_dims=3, in_channels=1, out_channels=CLASSES, widths=[16, 32, 64, 128])
    return training_step(network, torch.optim.AdamW(network.parameters(), 2e-3), batch)


def training_step(network: Any, optimizer: Any, batch: int) -> Callable[[], float]:
    import torch

    from medseg.engine.device import autocast, choose_precision, memory_format, place, prepare
    from medseg.losses.deep_supervision import DeepSupervision
    from medseg.losses.dice_ce import DiceCrossEntropy

    prepare(0)
    device = torch.device("cpu")
    precision = choose_precision("auto", device)
    network = place(network.train(), device, 3)
    loss = DeepSupervision(DiceCrossEntropy())
    data = torch.randn(batch, 1, *PATCH)
    labels = torch.randint(0, CLASSES, (batch, 1, *PATCH))

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            logits = network(data.to(memory_format=memory_format(3)))
        value = loss(logits, labels)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        value.item()
        return time.perf_counter() - start

    return step


def copy_weights(network: Any, theirs: dict[str, Any]) -> None:
    """nnU-Net's weights into the same network of ours, which leaves out the biases that an instance norm takes out."""
    levels = len(network.encoder.levels)
    places = {}
    for level in range(levels):
        places[f"encoder.levels.{level}.blocks"] = f"encoder.stages.{level}.0.convs"
    for level in range(levels - 1):
        stage = levels - 2 - level  # nnU-Net counts from the coarsest
        places[f"decoder.levels.{level}.blocks"] = f"decoder.stages.{stage}.convs"
        places[f"decoder.upsamples.{level}.conv"] = f"decoder.transpconvs.{stage}"
        places[f"heads.{level}.conv"] = f"decoder.seg_layers.{stage}"
    state = {}
    for name in network.state_dict():
        place = next(place for place in places if name.startswith(place + "."))
        state[name] = theirs[places[place] + name[len(place) :]]
    network.load_state_dict(state)


SIDES = {"peer": peer, "ours": ours, "recipe": recipe}


def serve(side: str, batch: int, exchange: Path, threads: int) -> None:
    """One step for each line on standard input, answered with its seconds."""
    import torch

    torch.set_num_threads(threads)
    step = SIDES[side](batch, exchange)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(step(), flush=True)


class Worker:
    """A process that serves one side."""

    def __init__(self, side: str, python: str, batch: int, exchange: Path, threads: int) -> None:
        command = [python, __file__, "--serve", side, "--batch", str(batch), "--exchange", str(exchange)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if side == "peer" else None,
            env=environment,
            text=True,
        )
        self.said: dict[str, Any] = {}
        while (line := self.read()) != "ready":
            if line.startswith("{"):
                self.said |= json.loads(line)

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.process.args)} ended with {self.process.wait()}")  # type: ignore[arg-type]
        return line.strip()

    def step(self) -> float:
        assert self.process.stdin is not None
        print("step", file=self.process.stdin, flush=True)
        return float(self.read())

    def close(self) -> None:
        self.process.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("MEDSEG_PEER_PYTHON", sys.executable))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=7)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.batch, arguments.exchange, arguments.threads)
        return 0

    import torch

    from medseg.engine.device import choose_precision

    precision = str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    isa = "AMX" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability()
    print(f"CPU with {isa}, {arguments.threads} threads, torch {torch.__version__}; medseg in {precision}")
    with tempfile.TemporaryDirectory() as folder:
        exchange = Path(folder)
        worker = Worker("recipe", sys.executable, 4, exchange, arguments.threads)
        times = [worker.step() for _ in range(arguments.repeats + 2)][2:]
        worker.close()
        print(f"hippocampus recipe, U-Net 16-32-64-128, batch 4 of 40x56x40: {median(times):.3f} s a step")

        probe = [arguments.peer_python, "-c", "import nnunetv2, dynamic_network_architectures"]
        if subprocess.run(probe, capture_output=True).returncode:
            print(INSTALL.format(python=arguments.peer_python), file=sys.stderr)
            return 2
        theirs = Worker("peer", arguments.peer_python, arguments.batch, exchange, arguments.threads)
        mine = Worker("ours", sys.executable, arguments.batch, exchange, arguments.threads)
        pairs = [(theirs.step(), mine.step()) for _ in range(arguments.repeats + 1)][1:]
        theirs.close()
        mine.close()
    slow, fast = (median(times) for times in zip(*pairs, strict=True))
    ratio = median(theirs / ours for theirs, ours in pairs)
    print(f"the same network (logits differ by {mine.said['difference']:.1e}), batch {arguments.batch} of 40x56x40:")
    print(f"    nnU-Net {slow:.3f} s a step, medseg {fast:.3f} s, {ratio:.2f} times as fast (goal on AMX: 3)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
