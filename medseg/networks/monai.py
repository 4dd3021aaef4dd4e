"""MONAI's own networks by name, for any size of image: each is MONAI's class, with its parameter names.

They need sizes that divide by their strides, so the image is padded at the end of each axis, its last voxels repeated,
and the logits are cropped. UNETR is not among them, since its position embedding fixes the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from monai.networks import nets
from torch import Tensor
from torch.nn import functional as F

from medseg.networks.blocks.convolution import safe_in_bfloat16
from medseg.networks.blocks.layers import memory_format, per_axis
from medseg.networks.blocks.upsampling import take

# Our names of norm layers -> MONAI's.
NORMS: dict[str, Any] = {
    "instance": ("instance", {"affine": True}),
    "group": ("group", {"num_groups": 8}),
    "batch": "batch",
    "syncbatch": "syncbatch",
    "none": "",
}


def padded(x: Tensor, multiples: Sequence[int], *, several: bool = False) -> Tensor:
    """`(B, C, *spatial)` with each axis padded at its end to a multiple, by repeating the last voxel.

    With `several` the coarsest map has more than one voxel, which instance and batch norm need.
    """
    size = [-(-n // multiple) * multiple for n, multiple in zip(x.shape[2:], multiples, strict=True)]
    if several and size == list(multiples):
        size[-1] *= 2
    pads: list[int] = []
    for have, wanted in zip(x.shape[2:], size, strict=True):
        pads = [0, wanted - have, *pads]  # F.pad counts the axes from the last
    if not any(pads):
        return x
    return F.pad(x, pads, mode="replicate").contiguous(memory_format=memory_format(x))


def cropped(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of `(B, K, *spatial)`."""
    return take(logits, [0] * len(size), size)


def norm_named(norm: str) -> Any:
    """MONAI's name and arguments of our norm layer."""
    if norm not in NORMS:
        raise ValueError(f"norm {norm!r} is unknown; known: {', '.join(NORMS)}")
    return NORMS[norm]


def level_strides(strides: Sequence[int | Sequence[int]] | None, levels: int, spatial_dims: int) -> list[tuple]:
    """Down-sampling before each level, one number an axis; default 1, then 2 each.

    Raises:
        ValueError: another number of them, or a first one that is not 1.
    """
    if levels < 3:
        raise ValueError(f"needs at least three levels, got {levels} widths")
    given = [1] + [2] * (levels - 1) if strides is None else list(strides)
    if len(given) != levels:
        raise ValueError(f"strides needs one entry a level: got {len(given)} for {levels} widths")
    result = [per_axis(stride, spatial_dims) for stride in given]
    if max(result[0]) > 1:
        raise ValueError(f"the first stride must be 1, got {given[0]}: the logits have the image's size")
    return result


