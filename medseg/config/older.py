"""What configs of older versions say, for runs that were trained with them.

A run's `config.yaml` holds every key. The section `loss` once had the options of both losses, whichever it named; those
of the other said nothing.
"""

from __future__ import annotations

from medseg.config.document import Document

OF_THE_OTHER_LOSS = {
    "dice_ce": ("lovasz_weight", "class_weights", "hardest", "ohem_threshold", "ohem_minimum"),
    "combined": ("batch_dice", "overlap", "missed_weight"),
}
"""Loss -> the keys that it had without effect."""


def forget_what_said_nothing(document: Document) -> None:
    """Take the options of the other loss out of a file that holds all keys of both; not what `--set` asks for."""
    section = document.data.get("loss")
    name = section.get("name", "dice_ce") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(name, str) or name not in OF_THE_OTHER_LOSS:
        return
    if not all(key in section for keys in OF_THE_OTHER_LOSS.values() for key in keys):
        return
    for key in OF_THE_OTHER_LOSS[name]:
        if not document.where(("loss", key)).startswith("--set"):
            del section[key]
