"""The `network` section of a config: which network, on which encoder, and their options.

The options are the arguments of the network's class (`medseg.networks`), those of `encoder_options` the arguments of
the encoder's. What is said here holds of a key in every network that has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, create_model, model_validator

from medseg.config.names import NameIn
from medseg.config.section import Finding, PartSection, Section, fields_of, plain
from medseg.core.errors import ConfigError
from medseg.core.parts import Part
from medseg.core.types import Counts, Inflation, Steps
from medseg.networks import NETWORKS, ON_ENCODER, network_part
from medseg.networks.encoders import ENCODERS
from medseg.networks.levels import halving, wrong_count

PER_LEVEL = ("strides", "kernel_sizes")


class EncoderOptions(Section):
    """Options of the encoder; null is what the network asks of it, or else the encoder's own default.

    Attributes:
        called, option_names: what messages call the encoder, and what it has.
    """

    called: ClassVar[str] = ""
    option_names: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def without_nulls(cls, given: Any) -> Any:
        """An option that is null may be of another encoder."""
        if not isinstance(given, Mapping):
            return given
        return {key: value for key, value in given.items() if value is not None}


class NetworkConfig(PartSection):
    """Which network, and its options; null is the network's own default."""

    table = NETWORKS
    ours: ClassVar[frozenset[str]] = frozenset({"name", "pretrained", "inflate"})
    choosing: ClassVar[frozenset[str]] = frozenset({"name", "encoder"})
    name: str = "unet"
    spatial_dims: Literal[2, 3] = 3
    encoder: str | None = None
    """Another encoder in the place of the network's own; a U-Net has none of its own."""
    encoder_options: EncoderOptions | None = None
    """Options of the encoder; each encoder has its own."""
    pretrained: str | None = None
    """Weights to start from: a file with torchvision's names, or efficientnet_lite0 (a package of that name)."""
    inflate: Inflation = "mean"
    """How pretrained 2D kernels become 3D: spread evenly over the depth, or on the middle slice."""

    @classmethod
    def parts_of(cls, given: Mapping[str, Any]) -> tuple[Part, ...] | None:
        parts = super().parts_of(given)
        return parts and (network_part(parts[0].name, given.get("encoder")),)

    @classmethod
    def section_of(cls, given: Mapping[str, Any]) -> type[Self]:
        made = super().section_of(given)
        called, name = made.called, given.get("encoder")
        if called:
            name = encoder_in_use(given)
        if called in ON_ENCODER:
            called += " on an encoder" if given.get("encoder") else " without an encoder"
        encoder, broken = ENCODERS.get(name) if isinstance(name, str) else None, made.broken
        try:
            options = encoder_section(encoder) if encoder else None
        except ConfigError as error:
            options, broken = None, (*broken, (("encoder",), error.line))
        return _on_encoder(made, called, options, broken)

    @classmethod
    def choices(cls) -> Iterable[dict[str, str]]:
        for given in super().choices():
            yield given
            if given["name"] in ON_ENCODER:
                yield given | {"encoder": "plain"}

    @property
    def part(self) -> Part:
        """The network."""
        return network_part(self.name, self.encoder)

    @property
    def used(self) -> tuple[Part, ...]:
        encoder = encoder_in_use({"name": self.name, "encoder": self.encoder})
        return (self.part, *([ENCODERS[encoder]] if encoder else []))

    @property
    def known(self) -> set[str]:
        """The options that the network has."""
        return set(self.part.options)

    def given(self) -> dict[str, Any]:
        """The options that are given, without those that have the network's default."""
        return self.model_dump(include=self.model_fields_set - self.ours, exclude_none=True)

    def options(self) -> dict[str, Any]:
        """All arguments of the network but its channels, defaults too."""
        given = self.model_dump(exclude=set(self.ours), exclude_none=True)
        return {key: plain(option.default) for key, option in self.part.options.items()} | given

    def findings(self) -> Iterable[Finding]:
        for key in ("encoder", "encoder_options"):
            if getattr(self, key) is not None and key not in self.known:
                yield (key, "name"), f"{self.called} has no such option; it has {', '.join(sorted(self.known))}"
        for part, key in zip(self.used, ("name", "encoder"), strict=False):
            dims = part.arguments["spatial_dims"].kind if "spatial_dims" in part.arguments else None
            if dims in (Literal[2], Literal[3]) and self.spatial_dims not in dims.__args__:
                yield (key, "spatial_dims"), f"{part.name} has {dims.__args__[0]} dimensions only"
        yield from self._levels()

    def _levels(self) -> Iterable[Finding]:
        """What goes wrong with the resolutions of a network that names the channels of each."""
        widths = self._of_kind(Counts, "widths")
        for key in PER_LEVEL:
            entries = self._of_kind(Steps, key)
            if entries and widths and (wrong := wrong_count(entries, len(widths))):
                yield (key, "widths"), wrong
            for entry in entries:
                if isinstance(entry, list) and len(entry) != self.spatial_dims:
                    yield (key, "spatial_dims"), f"{entry} must have {self.spatial_dims} numbers (spatial_dims)"
        if widths and len(widths) < 2 and "encoder" not in self.known:
            yield ("widths",), f"needs at least two levels (got {widths})"
        for entry in self._of_kind(Steps, "kernel_sizes"):
            if any(size % 2 == 0 for size in (entry if isinstance(entry, list) else [entry])):
                yield ("kernel_sizes",), f"{entry} must be odd, so that a convolution keeps the size"

    def _of_kind(self, kind: Any, key: str) -> list[Any]:
        """What is given for an option; empty where the network has none of this name and kind."""
        option = self.part.options.get(key)
        return (getattr(self, key) or []) if option and option.kind in (kind, kind | None) else []

    def level_strides(self) -> list[list[int]] | None:
        """Down-sampling before each resolution of a U-Net without an encoder, a number an axis; of others not known."""
        if self.name != "unet" or self.encoder is not None:
            return None
        options = self.options()
        strides = options["strides"] or halving(len(options["widths"]))
        return [stride if isinstance(stride, list) else [stride] * self.spatial_dims for stride in strides]

    def coarsest(self, size: list[int]) -> list[int] | None:
        """The number of voxels along each axis at a U-Net's coarsest resolution, for a patch of `size`, if known."""
        strides = self.level_strides()
        for stride in strides or []:
            size = [math.ceil(n / step) for n, step in zip(size, stride, strict=True)]
        return size if strides else None

    def multiple(self) -> list[int] | None:
        """Voxels along each axis that a U-Net's coarsest resolution takes as one, if known."""
        strides = self.level_strides()
        return [math.prod(steps) for steps in zip(*strides, strict=True)] if strides else None


