"""Which series of a DICOM study is the image: what a config, or whoever starts medseg, says of it.

As the limits of the size of an image, a choice is that of the process and of those that it starts: it stands in its
environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from medseg.core.errors import ConfigError, Problem
from medseg.core.patterns import fault_of

MODALITY, DESCRIPTION = "MEDSEG_DICOM_MODALITY", "MEDSEG_DICOM_DESCRIPTION"
KEYS = {MODALITY: "dicom.modality", DESCRIPTION: "dicom.description"}
GIVEN = {name: os.environ.get(name) for name in KEYS}  # by whoever started this process
REMEDY = (
    f"say which one by {' or '.join(KEYS.values())} (a config's section data; without a config: the variables "
    f"{' and '.join(KEYS)}), or give each a folder of its own"
)


@dataclass(frozen=True)
class Choice:
    """What the series has to be; None: anything.

    Args:
        modality: as its header says it: CT, MR, PT.
        description: a regular expression that is found in its description.
    """

    modality: str | None = None
    description: str | None = None

    def __bool__(self) -> bool:
        return (self.modality, self.description) != (None, None)

    def plain(self) -> list[str | None]:
        return [self.modality, self.description]


def choose_series(modality: str | None = None, description: str | None = None) -> None:
    """A series has to be so from now on; None: as this process was started, or anything."""
    for name, value in {MODALITY: modality, DESCRIPTION: description}.items():
        text = GIVEN[name] if value is None else value
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text


def choice() -> Choice:
    """What counts now; raises ConfigError where the environment holds no regular expression."""
    pattern = os.environ.get(DESCRIPTION) or None
    if pattern is not None and (fault := fault_of(pattern)):
        raise ConfigError(Problem(DESCRIPTION, f"is no regular expression: {fault}", "unset it, or correct it"))
    return Choice(os.environ.get(MODALITY) or None, pattern)
