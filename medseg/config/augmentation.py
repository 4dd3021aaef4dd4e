"""The `augmentation` section of a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from medseg.config.section import Finding, Section
from medseg.core.types import Axes, Factors, Fraction

OF_CROPS = {"enabled", "crop_scale", "category_cap", "photometric", "flip_axes"}


class PhotometricConfig(Section):
    """Changes of the colours of RGB pictures; the defaults are mmsegmentation's."""

    brightness: Annotated[float, Field(ge=0, le=255)] = 32.0
    """Largest shift, of 255."""
    contrast: Factors = [0.5, 1.5]
    saturation: Factors = [0.5, 1.5]
    hue_degrees: Annotated[float, Field(ge=0, le=180)] = 36.0
    probability: Fraction = 0.5
    """Of each of the four."""

    def findings(self) -> Iterable[Finding]:
        yield from self.unordered("contrast", "saturation")


class AugmentationConfig(Section):
    """Random changes of training patches; every draw derives from the seed and the number of the sample.

    Where `crop_scale` is given, crops are cut at a random scale, as for natural images, and of the other keys only
    `flip_axes`, `category_cap` and `photometric` apply.
    """

    enabled: bool = True
    crop_scale: Factors | None = None
    """Smallest and largest scale at which a crop is cut, drawn evenly; it is as large as training.patch_size."""
    category_cap: Annotated[float, Field(gt=0, le=1)] = 0.75
    """With crop_scale: no class may fill more than this share of a crop (ten draws are tried)."""
    photometric: PhotometricConfig | None = None
    """With crop_scale: change the colours of RGB pictures; `{}` for the defaults."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    rotation_probability: Fraction = 0.3
    scale: Factors = [0.8, 1.25]
    scale_probability: Fraction = 0.3
    flip_axes: Axes = []
    """Spatial axes that may be mirrored; leave out the left-right axis where sides are different classes. In a picture,
    0 is up and down, 1 is left and right."""
    bend_voxels: Annotated[float, Field(ge=0)] = 1.5
    """Elastic deformation: standard deviation of the waves along each axis that shift voxels."""
    bend_probability: Fraction = 0.0
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    noise_probability: Fraction = 0.15
    blur_sigma_voxels: Factors = [0.5, 1.0]
    blur_probability: Fraction = 0.1
    brightness: Factors = [0.75, 1.25]
    """Factor on the intensities."""
    brightness_probability: Fraction = 0.15
    contrast: Factors = [0.75, 1.25]
    """Factor on the distance from the mean, within the image's own range."""
    contrast_probability: Fraction = 0.15
    gamma: Factors = [0.7, 1.5]
    gamma_probability: Fraction = 0.3
    low_resolution_zoom: Factors = [0.5, 1.0]
    low_resolution_probability: Fraction = 0.1

    def findings(self) -> Iterable[Finding]:
        yield from self.unordered(
            "scale", "blur_sigma_voxels", "brightness", "contrast", "gamma", "low_resolution_zoom"
        )
        if self.low_resolution_zoom[1] > 1:
            yield (
                ("low_resolution_zoom",),
                f"{self.low_resolution_zoom} must not be above 1, the image's own resolution",
            )
        if self.crop_scale is not None:
            yield from self.unordered("crop_scale")
            for key in sorted(set(type(self).model_fields) - OF_CROPS):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield (key, "crop_scale"), "has no effect where crops are cut at a random scale"
        elif self.photometric is not None:
            yield (
                ("photometric", "crop_scale"),
                "colours are changed in crops only: give crop_scale too",
            )

    @property
    def crops(self) -> bool:
        """Whether training sees crops at random scales, and not patches."""
        return self.enabled and self.crop_scale is not None

    @property
    def reach(self) -> tuple[float, float, float]:
        """Largest rotation in degrees, smallest scale, and bend in voxels of what really happens to a patch."""
        if not self.enabled:
            return 0.0, 1.0, 0.0
        return (
            self.rotation_degrees if self.rotation_probability else 0.0,
            self.scale[0] if self.scale_probability else 1.0,
            self.bend_voxels if self.bend_probability else 0.0,
        )
