"""`metadata.json` of a bundle: what goes in, what comes out, which versions, by MONAI's schema of 2024-07-25."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from medseg import __version__
from medseg.bundle.facts import DataFacts
from medseg.config.schema import Config

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def compile_metadata(config: Config, facts: DataFacts) -> dict[str, Any]:
    """The content of `metadata.json`.

    Args:
        config: the experiment.
        facts: channels and labels of its data.
    """
    patch = list(config.inference.patch_size or config.training.patch_size)
    outputs, channels = facts.labels.channels, _channels(config, facts)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "compiled by medseg"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "medseg": __version__,
            **{name: version(name) for name in ("nibabel", "pytorch-ignite", "SimpleITK", "scipy", "tensorboard")},
        },
        "supported_apps": {},
        "name": config.name,
        "task": f"{config.image_dims}D segmentation of {', '.join(facts.labels.targets)}",
        "description": config.description or f"{config.network.name} trained on {facts.name}",
        "authors": "the medseg developers",
        "copyright": "Copyright (c) the medseg developers",
        "data_source": facts.source,
        "data_type": "picture" if facts.pictures else "nibabel",
        "image_classes": f"{len(facts.channels)} channels: {', '.join(facts.channels)}",
        "label_classes": ", ".join(f"{value} is {name}" for name, value in facts.labels.classes.items()),
        "pred_classes": ", ".join(f"channel {k} is {name}" for k, name in enumerate(outputs)),
        "eval_metrics": {},
        "intended_use": "Research only; not a medical device, not for diagnosis.",
        "references": list(facts.references),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": _format(facts),
                    "modality": facts.modality,
                    "num_channels": len(channels),
                    "spatial_shape": patch,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(k): name for k, name in enumerate(channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(outputs),
                    "spatial_shape": patch,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(k): name for k, name in enumerate(outputs)},
                }
            },
        },
    }


def _channels(config: Config, facts: DataFacts) -> list[str]:
    """What the network's input channels are: those of an image, or of each the slice and its neighbours."""
    context = config.data.context
    if context is None:
        return list(facts.channels)
    return [f"{name}, slice {n - context // 2:+d}" for name in facts.channels for n in range(context)]


def _format(facts: DataFacts) -> str:
    """What the numbers of an image are, in the words of MONAI's schema where it has one."""
    if facts.pictures:
        return facts.modality
    return "magnitude" if facts.modality != "CT" else "hounsfield"
