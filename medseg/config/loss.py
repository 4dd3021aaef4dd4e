"""The `loss` section of a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from medseg.config.section import Finding, Section
from medseg.core.types import Count

Weight = Annotated[float, Field(ge=0)]
Balance = Literal["median_frequency", "sqrt_median_frequency"]

TERMS = ("cross_entropy_weight", "focal_weight", "dice_weight", "lovasz_weight")
OF_COMBINED = ("lovasz_weight", "class_weights", "hardest", "ohem_threshold")


class LossConfig(Section):
    """dice_ce: Dice + cross-entropy, a softmax over classes or a sigmoid for every region. combined: a weighted sum of
    cross-entropy, focal loss, Dice and Lovász-softmax over classes. Ignored voxels change neither."""

    name: Literal["dice_ce", "combined"] = "dice_ce"
    auxiliary_weight: Weight = 0.4
    """Of an auxiliary head's loss, where the network has one."""
    presence_weight: Weight = 0.2
    """EncNet: of the loss of which classes are in the image."""
    dice_weight: Weight = 1.0
    """In `combined`: of the mean over the classes that occur in the batch."""
    cross_entropy_weight: Weight = 1.0
    batch_dice: bool = True
    """Of `dice_ce`: sum the Dice terms over the batch before the ratio: steadier for small structures."""
    overlap: Literal["dice", "generalised_dice", "tversky"] = "dice"
    """Of `dice_ce`, what dice_weight is of: generalised Dice weighs small structures like large ones; the Tversky index
    weighs missed and invented voxels apart."""
    missed_weight: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Of `overlap: tversky`: the weight of missed voxels; invented ones have the rest of 1. 0.5 is the Dice."""
    focal_weight: Weight = 0.0
    focal_gamma: Weight = 2.0
    lovasz_weight: Weight = 0.0
    """Of `combined`, as all that follows."""
    class_weights: Balance | dict[str, Weight] | None = None
    """For cross-entropy and focal loss: one a class, or from the training masks: median_frequency (Eigen & Fergus),
    or its square root."""
    hardest: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Cross-entropy of this share of the pixels only, those of the largest loss."""
    ohem_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Cross-entropy of the pixels whose true class has a smaller probability, ..."""
    ohem_minimum: Count = 100_000
    """... and of at least so many pixels of a batch."""

    def findings(self) -> Iterable[Finding]:
        terms = TERMS if self.name == "combined" else ("dice_weight", "cross_entropy_weight", "focal_weight")
        if not any(getattr(self, term) for term in terms):
            yield terms[:2], "all weights of the loss are 0"
        if self.name == "combined" and self.overlap != "dice":
            yield ("overlap", "name"), "combined has no such option; set loss.name to dice_ce"
        if self.name == "dice_ce":
            for key in OF_COMBINED:
                if getattr(self, key):
                    yield (key, "name"), "dice_ce has no such option; set loss.name to combined"
        if self.hardest is not None and self.ohem_threshold is not None:
            yield ("hardest", "ohem_threshold"), "two ways to choose pixels: give one"
        if isinstance(self.class_weights, dict) and not any(self.class_weights.values()):
            yield ("class_weights",), "all weights are 0"

    def terms(self) -> dict[str, float | None]:
        """The arguments of the loss, without the weights of classes."""
        shared = {"dice_weight", "cross_entropy_weight"}
        if self.name == "dice_ce":
            given = {
                key for key in ("overlap", "focal_weight") if getattr(self, key) != type(self).model_fields[key].default
            }
            more = {"overlap": "missed_weight", "focal_weight": "focal_gamma"}
            return self.model_dump(include=shared | {"batch_dice"} | given | {more[key] for key in given})
        return self.model_dump(include={*TERMS, "focal_gamma", "hardest", "ohem_threshold", "ohem_minimum"})
