"""Pretrained weights: from two dimensions to three, from three input channels to any number, and never in silence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from medseg.core.errors import ConfigError, Problem
from medseg.core.types import Inflation, chosen
from medseg.networks.fcn import FCN32s
from medseg.networks.tensors import Unreadable, read_tensors
from medseg.networks.weights import weights_file

# What a checkpoint may hold beyond an encoder: heads of classifiers (torchvision, HRNet, EfficientNet), of segmenters.
HEADS = (
    "fc",
    "classes",
    "classifier",
    "aux_classifier",
    "conv_head",
    "bn1_head",
    "incre_modules",
    "downsamp_modules",
    "final_layer",
    "last_layer",
    "loss",
    "loss_fn",
    "criterion",
)
COMPILED = "_orig_mod"  # a part of names that torch.compile adds, anywhere
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SHOWN = 6
KEY = "pretrained"  # the argument that a mistake is in


@dataclass(frozen=True)
class Loaded:
    """What `load_pretrained` did, by parameter name.

    Attributes:
        loaded: taken as they are.
        adapted: taken after a change of shape, each with what was done.
        left_out: in the file, not in the network (heads of a classifier, other numbers of classes).
        kept: in the network, not in the file: they keep their initial values.
    """

    source: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"pretrained weights from {self.source}: {len(self.loaded)} tensors as they are"]
        for title, names in (
            ("adapted", self.adapted),
            ("left out (in the file only)", self.left_out),
            ("not in the file (initial values)", self.kept),
        ):
            if names:
                lines.append(f"  {len(names)} {title}: {_some(names)}")
        return "\n".join(lines)


def with_pretrained(
    network: nn.Module, source: str, inflate: str = "mean", unless: str | Path | None = None
) -> nn.Module:
    """The network itself, after `load_pretrained`; what was loaded, adapted and left out is printed.

    Args:
        unless: a checkpoint. Where it exists its weights are about to replace all others, and nothing is loaded: a run
            can go on where the pretrained weights are gone.
    """
    if unless is None or not Path(unless).exists():
        report = load_pretrained(network, source, inflate=inflate)
        if not (distributed.is_initialized() and distributed.get_rank()):
            print(report)
    return network


def load_pretrained(network: nn.Module, source: str | Path, *, inflate: str = "mean", depth_axis: int = -1) -> Loaded:
    """Copy the weights of `source` into a network, or into an encoder alone, and say what was done.

    Weights of 2D convolutions go into 3D kernels so that a volume constant along `depth_axis` gives what the image
    gave (away from zero padding): `mean` spreads them evenly over the depth (Carreira & Zisserman, arXiv 1705.07750),
    `centre` puts them on the middle tap, and then padding does not matter. Weights for RGB go into C input channels
    so that C equal channels give what three gave.

    Args:
        source: a file of tensors with torchvision's names (AlexNet, VGG, ResNet, and whole FCN and DeepLabV3 models)
            or this package's own, or a name in `weights.PACKAGES`. EfficientNet-Lite0 expects RGB as
            (value - 127) / 128.
        depth_axis: the spatial axis that images do not have; the last one, slices, in volumes oriented RAS.

    Raises:
        ConfigError: a file that is missing, unreadable or does not fit, with what differs.
    """
    chosen(inflate, Inflation, "inflate")
    wanted = network.state_dict()
    tensors = _renamed(_unwrapped(_read(source), network), network, wanted)
    owners = dict(network.named_modules())
    encoder = "encoder." if isinstance(getattr(network, "encoder", None), nn.Module) else ""

    taken: dict[str, Tensor] = {}
    adapted, left_out, problems = [], [], []
    for name, value in tensors.items():
        if name not in wanted:
            if _is_head(name) or name.endswith(STATISTICS):
                left_out.append(name)
            else:
                problems.append(f"{name} {_shape(value)} is in the file, not in the network")
            continue
        target = wanted[name]
        fitted, notes = _fit(value, target.shape, owners[name.rpartition(".")[0]], inflate, depth_axis)
        if fitted.shape == target.shape:
            taken[name] = fitted
            if notes:
                adapted.append(f"{name} ({', '.join(notes)})")
        elif encoder and not name.startswith(encoder) and fitted.shape[1:] == target.shape[1:]:
            left_out.append(f"{name} ({fitted.shape[0]} classes in the file, {target.shape[0]} here)")
        elif name.startswith("classifier.") and fitted.ndim < target.ndim:
            left_out.append(f"{name} ({_shape(value)} in the file, {_shape(target)} here)")
        else:
            problems.append(f"{name} is {_shape(value)} in the file, {_shape(target)} in the network")
    kept = [name for name in wanted if name not in taken and not name.endswith("num_batches_tracked")]
    problems += [f"{name} {_shape(wanted[name])} is not in the file" for name in kept if name.startswith(encoder)]
    if problems:
        remedy = "take the weights of the same encoder (and depth), or another encoder"
        if f"{encoder}conv1.weight" in tensors and f"{encoder}conv1.0.weight" in wanted:
            remedy += "; the stem of torchvision's ResNet is encoder_options.stem=7x7"
        kind = type(getattr(network, "encoder", network)).__name__
        raise ConfigError(Problem(KEY, f"{source} does not fit {kind}: {_some(problems)}", remedy))
    network.load_state_dict(taken, strict=False)
    changed = {note.split(" ")[0] for note in adapted}
    loaded = tuple(name for name in taken if name not in changed)
    return Loaded(str(source), loaded, tuple(adapted), tuple(left_out), tuple(kept))


def _read(source: str | Path) -> dict[str, Tensor]:
    """The named tensors of a file or an installed package; only tensors are ever unpickled."""
    path = weights_file(source)
    try:
        content = read_tensors(path)
    except Unreadable as error:
        problem = f"{source} is not a file of tensors: {error.what}"
        raise ConfigError(Problem(KEY, problem, error.remedy or "fetch it again, or restore it from a copy")) from error
    while isinstance(content, dict):
        inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict):
        raise ConfigError(Problem(KEY, f"{source} holds a {type(content).__name__}, not named tensors"))
    tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        keys = _some([str(key) for key in content])
        raise ConfigError(Problem(KEY, f"{source} holds no tensors; its keys: {keys}"))
    return tensors


def _unwrapped(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors under the names that they had before the network was compiled, made parallel, or put into another
    module, as Lightning does: then all names but those of a loss or a head begin with the attribute it is in."""
    own = {*dict(network.named_children()), *_parts_of_encoder(network), "encoder", "backbone"}
    plain = {name: ".".join(part for part in name.split(".") if part != COMPILED) for name in tensors}
    tensors = {plain[name].removeprefix("module."): value for name, value in tensors.items()}
    while True:
        first = {name.partition(".")[0] for name in tensors if not _is_head(name)}
        outer = next(iter(first)) if len(first) == 1 else ""
        inside = all("." in name for name in tensors if not _is_head(name))
        if not outer or not inside or outer in own or outer.isdigit():
            return tensors
        tensors = {name.removeprefix(f"{outer}."): value for name, value in tensors.items()}


