"""The components that the bundles share, in MONAI's bundle language (`bundle.language`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from medseg.bundle.facts import DataFacts, network_channels, reading_rules
from medseg.bundle.language import Code, Component, target
from medseg.config.cards import load_card
from medseg.config.schema import Config
from medseg.core.labels import Labels
from medseg.data.cases.dataset import read_dataset
from medseg.data.cases.judge import Judge
from medseg.data.files.reading import read_as
from medseg.data.splits.split import OFFICIAL, SPLIT_FILE, find_split
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.augment.resampling import margin
from medseg.data.training.cache import CachedDataset
from medseg.data.training.channels import ChannelDropout
from medseg.data.training.crops import CropDataset
from medseg.data.training.frequency import class_weights
from medseg.data.training.growth import PatchGrowth
from medseg.data.training.patches import PatchDataset, SampleSequence
from medseg.data.training.photometric import Photometric
from medseg.data.training.slices import SliceDataset
from medseg.data.training.spread import SpreadOut
from medseg.engine import device as hardware
from medseg.engine.groups import parameter_groups
from medseg.engine.resume import START, with_start
from medseg.inference.colour import COLOUR_SCALES, ColourInferer
from medseg.inference.crf import CRFParameters, published_parameters
from medseg.inference.refine import DenseCRFd
from medseg.inference.scales import ScaledInferer
from medseg.inference.slices import SliceInferer
from medseg.inference.sliding import WindowInferer
from medseg.inference.tta import MirroredInferer
from medseg.inference.whole import WholeImageInferer
from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.deep_supervision import DeepSupervision
from medseg.metrics.benchmarks import Benchmark
from medseg.networks.pretrained import with_pretrained

CRF_MARGIN = 20  # voxels around a 3D foreground: a case of 240x240x155 as a whole would take 6 GB


def common(config: Config, facts: DataFacts, bundle_root: str) -> Component:
    labels = facts.labels
    left_out = ["merged"] * (not labels.merged) + ["colours"] * (not facts.pictures)
    return {
        "imports": [Code("$import medseg.engine.device as hardware")],
        "bundle_root": bundle_root,
        "dataset_dir": config.data.root or "data",
        "seed": config.seed,
        "device": target(hardware.choose_device, name=config.training.device),
        "labels": target(Labels, **{key: value for key, value in labels.to_plain().items() if key not in left_out}),
        "network_def": network(config, facts),
    }


def reading(config: Config) -> Component:
    """How a bundle begins: images are read as the config says, and nothing holds that another one said before."""
    rules = {name: value for name, value in asdict(reading_rules(config)).items() if value is not None}
    return target(
        read_as, **{name: list(value) if isinstance(value, tuple) else value for name, value in rules.items()}
    )


def network(config: Config, facts: DataFacts) -> Component:
    """The network for the data, with all its options written out, defaults too."""
    part, options = config.network.part, config.network.options()
    channels = {"in_channels": network_channels(config, facts), "out_channels": len(facts.labels.channels)}
    return target(part.load(), **channels, **part.preset, **options)


def placed(config: Config, network: Any) -> Component:
    """A network of the config on its device, in its memory format."""
    return target(hardware.place, network=network, device=Code("@device"), spatial_dims=config.network.spatial_dims)


def placed_network(config: Config, *, checkpoint: str | None = None) -> Component:
    """The network on its device, in its memory format; with pretrained weights or those of the run that it begins
    with, if any, unless there is a checkpoint to go on from (None: a network that gets its weights elsewhere)."""
    start: Any = Code("@network_def")
    source = config.network.pretrained
    if checkpoint is not None and source is not None:
        start = target(with_pretrained, network=start, source=source, inflate=config.network.inflate, unless=checkpoint)
    if checkpoint is not None and config.training.start is not None:
        start = target(
            with_start, network=start, file=Code(f"$@bundle_root + '/{START.as_posix()}'"), unless=checkpoint
        )
    return placed(config, start)


def patient_rules(config: Config) -> dict[str, Any]:
    """How the patients are found, as far as the config says it."""
    rules = {"patient_pattern": config.data.patient_pattern, "patient_table": config.data.patient_table}
    return {key: value for key, value in rules.items() if value is not None}


def fold_rules(config: Config) -> dict[str, Any]:
    """How folds are found: the arguments of `find_folds`."""
    data = config.data
    return {"folds": data.folds, "seed": config.seed, "folds_file": data.folds_file, **patient_rules(config)}


def split_rules(config: Config) -> dict[str, Any]:
    """How a run decides its split: the arguments of `decide_split`, those that say nothing left out."""
    data = config.data
    rules: dict[str, Any] = {"validation": data.validation, "seed": config.seed}
    lists = {"training": data.training_split, "validation": data.validation_split}
    if lists != OFFICIAL:
        rules["official"] = lists
    by_fold = {"fold": data.fold, **fold_rules(config)}
    if data.fold is None:
        by_fold = {key: value for key, value in by_fold.items() if key not in ("fold", "folds", "folds_file")}
    return {key: value for key, value in {**rules, **by_fold}.items() if value is not None}


def labelled(config: Config, *, keep: bool = False) -> Component:
    """The data set, and its split: that of the run, decided by its rules where there is none yet.

    Args:
        keep: the first process writes what was decided into the bundle.
    """
    file = Code(f"$@bundle_root + '/{SPLIT_FILE}'")
    kept = {"keep": Code("$hardware.rank() == 0")} if keep else {}
    missing = {"missing": True} if config.training.lacks_channels else {}
    return {
        "data": target(read_dataset, root=Code("@dataset_dir"), layout=config.data.layout, **missing),
        "split": target(
            find_split, dataset=Code("@data"), file=file, labels=Code("@labels"), **kept, **split_rules(config)
        ),
    }


def cached(part: str, transform: str, facts: DataFacts | None) -> Component:
    """The preprocessed cases of a part of the split; those that are held out are shared among the processes.

    Args:
        facts: what a case is judged by when its entry is made; None: somebody else has said what there is to say.
    """
    held = part != "training"
    judge = {} if facts is None else {"judge": target(Judge, channels=list(facts.channels), labels=Code("@labels"))}
    data = Code(f"$hardware.shard(@split.cases(@data, '{part}'))") if held else Code(f"$@split.cases(@data, '{part}')")
    return target(CachedDataset, data=data, transform=transform, folder=Code("@cache_dir"), **judge)


def spread_out(config: Config) -> Component:
    """The order of the held-out cases in which the first few stand for all."""
    who = patient_rules(config)
    return target(
        SpreadOut, dataset=Code("@validate#dataset"), targets=Code("$@labels.targets"), seed=config.seed, **who
    )


def context(config: Config) -> Component:
    """The argument of that name, of whatever sees slices with their neighbours."""
    return {} if config.data.context is None else {"context": config.data.context}


def patches(config: Config, facts: DataFacts) -> Component:
    """The training data: patches, some around a target, or crops at random scales."""
    training, options, labels = config.training, config.augmentation, facts.labels
    if not options.crops:
        changes = [TRANSFORMS[name].builder()(**given) for name, given in options.transforms.items()]
        slices = context(config)
        outside = labels.beyond if labels.background is None else labels.background
        return target(
            SliceDataset if slices else PatchDataset,
            cases=Code("@train#cases"),
            patch_size=training.patch_size,
            targets=Code("$@labels.targets"),
            foreground_probability=training.foreground_probability,
            samples_per_epoch=Code("@samples_per_epoch"),
            seed=config.seed,
            margin=margin(training.patch_size, changes if options.enabled else []),
            **({"outside": outside} if outside else {}),
            **slices,
        )
    mean, _ = COLOUR_SCALES.get(config.preprocessing.colours, ((0.0,), (1.0,)))
    return target(
        CropDataset,
        cases=Code("@train#cases"),
        patch_size=training.patch_size,
        samples_per_epoch=Code("@samples_per_epoch"),
        seed=config.seed,
        scale=options.crop_scale,
        category_cap=options.category_cap,
        **options.transforms["flip"],
        fill=list(mean),  # the mean colour, which the network sees as 0
        outside=labels.beyond,
        ignored=list(dict.fromkeys((*labels.ignored, *({labels.beyond} - set(labels.values))))),
    )


def sampler(config: Config) -> Component:
    """The numbers of the samples of an epoch, with the size of their patches where they grow."""
    growth = {}
    if config.training.patch_growth:
        sizes = {"share": config.training.patch_growth, "multiple": config.network.multiple()}
        growth["growth"] = target(PatchGrowth, patch_size=config.training.patch_size, **sizes)
    return target(
        SampleSequence,
        samples_per_epoch=Code("@samples_per_epoch"),
        batch_size=config.training.batch_size,
        rank=Code("$hardware.rank()"),
        world_size=Code("$hardware.world_size()"),
        **growth,
    )


def augment(config: Config) -> Component | None:
    """The random changes of a batch, and the channels taken out of it behind them."""
    changes, probability = _changes(config), config.training.channel_dropout
    if not probability:
        return changes
    return target(ChannelDropout, probability=probability, seed=config.seed, augment=changes, **context(config))


def _changes(config: Config) -> Component | None:
    options = config.augmentation
    if not options.enabled or (options.crops and options.photometric is None):
        return None
    if options.crops and options.photometric is not None:
        return target(Photometric, seed=config.seed, **options.photometric.model_dump())
    spacing = config.preprocessing.spacing_mm
    return target(
        Augment,
        seed=config.seed,
        spacing_mm=None if spacing is None else [side or 1.0 for side in spacing[: config.network.spatial_dims]],
        **context(config),
        patch_size=Code("$@train#dataset.patch_size"),
        **({"margin": Code("$@train#dataset.margin")} if config.training.patch_growth else {}),
        transforms={name: target(TRANSFORMS[name].load(), **given) for name, given in options.transforms.items()},
    )


def optimizer(config: Config) -> Component:
    options = config.training.optimizer
    shared = {
        "params": Code("$@network.parameters()"),
        "lr": options.learning_rate,
        "weight_decay": options.weight_decay,
    }
    if options.encoder_factor != 1:
        rates = {"learning_rate": options.learning_rate, "encoder_factor": options.encoder_factor}
        shared["params"] = target(parameter_groups, network=Code("@network"), **rates)
    if options.name == "sgd":
        return target(torch.optim.SGD, **shared, momentum=options.momentum, nesterov=options.momentum > 0)
    return target(torch.optim.AdamW, **shared, fused=True)


def loss(config: Config, facts: DataFacts) -> Component:
    """The loss of the config; deep supervision where the network has it, weighted auxiliary heads for the others."""
    told = {
        "regions": Code("$bool(@labels.regions)"),
        "labels": Code("@labels"),
        "class_weights": weights_of_classes(config, facts),
    }
    given = {name: value for name, value in told.items() if config.loss.takes(name)}
    loss = target(config.loss.part().load(), **given, **config.loss.arguments())
    if "deep_supervision" in config.network.known:
        return loss if not config.network.options()["deep_supervision"] else target(DeepSupervision, loss=loss)
    return target(
        AuxiliaryHeads,
        loss=loss,
        weight=config.loss.auxiliary_weight,
        presence_weight=config.loss.presence_weight,
    )


def weights_of_classes(config: Config, facts: DataFacts) -> list[float] | Component | None:
    """As they are given, in the order of the classes; or counted in the training labels, once a run."""
    weights = config.loss.weights_of_classes()
    if weights is None or isinstance(weights, dict):
        return None if weights is None else [weights[name] for name in facts.labels.classes]
    exponent = 0.5 if weights == "sqrt_median_frequency" else 1.0
    file = Code("$@bundle_root + '/class_weights.json'")
    return target(class_weights, cases=Code("@train#cases"), labels=Code("@labels"), exponent=exponent, file=file)


def coloured(config: Config, inferer: Component) -> Component:
    """The inferer, with the colours of pictures scaled before the network sees them."""
    scale = COLOUR_SCALES.get(config.preprocessing.colours)
    return inferer if scale is None else target(ColourInferer, inferer=inferer, mean=list(scale[0]), std=list(scale[1]))


def benchmark(config: Config, facts: DataFacts) -> Component:
    """What is scored on one confusion matrix of all images, by whose rules."""
    more: Component = {}
    if config.data.card is not None and config.data.merge is None:  # merged classes have no categories and no objects
        card = Benchmark.of_card(load_card(config.data.card), facts.convention)
        more = {"categories": dict(card.categories), "instance_pixels": dict(card.instance_pixels)}
    return target(Benchmark, labels=Code("@labels"), convention=facts.convention, **more)


def inferer(config: Config) -> Component:
    options = config.inference
    if options.whole_image:
        multiple = config.network.multiple()
        return _augmented(config, target(WholeImageInferer, **({} if multiple is None else {"multiple": multiple})))
    inferer = target(
        WindowInferer,
        roi_size=options.patch_size or config.training.patch_size,
        sw_batch_size=options.window_batch,
        overlap=options.overlap,
        mode="gaussian",
    )
    return _augmented(config, inferer)


def _augmented(config: Config, inferer: Component) -> Component:
    """The inferer at every scale and mirrored, as far as the config asks."""
    options = config.inference
    if options.scales != [1.0]:
        inferer = target(ScaledInferer, inferer=inferer, scales=options.scales)
    if options.mirror_axes:
        inferer = target(MirroredInferer, inferer=inferer, axes=options.mirror_axes)
    if slices := context(config):
        inferer = target(SliceInferer, inferer=inferer, **slices, at_once=options.window_batch)
    return coloured(config, inferer)


def refinement(config: Config, channels: Sequence[str]) -> Component | None:
    """The step between logits and mask: the dense CRF, if asked for, with all its parameters written out."""
    options = config.inference.crf
    if options is None:
        return None
    given = options.model_dump(exclude={"parameters", "guide", "margin"}, exclude_none=True)
    parameters = replace(published_parameters(options.parameters), **given)
    flat = config.image_dims == 2
    guide = options.guide
    if guide == "auto":
        guide = "picture" if [name.lower() for name in channels] == ["red", "green", "blue"] else "stretched"
    margin = CRF_MARGIN if options.margin is None and not flat else options.margin
    crf = target(CRFParameters, **asdict(parameters))
    return target(DenseCRFd, keys="pred", labels=Code("@labels"), parameters=crf, guide=guide, margin=margin)
