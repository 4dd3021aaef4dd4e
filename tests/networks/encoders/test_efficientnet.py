"""EfficientNet-Lite0: features equal to timm's at any size, and real photographs recognised with the real weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medseg.networks.encoders.efficientnet import EfficientNetLite0Encoder
from medseg.networks.pretrained import load_pretrained
from medseg.networks.weights import PACKAGES
from tests.networks.oracles import torchvision

WEIGHTS = PACKAGES["efficientnet_lite0"]
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(WEIGHTS[1]) is None, reason=f"the package {WEIGHTS[0]} is not installed"
)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_equal_those_of_timm(output_stride: int) -> None:
    torch.manual_seed(0)
    options = {"features_only": True, "output_stride": output_stride}
    torchvision()  # timm imports it
    theirs = pytest.importorskip("timm").create_model("tf_efficientnet_lite0", **options).eval()
    ours = EfficientNetLite0Encoder(2, 3, output_stride=output_stride).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    names = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)  # the same layers in the same order
    ours.load_state_dict(dict(names))
    assert ours.channels == tuple(theirs.feature_info.channels())
    assert [stride[0] for stride in ours.strides] == theirs.feature_info.reduction()
    for size in ((64, 64), (65, 97), (30, 51)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            for feature, other in zip(ours(x), theirs(x), strict=True):
                torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-4)


def photograph(package: str, path: str) -> torch.Tensor:
    """The central square of a photograph that a package ships, (1, 3, 224, 224), as the published network expects."""
    from PIL import Image

    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the photograph is in the package {package}, which is not installed")
    file = Path(next(iter(spec.submodule_search_locations))) / path
    if not file.is_file():
        pytest.skip(f"this version of {package} has no {path}")
    picture = Image.open(file).convert("RGB")
    side = min(picture.size) * 224 / 256
    left, top = ((length - side) // 2 for length in picture.size)
    picture = picture.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0).float() - 127) / 128


def classify(x: torch.Tensor) -> list[int]:
    """The three ImageNet classes that our encoder and the package's own last layers find most likely."""
    _, module, file = WEIGHTS
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(next(iter(spec.submodule_search_locations))) / file
    head = torch.load(path, weights_only=True)
    encoder = EfficientNetLite0Encoder(2, 3).eval()
    load_pretrained(encoder, "efficientnet_lite0")
    with torch.no_grad():
        y = F.conv2d(encoder(x)[-1], head["_conv_head.weight"])
        statistics = (head[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        y = F.relu6(F.batch_norm(y, *statistics, eps=1e-3)).mean((2, 3))
        return F.linear(y, head["_fc.weight"], head["_fc.bias"])[0].topk(3).indices.tolist()


@needs_weights
@pytest.mark.parametrize(
    ("package", "path", "classes"),
    [
        ("skimage", "data/coffee.png", {967}),  # espresso
        ("skimage", "data/camera.png", {872}),  # tripod
        ("skimage", "data/rocket.jpg", {657}),  # missile
        ("skimage", "data/motorcycle_left.png", {665}),  # moped
        ("skimage", "data/chelsea.png", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        ("sklearn", "datasets/images/china.jpg", {698}),  # palace
    ],
)
def test_photographs_are_recognised(package: str, path: str, classes: set[int]) -> None:
    assert classify(photograph(package, path))[0] in classes


@needs_weights
def test_a_portrait_in_uniform_is_recognised() -> None:
    """Grace Hopper, which matplotlib ships: an academic gown, a mortarboard or (the truth) a military uniform, 652."""
    assert 652 in classify(photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))


@pytest.mark.parametrize("size", [(65, 41), (33, 32, 31)])
def test_any_size_and_every_parameter_learns(size: tuple[int, ...]) -> None:
    encoder = EfficientNetLite0Encoder(len(size), 2, width=0.25, norm="group")
    features = encoder(torch.randn(1, 2, *size))
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape[1] == channels
        assert tuple(feature.shape[2:]) == tuple(-(-length // step) for length, step in zip(size, stride, strict=True))
    sum(feature.square().mean() for feature in features).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_strides_an_axis() -> None:
    encoder = EfficientNetLite0Encoder(3, 1, width=0.25, strides=[[1, 2, 2], 2, 2, [1, 2, 2], 2], output_stride=16)
    assert encoder.strides == ((1, 2, 2), (2, 4, 4), (4, 8, 8), (4, 16, 16), (8, 16, 16))
    assert [tuple(f.shape[2:]) for f in encoder.eval()(torch.randn(1, 1, 9, 33, 32))][-1] == (2, 3, 2)


def test_checkpointing_changes_memory_not_gradients() -> None:
    plain = EfficientNetLite0Encoder(2, 1, width=0.25)
    frugal = EfficientNetLite0Encoder(2, 1, width=0.25, checkpoint=True)
    frugal.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 64, 65)
    for encoder in (plain, frugal):
        sum(feature.square().sum() for feature in encoder(x)).backward()
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match="needs 5 strides"):
        EfficientNetLite0Encoder(2, 3, strides=[2, 2])