def _parts_of_encoder(network: nn.Module) -> set[str]:
    encoder = getattr(network, "encoder", None)
    return set(dict(encoder.named_children())) if isinstance(encoder, nn.Module) else set()


def _renamed(tensors: dict[str, Tensor], network: nn.Module, wanted: Collection[str]) -> dict[str, Tensor]:
    """The tensors under their names in `network`."""
    renames = {}
    if any(name.startswith("backbone.") for name in tensors):  # a whole FCN or DeepLabV3 of torchvision
        for theirs, ours in (("classifier.", "head."), ("aux_classifier.", "auxiliary.")):
            names = {name: ours + name.removeprefix(theirs) for name in tensors if name.startswith(theirs)}
            if set(names.values()) == {name for name in wanted if name.startswith(ours)}:  # else another network's head
                renames.update(names)
    elif isinstance(network, FCN32s):  # fully connected layers 1 and 2 of VGG or AlexNet become convolutions
        layers = [name.removesuffix(".weight") for name, value in tensors.items() if _is_head(name) and value.ndim == 2]
        for theirs, ours in zip(layers, ("classifier.0", "classifier.4", "classes"), strict=False):
            renames |= {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
    return {renames.get(name) or _translate(name, network): value for name, value in tensors.items()}


def _translate(name: str, network: nn.Module) -> str:
    if name.startswith("_"):  # EfficientNet: `_blocks.0._bn1.weight`; its head has names of its own here
        head = {"_bn1": "bn1_head", "_fc": "fc"}
        first, *rest = name.split(".")
        name = ".".join([head.get(first, first.removeprefix("_")), *(part.removeprefix("_") for part in rest)])
    name = name.removeprefix("backbone.")
    parts = dict(network.named_children())
    if "encoder" not in parts:
        return name.removeprefix("encoder.")
    return name if name.partition(".")[0] in parts or _is_head(name) else "encoder." + name


def _is_head(name: str) -> bool:
    return name.partition(".")[0] in HEADS


def _fit(
    value: Tensor, shape: Sequence[int], owner: nn.Module, inflate: str, depth_axis: int
) -> tuple[Tensor, list[str]]:
    """The weight of a convolution brought towards `shape`, with what was done; other tensors as they are."""
    notes: list[str] = []
    if not isinstance(owner, CONVOLUTIONS) or value.ndim < 2:
        return value, notes
    axis = 2 + depth_axis % 3
    if value.ndim == 2 and value.shape[0] == shape[0]:  # fully connected, as VGG's fc6, on a map of the kernel's size
        plane = [size for index, size in enumerate(shape[2:], start=2) if len(shape) == 4 or index != axis]
        if shape[1] * plane[0] * plane[1] == value.shape[1]:
            value = value.reshape(shape[0], shape[1], *plane)
            notes.append("fully connected -> convolution")
    if value.ndim == 4 and len(shape) == 5:
        depth = shape[axis]
        first, taps = 0, depth
        share = 1 / depth
        if isinstance(owner, nn.ConvTranspose3d):  # each output voxel sees every stride-th tap
            stride = owner.stride[axis - 2]
            share = min(stride / depth, 1)
            if inflate == "centre":
                first, taps, share = (depth - min(stride, depth)) // 2, min(stride, depth), 1
        elif inflate == "centre":
            first, taps, share = depth // 2, 1, 1
        inflated = value.new_zeros(*value.shape[:axis], depth, *value.shape[axis:])
        inflated.narrow(axis, first, taps).copy_(value.unsqueeze(axis) * share)
        value = inflated
        notes.append(f"2D -> 3D by {inflate}, depth {depth}")
    transposed = isinstance(owner, nn.ConvTranspose2d | nn.ConvTranspose3d)
    if not transposed and value.ndim == len(shape) and value.shape[1] == 3 != shape[1] and owner.groups == 1:
        value = value.sum(1, keepdim=True).expand(-1, shape[1], *value.shape[2:]) / shape[1]
        notes.append(f"3 -> {shape[1]} input channels")
    return value, notes


def _shape(value: Tensor) -> str:
    return "x".join(str(size) for size in value.shape) or "scalar"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
