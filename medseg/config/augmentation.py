"""The `augmentation` section of a config: the options of all transforms, and what else is said of patches and crops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from medseg.config.section import Finding, Section, having
from medseg.core.errors import ConfigError, did_you_mean
from medseg.core.parts import Part
from medseg.core.types import Axes, Factors, Proportion
from medseg.data.training.augment import TRANSFORMS

OPTIONS = {name: list(part.options.values()) for name, part in TRANSFORMS.own.items()}
"""What the keys are that each of medseg's own transforms brings; those of packages stand in `plugins`."""
OF_CROPS = {"flip"}
"""Transforms that happen to crops at random scales too."""


@having([Part("photometric", "medseg.data.training.photometric:Photometric")])
class PhotometricConfig(Section):
    """Changes of the colours of RGB pictures; the defaults are mmsegmentation's."""


@having(TRANSFORMS.own.values())
class AugmentationConfig(Section):
    """Random changes of training patches; every draw derives from the seed, the sample's number and the change's name.

    Where `crop_scale` is given, crops are cut at a random scale, as for natural images, and of the other keys only
    `flip_axes`, `category_cap` and `photometric` apply.
    """

    enabled: bool = True
    """Whether training changes its patches at all."""
    crop_scale: Factors | None = None
    """Smallest and largest scale at which a crop is cut, drawn evenly; it is as large as training.patch_size."""
    category_cap: Proportion = 0.75
    """With crop_scale: no class may fill more than this share of a crop (ten draws are tried)."""
    photometric: PhotometricConfig | None = None
    """With crop_scale: change the colours of RGB pictures; `{}` for the defaults."""
    plugins: dict[str, dict[str, Any]] = {}
    """Transforms of installed packages (entry points `medseg.transforms`), after medseg's own: name -> its options."""

    def findings(self) -> Iterable[Finding]:
        if self.crop_scale is not None:
            for option in (one for name, options in OPTIONS.items() if name not in OF_CROPS for one in options):
                if getattr(self, option.name) != option.default:
                    yield (option.name, "crop_scale"), "has no effect where crops are cut at a random scale"
            if self.plugins:
                yield ("plugins", "crop_scale"), "has no effect where crops are cut at a random scale"
        elif self.photometric is not None:
            yield (
                ("photometric", "crop_scale"),
                "colours are changed in crops only: give crop_scale too",
            )
        for name, options in self.plugins.items():
            yield from _wrong(name, options)

    @property
    def used(self) -> tuple[Part, ...]:
        return tuple(TRANSFORMS[name] for name in self.plugins)

    @property
    def crops(self) -> bool:
        """Whether training sees crops at random scales, and not patches."""
        return self.enabled and self.crop_scale is not None

    @property
    def patches_changed(self) -> bool:
        """Whether training sees patches whose intensities are changed, which have to be numbers and no bytes."""
        return self.enabled and self.crop_scale is None

    @property
    def axes(self) -> dict[str, list[int]]:
        """The keys that name spatial axes."""
        named = [option.name for options in OPTIONS.values() for option in options if option.kind == Axes]
        return {key: getattr(self, key) for key in named}

    @property
    def transforms(self) -> dict[str, dict[str, Any]]:
        """The options of every transform by its name, in the order in which they change a patch."""
        own = {name: {one.name: getattr(self, one.name) for one in options} for name, options in OPTIONS.items()}
        return own | self.plugins


def _wrong(name: str, options: Mapping[str, Any]) -> Iterable[Finding]:
    """What is wrong with a package's transform and its options; it is imported to know them."""
    where = f"plugins.{name}"
    if name in TRANSFORMS.own:
        yield (where,), "is no plug-in: its options are keys of augmentation"
        return
    try:
        allowed = having([TRANSFORMS.find(name)])(Section)
    except ConfigError as error:
        yield (where,), error.line
        return
    try:
        allowed.model_validate(options, strict=True)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            key = str(one["loc"][0])
            unknown = f"{name} has no option {key!r}: {did_you_mean(key, allowed.model_fields)}"
            wrong = f"{key} {one['msg'].replace('Input should', 'must')} (got {options.get(key)!r})"
            yield (f"{where}.{key}",), unknown if one["type"] == "extra_forbidden" else wrong
