"""What configs of older versions say, for runs that were trained with them.

A run's `config.yaml` holds every key. The section `loss` once had the options of both losses, whichever it named; those
of the other said nothing, and were left at their defaults or not looked at.
"""

from __future__ import annotations

from typing import Any

from medseg.config.document import Document

OF_THE_OTHER_LOSS: dict[str, dict[str, Any]] = {
    "dice_ce": {
        "lovasz_weight": 0.0,
        "class_weights": None,
        "hardest": None,
        "ohem_threshold": None,
        "ohem_minimum": 100_000,
    },
    "combined": {"batch_dice": True, "overlap": "dice", "missed_weight": 0.7},
}
"""Loss -> the keys that it had without effect, and their defaults."""


def forget_what_said_nothing(document: Document) -> None:
    """Take the options of the other loss out: at their default; at any value where a file holds all keys of both."""
    section = document.data.get("loss")
    if not isinstance(section, dict) or section.get("name", "dice_ce") not in OF_THE_OTHER_LOSS:
        return
    dumped = all(key in section for keys in OF_THE_OTHER_LOSS.values() for key in keys)
    for key, default in OF_THE_OTHER_LOSS[section.get("name", "dice_ce")].items():
        asked = document.where(("loss", key)).startswith("--set")
        if key in section and (section[key] == default or (dumped and not asked)):
            del section[key]
