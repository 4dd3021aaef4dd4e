"""Per-case and data-set metrics, and the table that reports them.

A metric of medseg's own is a class in a file, see `metric.Metric`, and a line here: the scores, the table as text, JSON
and CSV, the report and TensorBoard follow. The first is the key metric. Those that packages bring are computed where
they are asked for by name.
"""

from medseg.core.parts import Table

METRICS = Table(
    "metric",
    "medseg.metrics",
    {
        "dice": "medseg.metrics.overlap:Dice",
        "iou": "medseg.metrics.overlap:IoU",
        "precision": "medseg.metrics.overlap:Precision",
        "recall": "medseg.metrics.overlap:Recall",
        "hd95_mm": "medseg.metrics.hausdorff:HD95",
        "surface_dice": "medseg.metrics.surface_dice:SurfaceDice",
    },
)
