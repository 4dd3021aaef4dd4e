"""The components that the bundles share, as data in MONAI's bundle language.

A component is written `target(UNet, spatial_dims=3)` with the class imported and becomes
`{"_target_": "medseg.networks.decoders.unet.UNet", "spatial_dims": 3}`; `"@id"` refers to another component and
`"$..."` is an expression that MONAI evaluates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose

from medseg.bundle.facts import DataFacts
from medseg.config.labels import Labels
from medseg.config.schema import Config
from medseg.data.augment import Augment
from medseg.data.cache import CachedDataset
from medseg.data.cases import load_cases
from medseg.data.transforms import preprocessing_steps
from medseg.engine import device as hardware
from medseg.inference.crf import CRFParameters, published_parameters
from medseg.inference.refine import DenseCRFd
from medseg.inference.tta import MirroredInferer
from medseg.losses import AuxiliaryHeads, DeepSupervision, DiceCrossEntropy
from medseg.networks import network_class
from medseg.networks.pretrained import with_pretrained

Component = dict[str, Any]
FOLDS_FILE = "splits.json"
CRF_MARGIN = 20  # voxels around a 3D foreground: a case of 240x240x155 as a whole would take 6 GB


def target(component: Callable, **arguments: Any) -> Component:
    """The component as data; MONAI's own go by their bare name, as in its model zoo, torch's by their public one."""
    module, name = component.__module__, component.__qualname__
    if module.startswith("monai."):
        return {"_target_": name, **arguments}
    if module.startswith("torch."):
        parents = [module.rsplit(".", depth)[0] for depth in range(module.count("."), 0, -1)]
        module = next(p for p in [*parents, module] if getattr(import_module(p), name, None) is component)
    return {"_target_": f"{module}.{name}", **arguments}


def common(config: Config, facts: DataFacts, bundle_root: str) -> Component:
    labels = facts.labels
    return {
        "imports": ["$import medseg.engine.device as hardware"],
        "bundle_root": bundle_root,
        "dataset_dir": config.data.root or "data",
        "seed": config.seed,
        "device": target(hardware.choose_device, name=config.training.device),
        "labels": target(
            Labels,
            classes=dict(labels.classes),
            regions={name: list(values) for name, values in labels.regions.items()},
            region_values=list(labels.region_values),
            ignore_index=labels.ignore_index,
            also_ignored=list(labels.also_ignored),
            background=labels.background,
        ),
        "network_def": network(config, len(facts.channels), len(labels.channels)),
    }


def network(config: Config, in_channels: int, out_channels: int) -> Component:
    """The network with all its options written out, defaults too."""
    kind, options = network_class(config.network.name, config.network.encoder), config.network.options()
    defaults = {
        name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return target(kind, in_channels=in_channels, out_channels=out_channels, **(defaults | options))


def placed_network(config: Config, *, checkpoint: str | None = None) -> Component:
    """The network on its device, in its memory format; with its pretrained weights, if any, unless there is a
    checkpoint to go on from (None: a network that gets its weights elsewhere)."""
    start: Any = "@network_def"
    source = config.network.pretrained
    if checkpoint is not None and source is not None:
        start = target(with_pretrained, network=start, source=source, inflate=config.network.inflate, unless=checkpoint)
    return target(hardware.place, network=start, device="@device", spatial_dims=config.network.spatial_dims)


def cases(config: Config, section: str) -> Component:
    """The component that lists the cases of a section; folds are those of the bundle's own `splits.json`."""
    data = config.data
    options: Component = {"patient_pattern": data.patient_pattern, "patient_table": data.patient_table}
    if data.fold is not None:
        options = {"folds_file": f"$@bundle_root + '/{FOLDS_FILE}'", "fold": data.fold}
    return target(
        load_cases,
        root="@dataset_dir",
        section=section,
        layout=data.layout,
        validation=data.validation,
        seed=config.seed,
        **{key: value for key, value in options.items() if value is not None},
    )


def cached(config: Config, section: str, transform: str) -> Component:
    listed = cases(config, section)
    data = listed if section == "training" else target(hardware.shard, cases=listed)
    return target(CachedDataset, data=data, transform=transform, folder="@cache_dir")


def preprocessing(config: Config, channels: int) -> Component:
    steps = preprocessing_steps(
        keys=["image", "label"],
        spatial_dims=config.network.spatial_dims,
        channels=channels,
        **config.preprocessing.model_dump(),
    )
    return target(Compose, transforms=[target(step, **arguments) for step, arguments in steps])


def augment(config: Config) -> Component | None:
    if not config.augmentation.enabled:
        return None
    return target(
        Augment,
        seed=config.seed,
        spacing_mm=config.preprocessing.spacing_mm,
        **config.augmentation.model_dump(exclude={"enabled"}),
    )


def optimizer(config: Config) -> Component:
    options = config.training.optimizer
    shared = {
        "params": "$@network.parameters()",
        "lr": options.learning_rate,
        "weight_decay": options.weight_decay,
    }
    if options.name == "sgd":
        return target(torch.optim.SGD, **shared, momentum=options.momentum, nesterov=options.momentum > 0)
    return target(torch.optim.AdamW, **shared, fused=True)


def loss(config: Config) -> Component:
    """Dice + cross-entropy; deep supervision where the network has it, weighted auxiliary heads for the others."""
    weights = {"auxiliary_weight", "presence_weight"}
    options = config.loss.model_dump(exclude={"name"} | weights)
    loss = target(DiceCrossEntropy, regions="$bool(@labels.regions)", **options)
    if "deep_supervision" in config.network.known:
        return loss if config.network.deep_supervision is False else target(DeepSupervision, loss=loss)
    return target(
        AuxiliaryHeads,
        loss=loss,
        weight=config.loss.auxiliary_weight,
        presence_weight=config.loss.presence_weight,
    )


def inferer(config: Config) -> Component:
    options = config.inference
    inferer = target(
        SlidingWindowInferer,
        roi_size=options.patch_size or config.training.patch_size,
        sw_batch_size=options.window_batch,
        overlap=options.overlap,
        mode="gaussian",
    )
    return target(MirroredInferer, inferer=inferer, axes=options.mirror_axes) if options.mirror_axes else inferer


def refinement(config: Config, channels: Sequence[str]) -> list[Component]:
    """The steps between logits and mask: the dense CRF, if asked for, with all its parameters written out."""
    options = config.inference.crf
    if options is None:
        return []
    given = options.model_dump(exclude={"parameters", "guide", "margin"}, exclude_none=True)
    parameters = replace(published_parameters(options.parameters), **given)
    flat = config.network.spatial_dims == 2
    guide = options.guide
    if guide == "auto":
        guide = "picture" if [name.lower() for name in channels] == ["red", "green", "blue"] else "stretched"
    margin = CRF_MARGIN if options.margin is None and not flat else options.margin
    crf = target(CRFParameters, **asdict(parameters))
    return [target(DenseCRFd, keys="pred", labels="@labels", parameters=crf, guide=guide, margin=margin)]
