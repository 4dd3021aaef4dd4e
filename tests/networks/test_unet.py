"""The U-Net: any size, two and three dimensions, exportable, and the network that nnU-Net trains."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medseg.core.errors import ConfigError
from medseg.networks import NETWORKS, build_network


def make(spatial_dims: int = 3, **options: object) -> torch.nn.Module:
    arguments: dict = {"in_channels": 2, "out_channels": 3, "widths": [4, 8, 12], **options}
    return build_network("unet", spatial_dims=spatial_dims, **arguments)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 9), (1, 7), (16, 12, 8), (13, 9, 7), (3, 1, 2)])
@pytest.mark.parametrize("upsample", ["transposed", "linear"])
def test_logits_have_the_size_of_the_image(size: tuple[int, ...], upsample: str) -> None:
    network = make(len(size), upsample=upsample).eval()
    logits = network(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("norm", ["instance", "group", "batch", "none"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["leakyrelu", "relu", "gelu", "silu"])
def test_every_parameter_learns(norm: str, residual: bool, activation: str) -> None:
    network = make(2, norm=norm, residual=residual, activation=activation, dropout=0.1)
    outputs = network(torch.randn(2, 2, 16, 12))
    assert [tuple(output.shape[2:]) for output in outputs] == [(16, 12), (8, 6)]
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_deep_supervision_is_for_training_only() -> None:
    network = make(2)
    assert isinstance(network(torch.randn(1, 2, 8, 8)), list)
    assert isinstance(network.eval()(torch.randn(1, 2, 8, 8)), torch.Tensor)
    assert isinstance(make(2, deep_supervision=False)(torch.randn(1, 2, 8, 8)), torch.Tensor)


def test_strides_and_kernels_an_axis() -> None:
    network = make(3, strides=[1, [1, 2, 2], 2], kernel_sizes=[[1, 3, 3], 3, 3])
    shapes = [tuple(feature.shape[2:]) for feature in network.encoder(torch.randn(1, 2, 5, 16, 12))]
    assert shapes == [(5, 16, 12), (5, 8, 6), (3, 4, 3)]
    assert network.encoder.strides == ((1, 1, 1), (1, 2, 2), (2, 4, 4))
    assert network.encoder.levels[0].blocks[0].conv.kernel_size == (1, 3, 3)
    assert network.eval()(torch.randn(1, 2, 5, 16, 12)).shape == (1, 3, 5, 16, 12)


def test_a_first_stride_is_undone_by_the_head() -> None:
    assert make(2, strides=[2, 2, 2]).eval()(torch.randn(1, 2, 19, 16)).shape == (1, 3, 19, 16)


def test_a_shift_of_the_image_shifts_the_logits() -> None:
    """Odd sizes are cropped at the end, so decoder and skip lie on the same voxels (no norm: that sees everything)."""
    network = make(2, norm="none").eval()
    image = torch.zeros(1, 2, 63, 63)
    image[..., 20:28, 24:30] = torch.randn(8, 6)
    shifted = network(image.roll((8, 4), (2, 3)))
    torch.testing.assert_close(shifted, network(image).roll((8, 4), (2, 3)), atol=1e-5, rtol=1e-4)


def test_parameter_count_by_hand() -> None:
    """in 1, widths 4 and 8, 2D, instance norm: convolutions without bias, the transposed one and the head with."""
    network = build_network("unet", spatial_dims=2, in_channels=1, out_channels=3, widths=[4, 8])
    encoder = 9 * (1 * 4 + 4 * 4) + 2 * 2 * 4 + 9 * (4 * 8 + 8 * 8) + 2 * 2 * 8
    decoder = 4 * 8 * 4 + 4 + 9 * (8 * 4 + 4 * 4) + 2 * 2 * 4
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder + 4 * 3 + 3


PUBLISHED = {
    "widths": (64, 128, 256, 512, 1024),
    "norm": "none",
    "activation": "relu",
    "downsample": "pool",
    "deep_supervision": False,
}


def test_the_form_of_2015_has_its_parameters() -> None:
    with torch.device("meta"):
        network = build_network("unet", spatial_dims=2, in_channels=1, out_channels=2, **PUBLISHED)
    assert sum(p.numel() for p in network.parameters()) == 31_030_658


class Ronneberger(torch.nn.Module):
    """Figure 1 of arXiv 1505.04597, written down once more with PyTorch's own layers (padded); weights from ours."""

    def __init__(self, ours: torch.nn.Module) -> None:
        super().__init__()
        self.down = [[block.conv for block in level.blocks] for level in ours.encoder.levels]
        self.up = [[block.conv for block in level.blocks] for level in ours.decoder.levels]
        self.transposed = [upsample.conv for upsample in ours.decoder.upsamples]
        self.last = ours.heads[0].conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, convs in enumerate(self.down):
            x = F.max_pool2d(x, 2) if level else x
            for conv in convs:
                x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.conv_transpose2d(x, self.transposed[level].weight, self.transposed[level].bias, stride=2)
            x = torch.cat((x, skips[level]), dim=1)
            for conv in self.up[level]:
                x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
        return F.conv2d(x, self.last.weight, self.last.bias)


