"""`medseg composite`: another background behind what a network found, soft at the border."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.bundle.compile import compile_inference
from medseg.bundle.facts import DataFacts, reading_as
from medseg.bundle.run import parser_of
from medseg.config.schema import Config
from medseg.core.errors import (
    ConfigError,
    DataError,
    MedsegError,
    PartialFailure,
    Problem,
    RunError,
    did_you_mean,
)
from medseg.core.foreign import unwrapped
from medseg.core.labels import Labels
from medseg.core.machine import count_cores
from medseg.core.parallel import in_threads
from medseg.data.files.cause import cause
from medseg.data.files.frames import cover, list_frames, read_background, read_frame, write_frame
from medseg.data.files.signed import is_signed
from medseg.engine.device import autocast, choose_precision, memory_format, prepare
from medseg.engine.places import Place, check_places, door
from medseg.engine.resume import load_weights
from medseg.inference.colour import COLOUR_SCALES
from medseg.inference.matte import guided_matte, ramp
from medseg.runs.folder import read_run

SIZE = 192  # of the longer side, by default: most of the time goes into the network, and grows with its square
WINDOW = 64  # the guided filter's radius is a 64th of the size
ON_GPU, ON_CPU = 4, 8  # frames at a time, at most: on a GPU one is computed while others are read and written
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Composited:
    """What `composite` did.

    Args:
        pictures: those that were saved.
        seconds_a_frame: of network and compositing, without reading and writing; beside others, where several run.
        seconds: of all frames, reading and writing included.
        at_a_time: frames that were worked on at once.
    """

    pictures: list[Path]
    seconds_a_frame: float
    seconds: float
    at_a_time: int

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "pictures": [str(path) for path in self.pictures],
            "frames_per_second": len(self.pictures) / max(self.seconds, 1e-9),
            "seconds_a_frame": self.seconds_a_frame,
            "frames_at_a_time": self.at_a_time,
        }

    def text(self) -> str:
        count, rate = len(self.pictures), self.as_dict()["frames_per_second"]
        return (
            f"{count} frames at {rate:.1f} frames per second with reading and writing, {self.at_a_time} at a time; "
            f"network and compositing take {1e3 * self.seconds_a_frame:.0f} ms of each"
        )


def composite(
    run: Path, *, input: Path, background: str, output: Path, target: Sequence[str] = (), size: int | None = None
) -> Composited:
    """Replace the background of a picture, or of every picture in a folder.

    Args:
        run: the folder of a trained run on colour pictures.
        input: a picture, or a folder of them.
        background: a picture (scaled to cover, cropped at the centre), or the name or code of a colour.
        output: folder of the results `{name}.png`; of one picture also the file itself, `*.png`.
        target: classes that are kept; default `person`, or the only class besides the background.
        size: pixels of the longer side at which the network runs, default `SIZE`; smaller pictures are not enlarged.

    Raises:
        PartialFailure: some frames failed; the others are saved.
        DataError: there is no frame, or all failed.
        MedsegError: the run, target, background or output cannot be used.
    """
    trained = read_run(run)
    config, facts = trained.config, trained.facts
    if config.network.spatial_dims != 2 or config.preprocessing.colours not in COLOUR_SCALES:
        remedy = f"train on RGB pictures, with preprocessing.normalization one of {', '.join(COLOUR_SCALES)}"
        raise RunError(f"{run}: the network of this run is not for colour pictures", remedy)
    channels = choose_targets(facts.labels, target)
    behind = read_background(background)
    frames = list_frames(input)
    with reading_as(config), _places(frames, input, output, [Path(background)]) as places:
        compositor = Compositor(run, config, facts, channels, behind, size or SIZE)
        return _through(compositor, places)


class Compositor:
    """A network that replaces the background of frames, on the device of its run.

    The network sees a frame once and as a whole, whatever windows, scales and mirroring its config asks of `predict`.

    Args:
        run, config, facts: a run, as `read_run` reads it.
        channels: of the network's output, that are kept.
        background: `(rows, columns, 3)` uint8.
        size: pixels of the longer side at which the network runs.
    """

    def __init__(
        self, run: Path, config: Config, facts: DataFacts, channels: Sequence[int], background: np.ndarray, size: int
    ) -> None:
        prepare(config.seed)
        once = {"whole_image": True, "scales": [1.0], "mirror_axes": []}
        config = config.model_copy(update={"inference": config.inference.model_copy(update=once)})
        parser = parser_of(compile_inference(config, facts=facts, bundle_root=str(run)))
        self.device: torch.device = parser.get_parsed_content("device")
        with unwrapped():
            network = parser.get_parsed_content("network")
        self.network = load_weights(network, run / "models" / "model.pt", self.device).eval()
        self.inferer = parser.get_parsed_content("inferer")
        self.precision = choose_precision(config.training.precision, self.device)
        self.regions = bool(facts.labels.regions)
        self.channels = list(channels)
        self.background, self.size = background, size
        self._behind: Tensor | None = None  # the background at the size of the last frame

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The frame `(rows, columns, 3)` uint8 with the new background, of the same size."""
        pixels = self._planes(frame)
        rows, columns = frame.shape[:2]
        behind = self._behind  # a frame of another size, in another thread, may put its own there meanwhile
        if behind is None or behind.shape[2:] != (rows, columns):
            behind = self._behind = self._planes(cover(self.background, rows, columns))
        mixed = torch.lerp(behind, pixels, self.matte(pixels)).round_().to(torch.uint8)
        return mixed[0].permute(1, 2, 0).contiguous().cpu().numpy()

    def _planes(self, frame: np.ndarray) -> Tensor:
        """`(rows, columns, 3)` uint8 -> `(1, 3, rows, columns)` float32 in this order, on the device."""
        return torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].contiguous().float()

    @torch.inference_mode()
    def matte(self, picture: Tensor) -> Tensor:
        """How much of each pixel is kept, `(1, 1, H, W)` from 0 to 1; `picture` `(1, 3, H, W)` from 0 to 255."""
        scale = min(1.0, self.size / max(picture.shape[2:]))
        shape = [max(1, round(length * scale)) for length in picture.shape[2:]]
        small = picture if scale == 1 else F.interpolate(picture, shape, mode="bilinear", antialias=True)
        with autocast(self.device, self.precision):
            logits = self.inferer(small.contiguous(memory_format=memory_format(2)), self.network).float()
        if self.regions:  # they overlap: inside any of them
            inside = logits[:, self.channels].sigmoid().amax(1, keepdim=True)
        else:
            inside = logits.softmax(1)[:, self.channels].sum(1, keepdim=True)
        return guided_matte(ramp(inside), _grey(small), _grey(picture), radius=max(1, round(max(shape) / WINDOW)))


