"""Writers of what was found in an image, by the name of their format; each owns its files' names and geometry."""

from __future__ import annotations

from medseg.core.parts import Table

WRITERS = Table(
    "format",
    "medseg.writers",
    {
        "nifti": "medseg.data.writers.nifti:NiftiWriter",
        "png": "medseg.data.writers.png:PngWriter",
        "nrrd": ("medseg.data.writers.itk:ItkWriter", {"ending": ".nrrd"}),
        "mha": ("medseg.data.writers.itk:ItkWriter", {"ending": ".mha"}),
    },
)
AUTO = "auto"
"""The format of its own of an image: the first writer that takes it."""
OWN = "medseg"
"""The folder, in one of masks, of all that is medseg's own."""
