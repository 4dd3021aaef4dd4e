"""The inference engine: whole cases in, logits out, one bad case never stops the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.engines import Evaluator
from monai.inferers import Inferer
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert, get_worker_info

from medseg.core.errors import DataError, MedsegError, Problem, SystemFailure
from medseg.core.foreign import causes, explained
from medseg.core.labels import Labels
from medseg.data.cases.case import Case, as_cases
from medseg.data.cases.values import class_values
from medseg.data.files.images import label_values, read_image
from medseg.data.files.reading import ReadingRules, now, reading
from medseg.data.training.apply import transformed
from medseg.data.training.grids import plain
from medseg.data.training.region import REGION
from medseg.engine.device import autocast, choose_precision, memory_format
from medseg.engine.memory import enough_memory
from medseg.engine.sidecar import read_sidecar

LESS_AT_ONCE = "lower window_batch, the windows at once; end what else uses the memory; or compute on the device cpu"
NOT_FINITE = (
    "the network computes no numbers for this image: are its intensities like those it was trained on, and its weights "
    "finite? Try the precision float32"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A case that could not be read, predicted or written, and why."""

    case: str
    reason: str


class CaseDataset(Dataset):
    """Loaded and preprocessed cases; a case that cannot be read becomes a `Failure`, not an exception.

    Args:
        data: cases, or MONAI's dictionaries of them (see `Case.from_entry`).
        transform: preprocessing, `Case.entry` -> `{"image": (C, *spatial), ...}`; added are `image_path`, which stands
            for the format and the grid of the image, all its `image_files` (None in the place of a channel that it
            lacks), and `label_path` (None without a label).
        kept: pairs (case, file of a finished mask); such a case has a `mask` (1, *native_spatial) and no `image`.
        labels: what the values of the cases' labels mean, which is looked at first: nobody waits for the prediction of
            a case that cannot be scored. None: nobody scores them.
    """

    def __init__(
        self,
        data: Iterable[Case | Mapping[str, Any]],
        transform: Callable[[dict], dict],
        kept: Iterable[Sequence[str]] = (),
        labels: Labels | None = None,
    ) -> None:
        self.labels = labels
        self.data = as_cases(data)
        self.transform = transform
        self.kept = {str(name): str(file) for name, file in kept}
        self.rules: ReadingRules | None = None  # of the process that a worker works for

    def __len__(self) -> int:
        return len(self.data)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"rules": self.rules or now()}

    def __getitem__(self, index: int) -> dict | Failure:
        with reading(self.rules or now()):
            return self._read(self.data[index])

    def _read(self, case: Case) -> dict | Failure:
        try:
            if self.labels is not None and case.label is not None:
                class_values(case.read_label(), self.labels)
            content = (
                _kept(case, self.kept[case.name])
                if case.name in self.kept
                else transformed(self.transform, case.entry())
            )
            return {**content, "image_path": case.first, "image_files": case.images, "label_path": case.label}
        except Exception as error:  # anything that a file can make a reader raise
            return Failure(case.name, _root_cause(error))


def _kept(case: Case, file: str) -> dict[str, Any]:
    """A case with its finished mask, on the grid of the image."""
    image = read_image(file, channel_axis=False)
    mask, affine = torch.from_numpy(label_values(image)), torch.from_numpy(image.affine)
    shape = tuple(mask.shape[1:])
    sidecar = read_sidecar(Path(file).parent, case.name)
    region = {REGION: sidecar[REGION]} if REGION in sidecar else {}
    return {
        **region,
        "case": case.name,
        "mask": MetaTensor(mask, affine=affine),
        "native_affine": affine.clone(),
        "native_shape": shape,
        "missing": case.missing,
    }


def case_loader(dataset: Dataset, workers: int = 0, sampler: Sampler[int] | None = None) -> DataLoader:
    """One whole case at a time, as it is (no batch dimension, no collation), perhaps in a sampler's order."""
    return DataLoader(dataset, batch_size=None, num_workers=workers, sampler=sampler, collate_fn=_handed_over)


def _handed_over(case: Any) -> dict | Failure:
    """As PyTorch converts it, and by a worker in shared memory.

    The queue would move it there too, in a thread whose error nobody hears: who waits for the case would wait for ever.
    """
    converted: dict | Failure = default_convert(case)
    if get_worker_info() is not None and isinstance(converted, dict):
        for value in converted.values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()
    return converted


