"""The data sets of the comparisons by name: where they lie, and what `medseg plan` has to be told of them."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "LGG": "Dataset110_LGGFLAIR",
    "BUSI": "BUSI",
    "hippocampus": "Task04_Hippocampus",
    "BraTS2modal": "Dataset015_BraTS2modal",
    "CamVid": "CamVid",
}
CARDS = {"CamVid": "camvid"}


def find_data(name: str) -> Path:
    """The folder of a data set: one of `FOLDERS` below MEDSEG_TEST_DATA (default: where the tests look), or a path.

    Raises:
        SystemExit: there is no such folder.
    """
    base = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    folder = base / FOLDERS[name] if name in FOLDERS else Path(name)
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder: give one of {', '.join(FOLDERS)}, or the folder of a data set")
    return folder.resolve()


def told(folder: Path) -> list[str]:
    """The overrides of `medseg plan` without which it cannot know what there is to know, `key=value`: a card, where the
    values of the masks have names in it only."""
    card = next((card for name, card in CARDS.items() if FOLDERS[name] == folder.name), None)
    return [] if card is None else [f"data.card={card}"]


def settings(overrides: list[str]) -> list[str]:
    """As words of a command line."""
    return [word for override in overrides for word in ("--set", override)]
