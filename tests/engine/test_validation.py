"""The key metric of natural images: one confusion matrix of all cases, by scikit-learn's count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from medseg.core.labels import Labels
from medseg.engine.validation import ValidationIoU

LABELS = Labels({"sky": 4, "road": 0, "car": 9, "ghost": 2}, ignore_index=255, also_ignored=(7,), background=None)


def test_mean_iou_of_all_cases_together() -> None:
    random = np.random.default_rng(0)
    metric = ValidationIoU(LABELS)
    metric.reset()
    truths, predictions = [], []
    for size in ((6, 8), (10, 4)):
        truth = random.choice([4, 0, 9, 255, 7], size=size)
        logits = torch.from_numpy(random.normal(size=(4, *size))).float()
        logits[3] = -10  # the ghost is never predicted
        metric.update((logits, torch.from_numpy(truth[None].astype(np.uint8))))
        counted = (truth != 255) & (truth != 7)
        truths.append(truth[counted])
        predictions.append(np.array(LABELS.values)[logits.argmax(0).numpy()][counted])
    expected = jaccard_score(np.concatenate(truths), np.concatenate(predictions), labels=[4, 0, 9], average=None)
    assert metric.compute() == pytest.approx(expected.mean())
    engine = SimpleNamespace(state=SimpleNamespace(metrics={}, iteration=1, epoch=1))
    metric.completed(engine, "mean_iou")
    details = engine.state.metric_details
    assert details["iou/ghost"] is None, "in neither truth nor prediction: left out of the mean"
    assert [details[f"iou/{name}"] for name in ("sky", "road", "car")] == pytest.approx(list(expected))
