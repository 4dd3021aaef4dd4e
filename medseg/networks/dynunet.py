"""DynUNet: MONAI's, for any size of image."""

from __future__ import annotations

from monai.networks import nets
from torch import Tensor

from medseg.core.types import Counts, Norm, Share, Steps
from medseg.networks.blocks.convolution import safe_on_a_cpu
from medseg.networks.blocks.layers import per_axis
from medseg.networks.blocks.monai import cropped, level_strides, norm_named, padded, total_stride
from medseg.networks.levels import per_level


class DynUNet(nets.DynUNet):
    """nnU-Net's U-Net as MONAI has it (Isensee et al., arXiv 1809.10486), any size of image.

    In training mode with `deep_supervision` a list: the logits, then those of the coarser levels, at the image's size.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.
        kernel_sizes: kernel of each level, odd, one number or one an axis; default 3 each.
        norm: of every convolution.
        residual: residual blocks.
        dropout: behind every convolution.
        deep_supervision: train on the coarser maps of the decoder too (weights 1, 1/2, 1/4, ...).

    Raises:
        ValueError: fewer than three levels, lists of different lengths, a first stride, an unknown norm.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        widths: Counts = (32, 64, 128, 256, 320),
        strides: Steps | None = None,
        kernel_sizes: Steps | None = None,
        norm: Norm = "instance",
        residual: bool = False,
        dropout: Share = 0.0,
        deep_supervision: bool = True,
    ) -> None:
        steps = level_strides(strides, len(widths), spatial_dims)
        kernels = per_level("kernel_sizes", [3] * len(widths) if kernel_sizes is None else kernel_sizes, len(widths))
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
        safe_on_a_cpu(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        logits = super().forward(padded(x, self.multiples, several=True))
        if not self.training or not self.deep_supervision:
            return cropped(logits, size)
        return [cropped(level, size) for level in logits.unbind(1)]
