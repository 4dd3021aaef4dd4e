"""E and G: a failure is no screen with a remedy, does not end, or is none; many processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from functools import partial
from typing import Any

from PIL import Image

from tests.campaign.entry import Outcome
from tests.campaign.faults.case import TRAIN, Case, Fault, changed

DEEP = "network.widths=[4,4,4,4,4]"  # patches of 16 voxels become one
ENCODED = ("network={name: fpn, spatial_dims: 3, encoder: resnet18, encoder_options: {width: 0.125}, norm: instance}",)
GIB = 1 << 30
MASK = "tiny_04.nii.gz"


def _refused(changes: tuple[str, ...], case: Case, **options: Any) -> str | None:
    """Such a training is refused, before the first step."""
    words = [word for change in changes for word in ("--set", change)]
    return "accepted" if case.ask(*TRAIN, *words, **options).code == 0 else None


def _said(changes: tuple[str, ...], case: Case, **options: Any) -> None:
    """Such a training ends in a message, or in the training."""
    _refused(changes, case, **options)


def _pictures(case: Case) -> str | None:
    """Red, green and blue, of no crops."""
    for file in (case / "flat").glob("images*/*.png"):
        with Image.open(file) as image:
            coloured = image.convert("RGB")
        coloured.save(file)
    changed(case / "flat/dataset.json", channel_names={"0": "R", "1": "G", "2": "B"})
    words = ("--set", "preprocessing.normalization=imagenet")
    return "accepted" if case.ask("train", "--config", "flat.yaml", "--run", "new", *words).code == 0 else None


def _weights(case: Case) -> str | None:
    """Weights that are no numbers; the file has no digest, as that of another program."""
    import torch

    file = case / "run/models/model.pt"
    state = torch.load(file, weights_only=True)
    torch.save({name: torch.full_like(value.float(), float("nan")) for name, value in state.items()}, file)
    return "a mask" if case.predict("data/imagesTs", "new").code == 0 else None


def _pipe(case: Case) -> None:
    (case / "data/imagesTs" / MASK).unlink()
    os.mkfifo(case / "data/imagesTs" / MASK)
    case.ask("predict", "--run", "run", "--input", "data/imagesTs", "--output", "new", seconds=15)


def _bytes_name(case: Case) -> None:
    folder = os.fsencode(case / "data/imagesTs")
    os.rename(os.path.join(folder, MASK.encode()), os.path.join(folder, b"\xff\xfe.nii.gz"))
    case.predict("data/imagesTs", "new")


def _file_as_output(case: Case) -> str | None:
    before = (case / "tiny.yaml").read_bytes()
    case.predict("data/imagesTs", "tiny.yaml")
    return None if (case / "tiny.yaml").read_bytes() == before else "the file is another one"


def _checkpoint(case: Case) -> None:
    shutil.copy(case / "flat_run/models/checkpoint.pt", case / "half/models/checkpoint.pt")
    case.train(run="half")


def _worker(case: Case) -> None:
    """Each process that the training forks is killed, as by a system without memory."""
    killed = partial(os.register_at_fork, after_in_child=lambda: os.kill(os.getpid(), signal.SIGKILL))
    _said(("training.workers=1",), case, before=killed)


def _no_memory(case: Case) -> None:
    _said(("training.batch_size=64", "network.widths=[64,64]"), case, memory=GIB // 2)


def _ranks(case: Case, *words: str) -> Outcome:
    """The same command in two processes that work together, as torchrun starts them."""
    from torch.distributed import TCPStore

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}  # of torchrun, which holds the store that they meet in

    def start() -> None:
        children = []
        for rank in ("0", "1"):
            child = os.fork()
            if child == 0:
                os.environ |= shared | {"RANK": rank, "LOCAL_RANK": rank}
                return
            children.append(child)
        store = TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        del store
        os._exit(max(map(abs, codes)))

    return case.ask(*words, before=start)


def _mistake_of_two(case: Case) -> str | None:
    said = _ranks(case, *TRAIN, "--set", "data.root=nowhere")
    times = (said.out + said.err).count("error:")
    return None if times == 1 else f"{times} messages"


def _sync_batch(case: Case) -> None:
    _ranks(case, *TRAIN, "--set", "network.norm=syncbatch")


EVIL = "data.patient_pattern='((((((.*)*)*)*)*)*)*X'"
FAULTS = (
    Fault("E", "SyncBatchNorm on a CPU: a traceback", _sync_batch, slow=True),
    Fault("E", "batch norm over one value: a traceback",
          partial(_refused, (DEEP, "network.norm=batch", "training.batch_size=1"))),
    Fault("E", "instance norm over the one voxel of an encoder", partial(_refused, ENCODED)),
    Fault("E", "imagenet normalisation without crops: a traceback", _pictures, ("flat.yaml", "flat"), slow=True),
    Fault("E", "a checkpoint of another network: a traceback", _checkpoint, ("half", "flat_run")),
    Fault("E", "weights that are no numbers: an empty mask", _weights, ("run",)),
    Fault("E", "an output that is a file: a traceback", _file_as_output, ("run",)),
    Fault("E", "a worker is killed: a traceback", _worker, slow=True),
    Fault("E", "no memory in training: a traceback", _no_memory, slow=True),
    Fault("E", "a named pipe: it waits", _pipe, ("run",)),
    Fault("E", "a pattern that backtracks", partial(_said, (EVIL, "training.max_epochs=1")), slow=True),
    Fault("E", "--dry-run with a batch that no memory holds",
          lambda case: case.ask(*TRAIN, "--dry-run", "--set", "training.batch_size=1000000", seconds=30) and None),
    Fault("E", "a name that is no UTF-8", _bytes_name, ("run",)),
    Fault("G", "a mistake is a message of each rank", _mistake_of_two),
)  # fmt: skip
