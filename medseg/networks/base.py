"""What networks on an encoder have in common: how they begin, and how their forward pass ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from medseg.networks.blocks.heads import FCNHead
from medseg.networks.blocks.layers import resize
from medseg.networks.encoders import build_encoder, encoder_part


class EncoderNetwork(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image, on any encoder.

    A network builds the encoder by this constructor, then its decoder, then `auxiliary_head`, and says in `decode` how
    features become logits, or has a `forward` of its own that ends in `outputs`.

    Args:
        encoder: the name of one; its features are what is decoded.
        auxiliary: train on a second head on the feature before the last too; in training mode the network then returns
            `[logits, those of the second head]`.
        norm: of encoder and decoder.
        output_stride: of the encoder's last feature; null leaves it to an encoder that cannot dilate.
        dropout: before the last convolution.
        align_corners: of the resizes to the image.
        upsample: to the image: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further options of the encoder, as `width`.

    Attributes:
        asked: options of the encoder that the network asks for where `encoder_options` says nothing.
        published: kind of encoder -> the options that the published form of this network has for it.
    """

    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    asked: Mapping[str, Any]
    auxiliary: nn.Module | None

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        encoder: str,
        encoder_options: Mapping[str, Any] | None,
        **asked: Any,
    ) -> None:
        super().__init__()
        wanted = {**asked, **self.published.get(encoder_kind(encoder), {})}
        self.asked = {name: value for name, value in wanted.items() if value is not None}
        options = {**self.asked, **(encoder_options or {})}
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **options)

    def auxiliary_head(self, spatial_dims: int, out_channels: int, wanted: bool, norm: str) -> FCNHead | None:
        """The head on the feature before the last."""
        return FCNHead(spatial_dims, self.encoder.channels[-2], out_channels, norm=norm) if wanted else None

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Logits at the image's size, of the image and the encoder's features, the finest first."""
        raise NotImplementedError

    def auxiliary_logits(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Those of the second head, at the image's size."""
        assert self.auxiliary is not None
        return resize(self.auxiliary(features[-2]), x.shape[2:])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.encoder(x)
        return self.outputs(self.decode(x, features), x, features)

    def outputs(
        self,
        logits: Tensor,
        x: Tensor,
        features: Sequence[Tensor],
        *,
        before: Sequence[Tensor] = (),
        behind: Sequence[Tensor] = (),
    ) -> Tensor | list[Tensor]:
        """The logits; in training mode, where there is more to learn from, a list that begins with them.

        Args:
            before, behind: what training is to see besides, before and behind the second head's logits.
        """
        if not self.training:
            return logits
        second = [] if self.auxiliary is None else [self.auxiliary_logits(x, features)]
        found = [logits, *before, *second, *behind]
        return found if len(found) > 1 else logits


def encoder_kind(name: str) -> str:
    """The family of an encoder, as its class says; empty where it says none.

    Raises:
        ValueError: there is no such encoder.
    """
    return getattr(encoder_part(name).load(), "kind", "")
