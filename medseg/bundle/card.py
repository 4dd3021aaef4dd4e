"""The model card of a bundle (`docs/README.md`) and the licence of its data, by the model zoo's conventions."""

from __future__ import annotations

from medseg import __version__
from medseg.bundle.components import network
from medseg.bundle.facts import DataFacts
from medseg.bundle.foresight import pretended_network
from medseg.config.schema import Config
from medseg.networks.analysis.summary import count_parameters

CARD = """\
# {name}

{description}

A MONAI bundle, compiled by medseg {version} from a config. It needs `pip install medseg`.

## What it segments

Input: {inputs} ({modality}), one channel each, in this order.
Output: {outputs}.

| mask value | label |
|---|---|
{labels}

## Data

{title}, {source}
Licence: {licence} (docs/data_license.txt). The data are not part of the bundle.

## Network

`{network}` in {dims}D with {parameters:,} parameters, for patches of {patch} {unit}:

{options}

Loss `{loss}`, optimiser `{optimizer}`, batches of {batch}. Everything else stands in configs/train.yaml.

## Train, evaluate, predict

    python -m monai.bundle run --config_file {root}/configs/train.yaml --dataset_dir DATA
    python -m monai.bundle run --config_file {root}/configs/evaluate.yaml --dataset_dir DATA
    python -m monai.bundle run --config_file {root}/configs/inference.yaml --dataset_dir IMAGES

Run it in the folder that `{root}` is relative to, or add `--bundle_root DIR`. Every value can be overridden,
for example `--train#trainer#max_epochs 2`.

## Expected performance

Not trained: no weights come with a compiled bundle. Training writes them to models/model.pt, and the evaluation its
scores to eval/metrics.json.

## Intended use and limits

Research only; not a medical device, not for diagnosis. It expects images like those it was trained on: the same
channels in the same order, {limits}. What it gives for others has not been examined.

## References

{references}
"""

DATA_LICENSE = """\
The data that this bundle is made for are not part of it.

Data set:  {title}
Source:    {source}
Licence:   {licence}

Weights trained with them may be subject to their licence. Cite:
{references}
"""
NO_LICENCE = "not stated; whoever trains on the data knows their terms"


def model_card(config: Config, facts: DataFacts, root: str, parameters: int | None = None) -> str:
    """Markdown: what the bundle segments, from which data, with which network, and how it is run.

    Args:
        config: the experiment.
        facts: channels and labels of its data, its source and licence.
        root: the bundle's folder, as in its commands.
        parameters: of the network; default: they are counted.
    """
    labels = facts.labels
    masks = {value: name for name, value in labels.mask_values.items()}
    if labels.background is not None:
        masks = {labels.background: "background"} | masks
    component = network(config, facts)
    options = {key: value for key, value in component.items() if key != "_target_"}
    return CARD.format(
        name=config.name,
        description=config.description,
        version=__version__,
        inputs=", ".join(facts.channels),
        modality=facts.modality,
        outputs=_outputs(facts),
        labels="\n".join(f"| {value} | {name} |" for value, name in masks.items()),
        title=facts.title or facts.name,
        source=facts.source,
        licence=facts.licence or NO_LICENCE,
        network=config.network.name,
        dims=config.network.spatial_dims,
        parameters=parameters or count_network(config, facts),
        patch=" x ".join(map(str, config.training.patch_size)),
        unit="voxels" if config.network.spatial_dims == 3 else "pixels",
        options="\n".join(f"- `{key}: {value}`" for key, value in options.items()),
        loss=config.loss.name,
        optimizer=config.training.optimizer.name,
        batch=config.training.batch_size,
        root=root,
        limits="red, green and blue" if facts.pictures and len(facts.channels) == 3 else _preparation(config),
        references=_references(facts),
    )


def data_license(facts: DataFacts) -> str:
    """Whose the data are, where they come from, and under which licence."""
    return DATA_LICENSE.format(
        title=facts.title or facts.name,
        source=facts.source,
        licence=facts.licence or NO_LICENCE,
        references=_references(facts),
    )


def _outputs(facts: DataFacts) -> str:
    names = ", ".join(facts.labels.channels)
    return f"a logit for each of the overlapping regions {names}" if facts.labels.regions else f"logits of {names}"


def _preparation(config: Config) -> str:
    spacing = config.preprocessing.spacing_mm
    voxels = "voxels of about the same size" if spacing is None else f"resampled to {spacing} mm"
    if config.data.context is not None:
        voxels += ", slice by slice along the same axis"
    if config.finder is not None:
        voxels += ", in the region that the network in `finder` finds"
    return f"{voxels}" + (", skull-stripped or padded alike" if config.preprocessing.crop_to_foreground else "")


def count_network(config: Config, facts: DataFacts) -> int:
    """The parameters of the config's network, built without memory.

    Raises:
        ConfigError: its options do not fit together.
    """
    return count_parameters(pretended_network(config, facts).module)


def _references(facts: DataFacts) -> str:
    return "\n".join(f"- {reference}" for reference in facts.references) or "- none given"
