"""What kind of scan a channel is: by its name, by a DICOM header, and what its intensities let suspect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

CT, MR, PET = "CT", "MR", "PT"  # as DICOM calls them
WORDS = {
    CT: ("ct", "cta", "cect", "ncct", "cbct", "hu"),
    MR: (
        "mr",
        "mri",
        "flair",
        "t1",
        "t1w",
        "t1c",
        "t1ce",
        "t1gd",
        "t1n",
        "t2",
        "t2w",
        "t2f",
        "dwi",
        "adc",
        "swi",
        "pd",
    ),
    PET: ("pt", "pet", "suv"),
}
SOFT = 20.0  # of all voxels the largest: no CT, in which bone has 300 and more, but one that was scaled
AIR = (-1100, -900)  # HU
AIRY = 0.02  # share of the voxels that are air in a CT, and in nothing else
TO_HU = "convert it from the original DICOM series, with slope and intercept (dcm2niix)"


def kind_of(channel: str) -> str | None:
    """CT, MR or PT as the name of a channel says; None where it says neither, or more than one."""
    words = set(re.findall(r"[a-z0-9]+", channel.lower()))
    found = [kind for kind, known in WORDS.items() if words & set(known)]
    return found[0] if len(found) == 1 else None


def no_hounsfield(low: float, high: float) -> str:
    """Why intensities from `low` to `high` are not those of a CT, in HU; empty where they may be."""
    if low >= 0:
        return f"intensities from {low:g} to {high:g}, of which none is below 0, as air and fat are in HU"
    if high <= SOFT:
        return f"intensities from {low:g} to {high:g}, as if they were scaled: bone has hundreds of HU"
    return ""


def like_ct(values: np.ndarray) -> bool:
    """Whether intensities look like those of a CT: there is air, and nothing much below it."""
    step = max(1, values.size // 100_000)
    some = np.asarray(values).reshape(-1)[::step]
    air = np.mean((some >= AIR[0]) & (some <= AIR[1]))
    return bool(air >= AIRY and some.max() > 0)


def measured(image: np.ndarray) -> list[dict[str, Any]]:
    """What `suspicions` asks of each channel of an image (C, *spatial), as it is in the file."""
    return [{**extremes(one), "like_ct": like_ct(one)} for one in image]


def extremes(channel: np.ndarray) -> dict[str, float]:
    """The lowest and the highest value of a channel `(*spatial)`; NaN if any is."""
    return {"low": float(channel.min()), "high": float(channel.max())}


def other_scan(kinds: Sequence[str | None], trained_on: Sequence[str | None]) -> str:
    """Why a scan whose headers say its kinds is none for a network; empty where nothing speaks against it.

    Args:
        kinds: of each channel; None of one whose kind is not known, or that is missing.
        trained_on: the kind of each channel, None where it is not known.
    """
    for number, (kind, own) in enumerate(zip(kinds, trained_on, strict=False)):
        if kind is not None and own is not None and kind != own:
            name = f"channel {number}: " if len(kinds) > 1 else ""
            return f"{name}its DICOM header says {kind}, but the network was trained on {own}"
    return ""


def suspicions(
    kinds: Sequence[str | None], channels: Sequence[dict[str, Any]], missing: Sequence[int] = ()
) -> list[str]:
    """What intensities let suspect, where the network was trained on channels of these kinds; one sentence each.

    Args:
        channels: as `measured`.
        missing: numbers of channels that nobody measured.
    """
    found = []
    for number, (kind, one) in enumerate(zip(kinds, channels, strict=False)):
        name = f"channel {number}: " if len(channels) > 1 else ""
        if number in missing:
            continue
        if one["low"] == one["high"]:
            found.append(f"{name}every voxel is {one['low']:g}")
        elif kind == CT and (why := no_hounsfield(one["low"], one["high"])):
            found.append(f"{name}{why}; the network was trained on CT")
        elif kind == MR and one["like_ct"]:
            found.append(f"{name}intensities of a CT, with air at -1000; the network was trained on MR")
    return found
