"""Any model of `timm` that can return features, as an encoder for images (2D) of any number of channels."""

from __future__ import annotations

import importlib
from typing import Literal, Self

from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn.modules.batchnorm import _BatchNorm

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.types import OutputStride, TimmNorm, chosen
from medseg.networks.blocks.convolution import safe_on_a_cpu
from medseg.networks.encoders.base import Encoder

MODEL = "encoder_options.model"


class TimmEncoder(Encoder):
    """`(B, in_channels, H, W)` -> the features of a timm model, `(B, channels[i], ~H / strides[i], ~W / strides[i])`.

    Args:
        model: a name that `timm.list_models()` gives, as `convnext_tiny`; must be given.
        output_stride: largest stride, where the model can dilate.
        norm: only `batch` or `own`: a timm model brings its own norm layers; or `frozenbatch`, whose batch norm
            keeps the mean and variance that it begins with.

    Raises:
        ConfigError: no model is named, timm is not installed, does not know the model, or the model gives no features.
        ValueError: three spatial dimensions, or another norm.
    """

    kind = "timm"

    def __init__(
        self,
        spatial_dims: Literal[2],
        in_channels: int,
        *,
        model: str | None = None,
        output_stride: OutputStride | None = None,
        norm: TimmNorm = "batch",
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(
                f"timm has networks for two dimensions only, got spatial_dims {spatial_dims}; "
                "for volumes take an encoder of medseg: resnet50, efficientnet_lite0, hrnet_w18, ..."
            )
        chosen(norm, TimmNorm, "a timm model brings its own norm layers: norm")
        if output_stride is not None:
            chosen(output_stride, OutputStride, "output_stride")
        if model is None:
            raise ConfigError(Problem(MODEL, "timm has many encoders", "say which, as convnext_tiny"))
        try:
            timm = importlib.import_module("timm")
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
            problem = f"encoder 'timm' needs the package timm ({error})"
            raise ConfigError(Problem("encoder", problem, "pip install medseg[timm]")) from error
        if not timm.is_model(model):
            raise ConfigError(Problem(MODEL, f"timm has no model {model!r}", did_you_mean(model, timm.list_models())))
        options = {} if output_stride is None else {"output_stride": output_stride}
        try:
            self.model = timm.create_model(model, features_only=True, in_chans=in_channels, **options)
        except DataDependentOutputException:  # `Pretended`, which then builds the real one
            raise
        except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:
            problem = f"timm's {model} cannot be an encoder with {options or 'features'}: {error}"
            raise ConfigError(Problem(MODEL, problem)) from error
        safe_on_a_cpu(self.model)
        self.frozen = norm == "frozenbatch"
        self.channels = tuple(self.model.feature_info.channels())
        reductions = [int(stride) for stride in self.model.feature_info.reduction()]
        self.strides = tuple((stride, stride) for stride in reductions)
        self.steps = tuple(
            (stride // before,) * 2 for before, stride in zip([1, *reductions[:-1]], reductions, strict=True)
        )
        self.channels_last = str(getattr(self.model, "output_fmt", "NCHW")).endswith("NHWC")

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.model.modules():
            if self.frozen and isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.model(x)
        return [feature.permute(0, 3, 1, 2) for feature in features] if self.channels_last else list(features)
