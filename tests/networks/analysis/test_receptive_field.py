"""The computed fields against impulses: which voxels a gradient reaches, in networks made so that nothing cancels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks import build_network
from medseg.networks.analysis import NORM
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.analysis.reach import GRID, MIXING, POOLING, Reach
from medseg.networks.analysis.receptive_field import Trace, effective_field, field_of, survey
from medseg.networks.blocks.aspp import ImagePooling
from medseg.networks.blocks.layers import InstanceNorm
from medseg.networks.encoders import build_encoder

RESNET = {"encoder": "resnet18", "encoder_options": {"width": 0.125}}
VGG = {"fc_channels": 8, "encoder_options": {"width": 0.125}}
# network, options, and an edge larger than its field
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "unet": ("unet", {"widths": [4, 4, 4, 8]}, 140),
    "unet, resized, residual": ("unet", {"widths": [4, 4, 4, 8], "upsample": "linear", "residual": True}, 150),
    "unet, group norm": ("unet", {"widths": [4, 8], "norm": "group", "kernel_sizes": [5, 3]}, 40),
    "fcn": ("fcn", RESNET, 600),
    "fcn, transposed, EfficientNet": ("fcn", {"encoder": "efficientnet_lite0", "output_stride": 16, "norm": "batch",
        "upsample": "transposed", "encoder_options": {"width": 0.25}}, 900),
    "fcn8s": ("fcn8s", VGG, 520),
    "fcn8s, AlexNet": ("fcn8s", {**VGG, "encoder": "alexnet"}, 480),
    "deeplabv1": ("deeplabv1", VGG, 520),
    "deeplabv1_msc": ("deeplabv1_msc", {**VGG, "branch_width": 4}, 520),
    "deeplabv2": ("deeplabv2", RESNET, 900),
    "deeplabv2, scales": ("deeplabv2", {**RESNET, "scales": [0.5], "rates": [2, 4]}, 1400),
    "deeplabv3": ("deeplabv3", {**RESNET, "width": 8, "multi_grid": [1, 2]}, 1200),
    "deeplabv3plus": ("deeplabv3plus", {**RESNET, "width": 8, "separable": True}, 1200),
    "fpn": ("fpn", {**RESNET, "pyramid_channels": 8, "segmentation_channels": 8}, 800),
    "hrnet": ("hrnet", {"encoder": "hrnet_w18s", "encoder_options": {"width": 4, "stem_width": 8}}, 1700),
}  # fmt: skip
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dilated": lambda: nn.Conv2d(1, 1, 3, dilation=(3, 2), padding=(2, 5)),
    "strided": lambda: nn.Conv2d(1, 1, (5, 4), stride=(3, 2), padding=1),
    "transposed": lambda: nn.ConvTranspose2d(1, 1, (4, 3), stride=(3, 2), padding=1, output_padding=1),
    "pooling, rounded up": lambda: nn.MaxPool2d(2, stride=(2, 3), ceil_mode=True),
    "pooling, padded": lambda: nn.AvgPool2d(3, stride=2, padding=1),
    "kernel without stride": lambda: nn.MaxPool2d(3),
    "linear": lambda: Lambda(lambda x: F.interpolate(x, size=(64, 10), mode="bilinear")),
    "linear, corners": lambda: Lambda(lambda x: F.interpolate(x, size=(31, 19), mode="bilinear", align_corners=True)),
    "linear, factor": lambda: nn.Upsample(scale_factor=2.5, mode="bilinear"),
    "nearest": lambda: Lambda(lambda x: F.interpolate(x, size=(40, 4), mode="nearest")),
    "nearest, exact": lambda: Lambda(lambda x: F.interpolate(x, size=(40, 4), mode="nearest-exact")),
    "padded and cropped": lambda: Lambda(lambda x: F.pad(x, (-2, 3, 4, -1))),
    "repeated at the border": lambda: nn.ReplicationPad2d((3, 2, 1, 4)),
    "sliced": lambda: Lambda(lambda x: x[..., 2:11:3, -5:]),
    "turned": lambda: Lambda(lambda x: nn.AvgPool2d((1, 3), 1)(x.transpose(2, 3).contiguous()).permute(0, 1, 3, 2)),
    "split": lambda: Lambda(lambda x: sum(part * 2 for part in torch.cat([x, x * 1], dim=1).split(1, dim=1))),
    "in place": lambda: Lambda(lambda x: F.avg_pool2d(x, (3, 1), 1, (1, 0)).add_(x).relu_().unsqueeze(0).squeeze(0)),
}


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def computed(network: Callable[[], nn.Module], shape: Sequence[int]) -> Reach:
    pretended, trace = Pretended.built(network), Trace()
    with pretended.mode, torch.no_grad():
        image = torch.empty(tuple(shape))
        with trace:
            trace.start(image)
            reach = trace.reach(pretended.module.eval()(image))
    assert reach is not None
    return reach


def positive(network: nn.Module) -> nn.Module:
    """A network of sums with positive weights: no norm of the whole image, no saturation, no choice of a maximum."""
    network = copy.deepcopy(network).double().eval()
    for name, module in list(network.named_modules()):
        new: nn.Module | None = None
        if isinstance(module, InstanceNorm | nn.GroupNorm | nn.ReLU6):
            new = nn.Identity()
        elif isinstance(module, ImagePooling):
            new = Lambda(lambda x, module=module: module.forward(x.detach()))
        elif isinstance(module, nn.MaxPool2d | nn.MaxPool3d):
            new = Lambda(lambda x, module=module: summed(x, module))
        elif isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.weight.data.fill_(1 / module.weight[0].numel())
            if module.bias is not None:
                module.bias.data.zero_()
        if new is not None and name:
            network.set_submodule(name, new)
        elif new is not None:
            network = new
    return network


def summed(x: Tensor, pool: Any) -> Tensor:
    """The sum under each window of a max pooling, whose gradient would reach one voxel only."""
    dims = x.ndim - 2
    kernel, stride, padding = (
        [value] * dims if isinstance(value, int) else value for value in (pool.kernel_size, pool.stride, pool.padding)
    )
    pads: list[int] = []
    for n, out, k, s, p in zip(x.shape[2:], pool(x).shape[2:], kernel, stride, padding, strict=True):
        pads = [p, (out - 1) * s + k - n - p, *pads]
    weight = x.new_full((x.shape[1], 1, *kernel), 1 / np.prod(kernel))
    convolve = F.conv2d if dims == 2 else F.conv3d
    return convolve(F.pad(x, pads), weight, stride=stride, groups=x.shape[1])


def reached(network: nn.Module, shape: Sequence[int], position: Sequence[int]) -> list[tuple[int, int]]:
    """First and last voxel along each axis to which the result at `position` has a gradient."""
    image = torch.ones(tuple(shape), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[(0, slice(None), *position)].sum(), image)
    assert (gradient >= 0).all()
    found = gradient[0].sum(0).nonzero()
    return [(int(axis.min()), int(axis.max())) for axis in found.T] if len(found) else []


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_field_of_every_voxel_is_what_an_impulse_reaches(
    case: str, spatial_dims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On images that are long along one axis: as exact as on large ones, and a thousand times quicker."""
    name, options, edge = CASES[case]

    def build() -> nn.Module:
        return build_network(name, spatial_dims=spatial_dims, in_channels=2, out_channels=3, **options)

    network = positive(build())
    size = (7, edge) if spatial_dims == 2 else (3, edge, 2)
    reach = computed(build, (1, 2, *size))
    assert max(field_of(reach).voxels) < edge
    assert reach.whole <= {NORM, POOLING}
    monkeypatch.setattr(torch, "maximum", torch.add)
    for place in (0.0, np.random.default_rng(len(case)).uniform(0.3, 0.7), 1.0):
        position = [round(place * (n - 1)) for n in size]
        spans = [(span.low[n], span.high[n]) for span, n in zip(reach.spans, position, strict=True)]
        assert spans == reached(network, (1, 2, *size), position), position


