"""Losses of logits and a target: plain arguments in, tensors out. A file for each that a config can name, one for each
term that they share, and the two that take a network's further outputs.

What the data say is no option: a loss that has an argument `regions` (whether the targets overlap), `labels`, or
`class_weights` (one a channel) is given it.
"""

from __future__ import annotations

from medseg.core.parts import Table

LOSSES = Table(
    "loss",
    "medseg.losses",
    {
        "dice_ce": "medseg.losses.dice_ce:DiceCrossEntropy",
        "combined": "medseg.losses.combined:CombinedLoss",
    },
    offered=("regions", "labels"),
)
