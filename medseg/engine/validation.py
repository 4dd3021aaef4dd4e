"""The key metric during training, on the preprocessed grid, cheap enough for every epoch: mean Dice, or mean IoU."""

from __future__ import annotations

from typing import Any

import torch
from ignite.metrics import Metric

from medseg.core.labels import Labels
from medseg.data.training.encode import LabelEncoder
from medseg.engine.device import gather


class ValidationDice(Metric):
    """Mean over targets of the mean Dice over the cases in which the target occurs.

    A case without a target counts for it only when something was predicted (Dice 0), as in `metrics.table`.
    After a run, `engine.state.metric_details` holds the mean Dice of each target (None where no case
    counts), as `dice/<target>`, and `engine.state.case_scores` the mean over targets of every case, in their order.

    Args:
        labels: what the channels of the logits and the values of the label mean.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]))

    def reset(self) -> None:
        self._scores: list[dict[str, float]] = []

    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        logits, label = output[0], output[1].to(output[0].device)
        label = label.as_tensor() if hasattr(label, "as_tensor") else label
        valid = ~torch.isin(label[0], torch.tensor(self.labels.ignored, device=label.device, dtype=label.dtype))
        predicted = (logits > 0) if self.labels.regions else logits.argmax(0)
        scores = {}
        for channel, (name, values) in enumerate(self.labels.targets.items()):
            if self.labels.regions:
                mask = predicted[channel] & valid
            else:
                mask = (predicted == self.labels.values.index(self.labels.mask_values[name])) & valid
            truth = torch.isin(label[0], torch.tensor(values, device=label.device, dtype=label.dtype)) & valid
            both, total = (mask & truth).sum(), mask.sum() + truth.sum()
            if total:
                scores[name] = (2 * both / total).item()
        self._scores.append(scores)

    def compute(self) -> float:
        cases = gather(self._scores)
        self.per_target: dict[str, float | None] = {}
        for name in self.labels.targets:
            values = [case[name] for case in cases if name in case]
            self.per_target[name] = sum(values) / len(values) if values else None
        # where there is nothing, and nothing was found, nothing is wrong
        self.case_scores = [sum(case.values()) / len(case) if case else 1.0 for case in cases]
        means = [value for value in self.per_target.values() if value is not None]
        return sum(means) / len(means) if means else 0.0

    def completed(self, engine: Any, name: str) -> None:
        super().completed(engine, name)
        engine.state.metric_details = {f"dice/{target}": value for target, value in self.per_target.items()}
        engine.state.case_scores = self.case_scores


class ValidationIoU(Metric):
    """Mean over classes of IoU = TP / (TP + FP + FN), from one confusion matrix of all cases.

    A class in neither truth nor prediction of any case is left out. After a run, `engine.state.metric_details` holds
    the IoU of each class, `engine.state.case_scores` the mean IoU of every case alone, in their order. The final
    figures are those of `metrics.summary`, by the rules of the benchmark.

    Args:
        labels: what the channels of the logits and the values of the label mean.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.encode = LabelEncoder(labels)
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]))

    def reset(self) -> None:
        self._matrix = torch.zeros(len(self.labels.values), len(self.labels.values), dtype=torch.int64)
        self._scores: list[float] = []

    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        logits, label = output[0], torch.as_tensor(output[1]).to(output[0].device)
        label = label.as_tensor() if hasattr(label, "as_tensor") else label
        classes = len(self._matrix)
        truth = self.encode(label[None]).flatten()
        counted = truth >= 0
        pairs = truth[counted] * classes + logits.argmax(0).flatten()[counted]
        matrix = torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()
        self._matrix += matrix
        self._scores.append(_mean_iou(matrix)[0])

    def compute(self) -> float:
        self.case_scores = gather(self._scores)
        mean, iou = _mean_iou(torch.stack(gather([self._matrix])).sum(0))
        self.per_class = dict(zip(self.labels.classes, iou, strict=True))
        return mean

    def completed(self, engine: Any, name: str) -> None:
        super().completed(engine, name)
        engine.state.metric_details = {f"iou/{target}": value for target, value in self.per_class.items()}
        engine.state.case_scores = self.case_scores


def _mean_iou(matrix: torch.Tensor) -> tuple[float, list[float | None]]:
    """Of a confusion matrix: the mean over the classes that occur, and the IoU of each (None: it does not)."""
    matrix = matrix.double()
    right = matrix.diagonal()
    whole = matrix.sum(0) + matrix.sum(1) - right
    iou = [(r / w).item() if w else None for r, w in zip(right, whole, strict=True)]
    known = [value for value in iou if value is not None]
    return sum(known) / len(known) if known else 0.0, iou
