"""FCN-32s/16s/8s: published counts and crops, logits that lie on the image; FCN and up-sampling against torchvision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import linear_transposed, take
from medseg.networks.fcn import FCN, FCN8s, FCN16s, FCN32s
from tests.networks.oracles import copy_weights, largest_difference, oracle

SMALL = {"fc_channels": 8, "encoder_options": {"width": 0.125}}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "classes", "parameters"),
    [
        (FCN32s, 21, 136_152_917),
        (FCN32s, 19, 135_817_043),
        (FCN32s, 150, 227_035_094),
        (FCN16s, 21, 134_815_994),
        (FCN16s, 19, 134_723_574),
        (FCN16s, 150, 158_352_044),
        (FCN8s, 21, 134_489_759),
        (FCN8s, 19, 134_456_985),
        (FCN8s, 150, 141_470_594),
    ],
)
def test_parameters_as_published(network: type[nn.Module], classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(network(2, 3, classes)) == parameters


@pytest.mark.parametrize(
    ("spatial_dims", "encoder", "auxiliary", "classes", "parameters"),
    [
        (2, "resnet50", True, 21, 35_322_218),
        (2, "resnet50", False, 21, 32_957_013),
        (2, "resnet50", True, 150, 35_421_548),
        (2, "resnet101", True, 21, 54_314_346),
        (2, "resnet101", False, 19, 51_948_115),
        (2, "resnet50", True, 4, 35_309_128),
        (3, "resnet50", True, 4, 81_593_032),
    ],
)
def test_parameters_of_the_dilated_form(
    spatial_dims: int, encoder: str, auxiliary: bool, classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        assert count(FCN(spatial_dims, 3, classes, encoder=encoder, auxiliary=auxiliary)) == parameters


def test_crops_and_kernels_of_the_authors_code() -> None:
    """voc-fcn32s, voc-fcn16s, voc-fcn8s and voc-fcn-alexnet of github.com/shelhamer/fcn.berkeleyvision.org."""
    expected = [
        (FCN32s, "vgg16", [64], [19]),
        (FCN16s, "vgg16", [4, 32], [5, 27]),
        (FCN8s, "vgg16", [4, 4, 16], [5, 9, 31]),
        (FCN32s, "alexnet", [63], [18]),
    ]
    for kind, encoder, kernels, crops in expected:
        network = kind(2, 3, 21, encoder=encoder, padding="published", **SMALL)
        assert [upsample.kernel_size[0] for upsample in network.upsamples] == kernels
        assert [abs(start[0]) for start in network.starts] == crops


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("encoder", ["vgg16", "alexnet"])
@pytest.mark.parametrize("kind", [FCN32s, FCN16s, FCN8s])
@torch.no_grad()
def test_logits_lie_on_the_image(kind: type[nn.Module], encoder: str, padding: str) -> None:
    """Made linear and symmetric, the network must reproduce a ramp away from the border, at the ramp's own place."""
    torch.manual_seed(0)
    size = 560
    network = kind(2, 1, 1, encoder=encoder, padding=padding, **SMALL).double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.fill_(1 / module.weight[0].numel())
            module.bias.zero_()
    features = network.encoder.features
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            features[index] = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
    ramp = torch.arange(size, dtype=torch.float64) + 1000
    image = torch.stack((ramp.expand(size, size), torch.ones(size, size).double()))[:, None]
    of_ramp, of_ones = network(image)[:, 0, 265:295, 265:295]
    torch.testing.assert_close(of_ramp / of_ones, ramp[265:295].expand(30, 30), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [FCN32s, FCN8s])
@pytest.mark.parametrize("encoder", ["vgg16", "vgg16_bn", "alexnet"])
@pytest.mark.parametrize("size", [(65, 97), (1, 40), (17, 33, 20)])
def test_any_size(kind: type[nn.Module], encoder: str, size: tuple[int, ...]) -> None:
    network = kind(len(size), 2, 3, encoder=encoder, auxiliary=True, **SMALL)
    image = torch.randn(2, 2, *size)
    logits, auxiliary = network(image)
    assert logits.shape == auxiliary.shape == (2, 3, *size)
    assert network.eval()(image).shape == (2, 3, *size)


def test_at_once_scales_the_skips() -> None:
    torch.manual_seed(0)
    plain = FCN8s(2, 1, 2, **SMALL).eval()
    scaled = FCN8s(2, 1, 2, at_once=True, **SMALL).eval()
    scaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for score, factor in zip(scaled.scores[1:], (100, 10_000), strict=True):
            score.weight *= factor
        image = torch.randn(1, 1, 40, 40)
        torch.testing.assert_close(plain(image), scaled(image))


def test_an_encoder_without_known_places_is_refused() -> None:
    with pytest.raises(ValueError, match="vgg16"):
        FCN8s(2, 3, 2, encoder="resnet18")


@pytest.mark.parametrize("stride", [2, 3, 8, (1, 4)])
def test_transposed_convolution_begins_as_linear_resize(stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    upsample = linear_transposed(2, 3, stride)
    x = torch.randn(1, 3, 9, 8)
    steps = (stride, stride) if isinstance(stride, int) else stride
    resized = resize(x, (9 * steps[0], 8 * steps[1]))
    learned = upsample(x)
    assert learned.shape == resized.shape
    inner = (..., slice(steps[0], -steps[0]), slice(steps[1], -steps[1]))
    torch.testing.assert_close(learned[inner], resized[inner])


def test_transposed_convolution_begins_as_trilinear_resize() -> None:
    x = torch.randn(1, 2, 5, 4, 6)
    learned = linear_transposed(3, 2, (2, 4, 2))(x)
    resized = resize(x, learned.shape[2:])
    torch.testing.assert_close(learned[..., 2:-2, 4:-4, 2:-2], resized[..., 2:-2, 4:-4, 2:-2])


def test_take_crops_and_fills_with_zeros() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3) + 1
    assert take(x, (1, -1), (1, 3)).tolist() == [[[[0, 4, 5]]]]
    assert take(x, (0, 0), (2, 3)) is x


def test_both_upsamplings_of_fcn_agree_away_from_the_border() -> None:
    torch.manual_seed(0)
    options = {"encoder": "resnet18", "encoder_options": {"width": 0.125}}
    linear = FCN(2, 1, 2, **options).eval()
    learned = FCN(2, 1, 2, upsample="transposed", **options).eval()
    learned.load_state_dict({**learned.state_dict(), **linear.state_dict()})
    image = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(learned(image)[..., 8:-8, 8:-8], linear(image)[..., 8:-8, 8:-8])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_logits_equal_torchvisions(name: str) -> None:
    models = oracle("torchvision").models.segmentation
    theirs = getattr(models, f"fcn_{name}")(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    ours = FCN(2, 3, 21, encoder=name, auxiliary=True)
    copy_weights(theirs, ours, ("^backbone", "encoder"), ("^classifier", "head"), ("^aux_classifier", "auxiliary"))
    difference, deviation = largest_difference(ours, theirs, torch.randn(1, 3, 65, 97))
    assert difference < 1e-4
    assert deviation > 0.01