class SegmentationEvaluator(Evaluator):
    """Apply `network` to whole cases; logits `(K, *spatial)` are in `engine.state.output["pred"]`.

    Args:
        device: where to compute.
        val_data_loader: yields cases (see `case_loader`).
        network: already on `device`.
        inferer: how a whole image is given to the network (sliding window).
        precision: as in training.
        postprocessing: MONAI transform of the case with its `pred`, or None.
        finishing: the same of a case that comes with a finished mask, which becomes its `pred`; None: no case does.
        key_val_metric: {name: Ignite metric}; the best value so far is kept in `engine.state.best_metric`.
        val_handlers: Ignite handlers, attached in their order.

    After a run, `engine.state.failures` lists the cases that failed.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: DataLoader,
        network: torch.nn.Module,
        inferer: Inferer,
        *,
        precision: str = "auto",
        postprocessing: Callable | None = None,
        finishing: Callable | None = None,
        key_val_metric: dict[str, Metric] | None = None,
        val_handlers: Sequence[Any] = (),
    ) -> None:
        self.network, self.inferer = network, inferer
        self.postprocess, self.finish = postprocessing, finishing
        self.precision = choose_precision(precision, device)
        super().__init__(device, val_data_loader, key_val_metric=key_val_metric, decollate=False)
        self.add_event_handler(Events.STARTED, self._start)
        self._register_handlers(val_handlers)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Evaluate all cases of this process; one without a case still takes part in what the processes share."""
        if self.state.epoch_length:
            return super().run(global_epoch)
        self.state.epoch = global_epoch
        for event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED):
            self.fire_event(event)
        return None

    def _start(self, engine: Any) -> None:
        self.state.failures = []
        self.network.eval()

    def _iteration(self, engine: Any, batch: dict | Failure) -> dict:
        validating = self.postprocess is None  # a metric that needs all cases
        if isinstance(batch, Failure):
            if validating:
                raise DataError(Problem(batch.case, batch.reason))
            return self._fail(batch)
        try:
            return self.segmented(batch)
        except (MedsegError, RuntimeError, OSError, ValueError) as error:
            if validating:
                raise
            return self._fail(Failure(batch["case"], _root_cause(error)))

    def segmented(self, batch: dict) -> dict:
        """The case with its `pred`, after the postprocessing; raises whatever goes wrong in it."""
        if self.finish is not None and "mask" in batch:
            return self.finish({**batch, "pred": batch["mask"]})
        with enough_memory(LESS_AT_ONCE):
            output = {**batch, "pred": self.predict(batch)}
            if self.postprocess is None:  # validation, which a network may fail on its way
                return output
            check_finite(output["pred"], batch["case"])
            return self.postprocess(output)

    def predict(self, batch: dict) -> Any:
        """What the postprocessing gets as `pred`: logits `(K, *spatial)` float32."""
        return self.logits(batch["image"], self.inferer, self.network)

    def logits(self, image: torch.Tensor, inferer: Inferer, network: torch.nn.Module) -> torch.Tensor:
        """`(C, *spatial)` -> `(K, *spatial)` float32, on the engine's device."""
        return logits_of(image, inferer, network, self.state.device, self.precision)

    def _fail(self, failure: Failure) -> dict:
        logger.error("%s failed: %s", failure.case, failure.reason)
        self.state.failures.append(failure)
        return {"case": failure.case, "failure": failure}


def logits_of(
    image: torch.Tensor, inferer: Inferer, network: torch.nn.Module, device: torch.device, precision: torch.dtype
) -> torch.Tensor:
    """`(C, *spatial)` -> `(K, *spatial)` float32, on the device."""
    batch = plain(image)[None].to(device, non_blocking=True)
    batch = batch.contiguous(memory_format=memory_format(batch.ndim - 2))
    with torch.inference_mode(), autocast(device, precision):
        return inferer(batch, network)[0].float()


def check_finite(logits: torch.Tensor | Sequence[torch.Tensor], case: str) -> None:
    """Raise a DataError where logits are NaN or infinite: of such, every mask would be made without a word."""
    for one in [logits] if isinstance(logits, torch.Tensor) else logits:
        lowest, highest = torch.aminmax(plain(one))  # NaN if there is one
        if not bool(torch.isfinite(lowest) & torch.isfinite(highest)):
            raise DataError(Problem(case, "the logits of the network are NaN or infinite", NOT_FINITE))


def succeeded(engine: Any) -> bool:
    """Whether the case of this iteration has a prediction; for handlers and metrics."""
    return "failure" not in engine.state.output


def _root_cause(error: BaseException) -> str:
    """What is wrong and what to do, in one line; of what nobody foresaw, the innermost error."""
    if (known := explained(error)) is not None:
        return " ".join(known.line.split()) if isinstance(known, SystemFailure) else " ".join(str(known).split())
    *_, first = causes(error)
    return " ".join(f"{type(first).__name__}: {first}".split())