def choose_targets(labels: Labels, names: Sequence[str] = ()) -> list[int]:
    """The channels of the network's output that are kept: of the names, else of `person`, else of the only target.

    Raises:
        ConfigError: a name that is none of the classes, or none given where there are several.
    """
    known = labels.channels
    if problems := [
        Problem("--target", f"no class {name!r}", did_you_mean(name, known)) for name in names if name not in known
    ]:
        raise ConfigError(problems)
    if not names:
        targets = [name for name in known if name != "background" and labels.classes.get(name) != labels.background]
        targets = [name for name in targets if name.lower() == "person"] or targets
        if len(targets) != 1:
            what = f"no class is a person, and there are {len(targets)} others: {', '.join(targets)}"
            raise ConfigError(Problem("--target", what, "say what is kept: --target NAME, which may be repeated"))
        names = targets
    return [known.index(name) for name in dict.fromkeys(names)]


@contextmanager
def _places(
    frames: Sequence[Path], input: Path, output: Path, behind: Sequence[Path] = ()
) -> Iterator[dict[Path, Path]]:
    """Every frame with the file that it is saved as; inside, nobody else writes there.

    Args:
        behind: the picture that is put behind them, if it is one.
    """
    alone = not input.is_dir() and bool(output.suffix) and not output.is_dir()
    if alone:
        if output.suffix.lower() != ".png":
            raise ConfigError(Problem("--output", f"{output} is no PNG", "name it *.png, or give a folder"))
        places = {frames[0]: output}
    else:
        places = {frame: output / f"{frame.stem}.png" for frame in frames}
    if output.is_file() and not alone:
        raise ConfigError(Problem("--output", f"{output} is a file", "give a folder"))

    def check() -> None:
        planned = [Place(place, place.parent, str(frame), None, is_signed(place)) for frame, place in places.items()]
        check_places(planned, [*frames, *behind], error=ConfigError)

    with door(output.parent if alone else output, check, only=output.name if alone else ""):
        yield places


def _through(compositor: Compositor, places: dict[Path, Path]) -> Composited:
    """Every frame read, composited and written, several at a time.

    On a CPU each core has a frame of its own, since the network's small maps do not keep two cores busy; on a GPU,
    which computes one frame after the other, the next ones are read and the last ones written meanwhile.
    """
    cores, threads = count_cores(), torch.get_num_threads()
    workers = min(len(places), min(cores, ON_CPU) if compositor.device.type == "cpu" else ON_GPU)
    threads_each = max(1, cores // workers)

    def work(frame: Path) -> float | Problem:
        try:
            pixels = read_frame(frame)
            begun = time.perf_counter()
            result = compositor(pixels)
            taken = time.perf_counter() - begun
            write_frame(places[frame], result)
        except Exception as error:  # anything that a file can make a reader raise, and too little memory
            return _failure(frame, error)
        return taken

    started = time.perf_counter()
    try:
        results = in_threads(work, places, workers, prepare=partial(torch.set_num_threads, threads_each))
        done = dict(zip(places, results, strict=True))
    finally:
        torch.set_num_threads(threads)
    taken = [result for result in done.values() if not isinstance(result, Problem)]
    failures = [result for result in done.values() if isinstance(result, Problem)]
    if not taken:
        raise DataError(failures)
    saved = [places[frame] for frame, result in done.items() if not isinstance(result, Problem)]
    composited = Composited(saved, sum(taken) / len(taken), time.perf_counter() - started, workers)
    if failures:
        summary = Problem("", f"{len(failures)} of {len(places)} frames failed; {composited.text()}")
        raise PartialFailure([*failures, summary], result=composited.as_dict())
    return composited


def _failure(frame: Path, error: Exception) -> Problem:
    if isinstance(error, MedsegError):
        return error.problems[0]
    return Problem(str(frame), f"{type(error).__name__}: {cause(error)}")


def _grey(picture: Tensor) -> Tensor:
    """`(B, 3, H, W)` from 0 to 255 -> `(B, 1, H, W)` from 0 to 1, as bright as the colours look."""
    red, green, blue = (channel * (share / 255) for channel, share in zip(picture.split(1, 1), GREY, strict=True))
    return red.add_(green).add_(blue)