def test_the_form_of_2015_computes_what_its_figure_shows() -> None:
    torch.manual_seed(0)
    options = {**PUBLISHED, "widths": (4, 8, 16, 32, 64)}
    network = build_network("unet", spatial_dims=2, in_channels=1, out_channels=2, **options)
    image = torch.randn(2, 1, 48, 32)
    expected = Ronneberger(network)(image)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(image), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(17, 23), (1, 7), (13, 9, 7), (3, 1, 2)])
def test_pooling_takes_any_size_and_strides_an_axis(size: tuple[int, ...]) -> None:
    network = make(len(size), downsample="pool", norm="none").eval()
    assert network(torch.randn(1, 2, *size)).shape == (1, 3, *size)
    flat = make(3, downsample="pool", strides=[1, [1, 2, 2], 2])
    assert [tuple(y.shape[2:]) for y in flat.encoder(torch.randn(1, 2, 5, 16, 12))] == [
        (5, 16, 12),
        (5, 8, 6),
        (3, 4, 3),
    ]


@pytest.mark.parametrize("size", [(16, 24), (9, 12, 7)])
def test_exports(size: tuple[int, ...]) -> None:
    network = make(len(size)).eval()
    image = torch.randn(1, 2, *size)
    exported = torch.export.export(network, (image,))
    torch.testing.assert_close(exported.module()(image), network(image))


@pytest.mark.parametrize("residual", [False, True])
def test_channels_last_gives_the_same_logits_and_gradients(residual: bool) -> None:
    """The contiguous network runs PyTorch's own instance norm, the other one ours."""
    network = make(3, residual=residual)
    image = torch.randn(2, 2, 12, 10, 8)
    weights = [torch.randn_like(output) for output in network(image)]

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        outputs = network(image)
        value = sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))
        return outputs[0], list(torch.autograd.grad(value, list(network.parameters())))

    expected, expected_gradients = run()
    network.to(memory_format=torch.channels_last_3d)
    got, gradients = run()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    for (name, _), ours, theirs in zip(network.named_parameters(), gradients, expected_gradients, strict=True):
        assert (ours - theirs).norm() < 1e-3 * theirs.norm(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": [4, 8]}, "did you mean 'widths'"),
        ({"norm": "instnace"}, "norm 'instnace' is unknown"),
        ({"kernel_sizes": [3, 2, 3]}, "kernel sizes must be odd"),
        ({"strides": [1, 2]}, "strides needs one entry a level"),
        ({"upsample": "nearest"}, "upsample 'nearest' is unknown"),
        ({"downsample": "mean"}, "downsample 'mean' is unknown"),
        ({"auxiliary": True}, "unet has no option 'auxiliary'"),
        ({"encoder": "resnet18"}, "widths needs one entry a level: got 3 for 5 on resnet18"),
    ],
)
def test_mistakes_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(3, **options)


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        build_network("unett", spatial_dims=2, in_channels=1, out_channels=2)
    assert set(NETWORKS) >= {"unet"}
