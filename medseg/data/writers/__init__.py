"""Writers of what was found in an image, by the name of their format; each owns its files' names and geometry."""

from __future__ import annotations

from medseg.core.parts import Table

WRITERS = Table(
    "format",
    "medseg.writers",
    {
        "nifti": ("medseg.data.writers.single:FileWriter", {"ending": ".nii.gz", "maps": True}),
        "png": ("medseg.data.writers.single:FileWriter", {"ending": ".png", "pictures": True, "maps": True}),
        "nrrd": ("medseg.data.writers.single:FileWriter", {"ending": ".nrrd"}),
        "mha": ("medseg.data.writers.single:FileWriter", {"ending": ".mha"}),
        "bids": "medseg.data.writers.bids:BIDSWriter",
    },
)
AUTO = "auto"
"""The format of its own of an image: the first writer that takes it."""
OWN = "medseg"
"""The folder, in one of masks, of all that is medseg's own."""