def encoder_in_use(given: Mapping[str, Any]) -> str | None:
    """The name of the encoder that a section with these keys builds on, if its network has one."""
    parts = NetworkConfig.parts_of(given)
    if parts is None or "encoder" not in parts[0].options:
        return None
    name = given.get("encoder") or parts[0].options["encoder"].default
    return name if isinstance(name, str) else None


@cache
def encoder_section(encoder: Part) -> type[EncoderOptions]:
    """The section of an encoder's options: what is not given is left to the network, so all are null by default.

    Raises:
        ConfigError: the encoder is of another package and cannot be used.
    """
    fields: dict[str, Any] = {
        name: (kind | None, Field(default=None, description=field.description))
        for name, (kind, field) in fields_of(EncoderOptions, [encoder]).items()
    }
    about = f"Options of {encoder.name}."
    made: Any = create_model(EncoderOptions.__name__, __base__=EncoderOptions, __doc__=about, **fields)
    made.called, made.option_names = encoder.name, tuple(sorted(fields))
    return made


@cache
def _on_encoder(section: Any, called: str, options: type[EncoderOptions] | None, broken: tuple[Finding, ...]) -> Any:
    """The section of a network, with the options of the encoder that it builds on; any where that is not known."""
    fields = NetworkConfig.model_fields
    changed: dict[str, Any] = {
        "encoder": (Annotated[str, NameIn(ENCODERS)] | None, fields["encoder"]),
        "encoder_options": ((options or dict[str, Any]) | None, fields["encoder_options"]),
    }
    made = create_model(section.__name__, __base__=section, __doc__=section.__doc__, **changed)
    made.called, made.broken = called, broken  # type: ignore[attr-defined]
    return made