@pytest.mark.parametrize("layer", LAYERS)
def test_the_field_of_a_layer(layer: str) -> None:
    """Of many positions, at the border too; of the layer alone and between two convolutions."""
    for build in (LAYERS[layer], lambda: nn.Sequential(nn.Conv2d(1, 1, 3, 2), LAYERS[layer](), nn.Conv2d(1, 1, 3))):
        shape = (1, 1, 26, 33)
        network, reach = positive(build()), computed(build, shape)
        assert not reach.whole
        size = network(torch.ones(shape, dtype=torch.float64)).shape[2:]
        for number in range(max(size)):
            position = [number % n for n in size]
            spans = [(span.low[n], span.high[n]) for span, n in zip(reach.spans, position, strict=True)]
            seen = reached(network, shape, position)
            assert spans == seen or (not seen and any(low > high for low, high in spans)), position


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (lambda: Lambda(lambda x: x * x.mean((2, 3), keepdim=True)), POOLING),
        (lambda: Lambda(lambda x: x + nn.AdaptiveAvgPool2d(1)(x)), POOLING),
        (lambda: Lambda(lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 2), size=x.shape[2:])), GRID),
        (lambda: Lambda(lambda x: x + x.flatten(2).cumsum(2).view(x.shape)), MIXING),
        (lambda: Lambda(lambda x: x + x.flatten(2).softmax(2).view(x.shape)), MIXING),
        (lambda: Lambda(lambda x: x * (x.flatten(2).transpose(1, 2) @ x.flatten(2)).mean()), MIXING),
        (lambda: InstanceNorm(2), NORM),
        (lambda: nn.GroupNorm(1, 2), NORM),
        (lambda: nn.LayerNorm([2, 9, 9]), NORM),
    ],
)
def test_what_takes_in_the_whole_image_is_named(layer: Callable[[], nn.Module], cause: str) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), layer())

    reach = computed(build, (1, 2, 9, 9))
    assert cause in reach.whole
    assert field_of(reach).voxels == (3, 3)
    image = torch.randn(1, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(build().double()(image)[0, 0, 4, 4], image)
    assert (gradient != 0).any(1).sum() > 30


def test_what_is_written_through_a_view_is_followed() -> None:
    def write(x: Tensor) -> Tensor:
        y, part = torch.empty_like(x), torch.empty_like(x)
        torch.relu_(y.split(1)[0].copy_(F.avg_pool2d(x, 3, 1, 1)))
        part[..., :3] = F.avg_pool2d(x, 5, 1, 2)[..., :3]
        return torch.cat([y, part], dim=1)

    reach = computed(lambda: Lambda(write), (1, 1, 20, 20))
    assert field_of(reach).voxels == (3, 3)
    assert reach.whole == {MIXING}  # of a tensor written in part nothing more is known


def published(layers: Sequence[tuple[int, int]]) -> int:
    """Field of a chain of (kernel, stride) by the sum of Araujo et al., Distill 2019: r = 1 + sum (k_l - 1) j_l."""
    field = jump = 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field


RESNET50 = [(7, 2), (3, 2), *[(3, 1)] * 3, (3, 2), *[(3, 1)] * 3, (3, 2), *[(3, 1)] * 5, (3, 2), *[(3, 1)] * 2]


@pytest.mark.parametrize(
    ("network", "options", "stage", "field"),
    [
        ("fcn32s", {}, "classifier", 404),  # Long et al., Table 1
        ("fcn32s", {"encoder": "alexnet"}, "classifier", 355),  # Long et al., Table 1
        ("fcn32s", {}, "encoder.4", 212),  # VGG-16 and AlexNet: Araujo et al., Table 1
        ("fcn32s", {"encoder": "alexnet"}, "encoder.2", 195),
        ("efficientfcn", {}, "encoder.4", published(RESNET50)),
        ("fcn", {}, "encoder.4", published(RESNET50)),  # dilation in place of stride leaves it as it was
        ("fcn", {"output_stride": 16}, "encoder.4", published(RESNET50)),
    ],
)
def test_published_fields(network: str, options: dict[str, Any], stage: str, field: int) -> None:
    build = {"spatial_dims": 2, "in_channels": 3, "out_channels": 21, **options}
    found = {part.name: part for part in survey(Pretended.built(lambda: build_network(network, **build)), 3, 2).stages}
    assert found[stage].field.voxels == (field, field)
    assert found[stage].field.whole_image_by == ()


def test_stages_of_a_network_for_anisotropic_volumes() -> None:
    """Channels and strides are those that the encoder states; fields differ along the axes."""
    strides = [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
    options = {"encoder": "resnet18", "encoder_options": {"width": 0.25, "strides": strides}, "output_stride": 32}

    def build() -> nn.Module:
        return build_network("deeplabv3plus", spatial_dims=3, in_channels=1, out_channels=2, **options)

    seen = survey(Pretended.built(build), 1, 3)
    found = seen.stages
    encoder = [stage for stage in found if stage.name.startswith("encoder.")]
    wanted = build_encoder("resnet18", 3, 1, width=0.25, strides=strides)
    assert [stage.channels for stage in encoder] == list(wanted.channels)
    assert [stage.stride for stage in encoder] == list(wanted.strides)
    assert seen.output_stride == wanted.strides[-1]
    assert encoder[0].field.voxels == (7, 7, 7)
    assert encoder[1].field.voxels == (7 + 0 + 8, 7 + 4 + 32, 7 + 4 + 32)
    assert [stage.name for stage in found[len(encoder) :]] == ["low_level", "aspp", "refine", "head", "logits"]
    assert found[-1].channels == 2
    assert found[-1].stride == (1, 1, 1)
    assert found[-1].field.whole_image_by == (POOLING,)


def test_the_size_of_an_image_does_not_matter_unless_all_of_it_is_seen() -> None:
    edge = Pretended.built(lambda: nn.Sequential(nn.Conv2d(1, 1, 3, dilation=1500, padding=1500)))
    assert survey(edge, 1, 2).stages[-1].field.voxels == (3001, 3001)
    with pytest.raises(ValueError, match="larger than 32768 voxels"):
        survey(Pretended.built(lambda: nn.Sequential(nn.Conv2d(1, 1, 3, dilation=20000, padding=20000))), 1, 2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_effective_field_of_averages_is_that_of_their_kernel(spatial_dims: int) -> None:
    """Seven means of three: the gradient is their seven-fold convolution, a product over the axes."""
    pool = nn.AvgPool2d if spatial_dims == 2 else nn.AvgPool3d
    network = nn.Sequential(*(pool(3, 1, 1) for _ in range(7)))
    kernel = np.ones(1)
    for _ in range(7):
        kernel = np.convolve(kernel, np.ones(3) / 3)
    shares = {2 * half + 1: (kernel[7 - half : 8 + half] ** 2).sum() / (kernel**2).sum() for half in range(8)}
    for share in (0.5, 0.95, 0.999):
        wanted = min(width for width, held in shares.items() if held >= share)
        image = torch.empty(1, 2, *[21] * spatial_dims)
        assert effective_field(network, image, share=share) == (wanted,) * spatial_dims
    assert effective_field(network, torch.empty(1, 1, *[4] * spatial_dims), share=1.0) == (4,) * spatial_dims


def test_a_network_without_a_gradient_has_no_effective_field() -> None:
    assert effective_field(Lambda(lambda x: x * 0), torch.empty(1, 1, 8, 8)) is None
