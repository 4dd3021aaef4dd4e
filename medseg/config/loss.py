"""The `loss` section of a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

from medseg.config.section import Finding, PartSection
from medseg.core.parts import Part
from medseg.core.types import Weight
from medseg.losses import LOSSES

Balance = Literal["median_frequency", "sqrt_median_frequency"]
ClassWeights = Balance | dict[str, Weight] | None


class LossConfig(PartSection):
    """Which loss, its options, and what a network's further outputs weigh. Ignored voxels change nothing."""

    table = LOSSES
    ours: ClassVar[frozenset[str]] = frozenset({"name", "auxiliary_weight", "presence_weight"})
    written: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "class_weights": (
            ClassWeights,
            "For cross-entropy and focal loss: one a class, or from the training masks: median_frequency "
            "(Eigen & Fergus), or its square root.",
        )
    }

    name: str = "dice_ce"
    auxiliary_weight: Weight = 0.4
    """Of an auxiliary head's loss, where the network has one."""
    presence_weight: Weight = 0.2
    """Of the loss of which classes are in the image, where the network has `presence`."""

    def findings(self) -> Iterable[Finding]:
        if not self.specialised or self.name not in self.table:
            return
        options = self.part().options
        terms = tuple(key for key, option in options.items() if key.endswith("_weight") and option.kind == Weight)
        # A loss that has none of its weighted terms by default has others.
        if any(options[term].default for term in terms) and not any(getattr(self, term) for term in terms):
            yield terms, "all weights of the loss are 0"
        for *keys, what in self.part().constants.get("ALTERNATIVES", ()):
            if all(getattr(self, key) is not None for key in keys):
                yield tuple(keys), what
        weights = self.weights_of_classes()
        if isinstance(weights, dict) and not any(weights.values()):
            yield ("class_weights",), "all weights are 0"

    def part(self) -> Part:
        """The loss itself."""
        return self.table[self.name]

    def takes(self, name: str) -> bool:
        """Whether the loss has this argument: one that the data say, or the weights of classes."""
        return name in self.part().arguments

    def arguments(self) -> dict[str, Any]:
        """The arguments of the loss that are the config's alone."""
        return {key: getattr(self, key) for key in self.part().options if key not in self.written}

    def weights_of_classes(self) -> ClassWeights:
        """`class_weights`; None where the loss has none."""
        return getattr(self, "class_weights", None)

    def unweighted(self) -> Self:
        """The same without weights of classes."""
        return self if self.weights_of_classes() is None else self.model_copy(update={"class_weights": None})
