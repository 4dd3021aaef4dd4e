"""The `inference.crf` section of a config. The names of the published sets are written out here, since the sets
themselves (`medseg.inference.crf`) need torch; a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.section import Section
from medseg.core.types import Count, Guide, Positive

CRFName = Literal[
    "pydensecrf",
    "deeplabv1",
    "deeplabv1_msc",
    "deeplabv1_largefov",
    "deeplabv1_msc_largefov",
    "deeplabv1_coco",
    "deeplabv1_coco_largefov",
    "deeplabv1_msc_coco_largefov",
    "deeplabv2",
]


class CRFConfig(Section):
    """Dense CRF behind the network: a published set of parameters, and what is to differ from it (null: nothing)."""

    parameters: CRFName
    """The published set, tuned on RGB photographs."""
    iterations: Count | None = None
    gaussian_weight: Annotated[float, Field(ge=0)] | None = None
    """Strength of the kernel that knows the distance only; 0 leaves it out."""
    gaussian_std: Positive | None = None
    """Its reach, in voxels of the finest axis."""
    bilateral_weight: Annotated[float, Field(ge=0)] | None = None
    """Strength of the kernel that also knows the image; 0 leaves it out."""
    bilateral_std: Positive | None = None
    """Its reach in space, in voxels of the finest axis."""
    image_std: Positive | None = None
    """Its reach in the intensities of the guide, which go from 0 to 255."""
    minimum_probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Smaller probabilities are raised to it first, so that a certain network can be corrected."""
    guide: Literal["auto", Guide] = "auto"
    """The image that guides: picture, the file's intensities (RGB from 0 to 255); stretched, the percentiles 0.5 and
    99.5 of each channel brought to 0 and 255; auto, picture where the channels are red, green and blue."""
    margin: Annotated[int, Field(ge=0)] | None = None
    """Only the box around the found foreground is refined, and so many voxels beyond it (memory: 700 bytes a voxel).
    Default: the whole image in 2D, 20 in 3D."""