def total_stride(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(prod(axis) for axis in zip(*strides, strict=True))


class SegResNet(nets.SegResNet):
    """Residual encoder-decoder without its autoencoder branch (Myronenko, arXiv 1810.11654), any size of image.

    Args:
        width: channels at full resolution, twice as many at each coarser one (32 in the paper).
        blocks_down: residual blocks at each resolution on the way down.
        blocks_up: and on the way up, one entry less.
        norm: `group` has 8 groups.
        dropout: after the first convolution.
        upsample: `linear` or `transposed`.

    Raises:
        ValueError: lists that do not fit together, an unknown norm or upsample, a width that groups do not divide.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 8,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        norm: str = "group",
        dropout: float = 0.0,
        upsample: str = "linear",
    ) -> None:
        modes = {"linear": "nontrainable", "transposed": "deconv"}
        if upsample not in modes:
            raise ValueError(f"upsample {upsample!r} is unknown; known: {', '.join(modes)}")
        if len(blocks_up) != len(blocks_down) - 1:
            raise ValueError(f"blocks_up needs {len(blocks_down) - 1} entries, one less than blocks_down")
        if norm == "group" and width % 8:
            raise ValueError(f"width {width} must be a multiple of 8, the number of groups of norm group")
        super().__init__(
            spatial_dims=spatial_dims,
            init_filters=width,
            in_channels=in_channels,
            out_channels=out_channels,
            dropout_prob=dropout or None,
            norm=norm_named(norm),
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
            upsample_mode=modes[upsample],
        )
        self.multiples = (2 ** (len(blocks_down) - 1),) * spatial_dims
        safe_in_bfloat16(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])


class DynUNet(nets.DynUNet):
    """nnU-Net's U-Net as MONAI has it (Isensee et al., arXiv 1809.10486), any size of image.

    In training mode with `deep_supervision` a list: the logits, then those of the coarser levels, at the image's size.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.
        kernel_sizes: kernel of each level, odd, one number or one an axis; default 3 each.
        residual: residual blocks.

    Raises:
        ValueError: fewer than three levels, lists of different lengths, a first stride, an unknown norm.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 320),
        strides: Sequence[int | Sequence[int]] | None = None,
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        norm: str = "instance",
        residual: bool = False,
        dropout: float = 0.0,
        deep_supervision: bool = True,
    ) -> None:
        steps = level_strides(strides, len(widths), spatial_dims)
        kernels = [3] * len(widths) if kernel_sizes is None else list(kernel_sizes)
        if len(kernels) != len(widths):
            raise ValueError(f"kernel_sizes needs one entry a level: got {len(kernels)} for {len(widths)} widths")
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size=[per_axis(kernel, spatial_dims) for kernel in kernels],
            strides=steps,
            upsample_kernel_size=steps[1:],
            filters=list(widths),
            dropout=dropout or None,
            norm_name=norm_named(norm),
            deep_supervision=deep_supervision,
            deep_supr_num=len(widths) - 2,
            res_block=residual,
        )
        self.multiples = total_stride(steps)
        safe_in_bfloat16(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        logits = super().forward(padded(x, self.multiples, several=True))
        if not self.training or not self.deep_supervision:
            return cropped(logits, size)
        return [cropped(level, size) for level in logits.unbind(1)]


class AttentionUNet(nets.AttentionUnet):
    """Attention U-Net (Oktay et al., arXiv 1804.03999) with batch norm, any size of image.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.

    Raises:
        ValueError: fewer than three levels, another number of strides, or a first one that is not 1.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 320),
        strides: Sequence[int | Sequence[int]] | None = None,
        dropout: float = 0.0,
    ) -> None:
        steps = level_strides(strides, len(widths), spatial_dims)
        strides_down: list[Any] = steps[1:]  # MONAI's annotation leaves out that they may be one an axis
        super().__init__(
            spatial_dims, in_channels, out_channels, channels=list(widths), strides=strides_down, dropout=dropout
        )
        self.multiples = total_stride(steps)
        safe_in_bfloat16(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])


class SwinUNETR(nets.SwinUNETR):
    """Swin transformer encoder, convolutional decoder (Hatamizadeh et al., arXiv 2201.01266), any size of image.

    Args:
        width: channels at full resolution, a multiple of 12 (48 in the paper).
        depths: transformer blocks of the four stages.
        attention_heads: of the four stages; each divides its channels, `width * 2 ** stage`.
        window_size: side of the windows of attention, in voxels of each stage's grid.
        norm: of the convolutions; `instance` is MONAI's, without scale and shift.
        dropout: in the transformer.
        checkpoint: recompute the transformer's blocks in the backward pass instead of keeping their activations.
        v2: a residual convolution block before each stage (SwinUNETR-V2).

    Raises:
        ValueError: a width or number of heads that does not divide, an unknown norm.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        attention_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        norm: str = "instance",
        dropout: float = 0.0,
        checkpoint: bool = False,
        v2: bool = False,
    ) -> None:
        if len(depths) != 4 or len(attention_heads) != 4:
            raise ValueError(f"four stages: depths {list(depths)}, attention_heads {list(attention_heads)}")
        for stage, heads in enumerate(attention_heads):
            if width * 2**stage % heads:
                raise ValueError(f"attention_heads: {heads} do not divide the {width * 2**stage} channels of a stage")
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            depths=tuple(depths),
            num_heads=tuple(attention_heads),
            window_size=window_size,
            feature_size=width,
            norm_name="instance" if norm == "instance" else norm_named(norm),
            drop_rate=dropout,
            use_checkpoint=checkpoint,
            spatial_dims=spatial_dims,
            use_v2=v2,
        )
        self.multiples = (32,) * spatial_dims
        safe_in_bfloat16(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])
