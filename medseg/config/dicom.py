"""The `data.dicom` section of a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from medseg.config.section import Finding, Section
from medseg.core.patterns import fault_of


class DicomConfig(Section):
    """Which series is the image where a DICOM study holds several; without this, a study has to hold one scan."""

    modality: Literal["CT", "MR", "PT"] | None = None
    """The kind of scan. Null: what the variable MEDSEG_DICOM_MODALITY says, or any."""
    description: str | None = None
    """Regular expression that is found in the series' description, such as (?i)t2.*flair. Null: what the variable
    MEDSEG_DICOM_DESCRIPTION says, or any."""

    def findings(self) -> Iterable[Finding]:
        if (fault := fault_of(self.description or "")) is not None:
            yield ("description",), f"{self.description!r} is no regular expression: {fault}"
