"""A bundle on disk: `configs/{train,evaluate,inference}.yaml`, metadata, logging, licences and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from medseg import __version__
from medseg.bundle.card import data_license, model_card
from medseg.bundle.compile import Kind, compiled
from medseg.bundle.facts import DataFacts, describe_data, of_region
from medseg.bundle.language import Component, for_metadata, for_monai
from medseg.bundle.metadata import compile_metadata
from medseg.config.finder import FINDER
from medseg.config.schema import Config
from medseg.config.stages import first_stage
from medseg.core.files import replace_file
from medseg.core.written import is_changed

TITLES: Mapping[Kind, str] = {
    "train": "Train the network; the weights that are kept are in models/model.pt.",
    "evaluate": "Score models/model.pt on the cases that training did not see: eval/metrics.json, eval/metrics.csv.",
    "inference": "Predict masks for the images in dataset_dir: predictions/.",
}

LOGGING = """\
[loggers]
keys=root,ignite,monai

[handlers]
keys=console

[formatters]
keys=line

[logger_root]
level=WARNING
handlers=console

[logger_ignite]
level=CRITICAL
handlers=
qualname=ignite

[logger_monai]
level=WARNING
handlers=
qualname=monai

[handler_console]
class=StreamHandler
level=WARNING
formatter=line
args=(sys.stderr,)

[formatter_line]
format=%(asctime)s %(levelname)s %(name)s: %(message)s
"""

LICENSE = """\
The files of this bundle are licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0). Weights trained with it are subject to the licence of the data as well.
"""


KINDS: tuple[Kind, ...] = get_args(Kind)
DESCRIPTION = ("LICENSE", "docs/README.md", "docs/data_license.txt")
"""For people, who may write more into them."""


def write_bundle(
    config: Config,
    *,
    output: Path,
    facts: DataFacts | None = None,
    parameters: int | None = None,
    account: Path | None = None,
) -> dict[Kind, Component]:
    """Compile `config` into a bundle in the folder `output` (weights and results already there stay).

    So does a model card or licence that somebody has changed since it was written, which is said.

    That of a config with two stages holds that of the first one, which is trained before it.

    Args:
        config: the experiment.
        output: folder of the bundle; also its `bundle_root`, so a relative one works from the current folder.
        facts: channels and labels; default: from the config's card, or from the data set at `data.root`.
        parameters: of the network, for the model card; default: they are counted.
        account: folder that knows what medseg wrote (see `core.written`); default: the bundle's.

    Returns:
        The content of each of its YAML files.

    Raises:
        ConfigError, DataError: neither a card nor a readable data set says what the labels mean.
    """
    facts = facts or describe_data(config)
    root = str(output)
    contents = {kind: compiled(kind, config, facts=facts, bundle_root=root) for kind in KINDS}
    configs = output / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        header = f"# {TITLES[name]}\n# Compiled by medseg {__version__} from the config {config.name!r}.\n"
        replace_file(configs / f"{name}.yaml", header + to_yaml(content))
    replace_file(configs / "metadata.json", json.dumps(for_metadata(compile_metadata(config, facts)), indent=2) + "\n")
    replace_file(configs / "logging.conf", LOGGING)
    texts = (LICENSE, model_card(config, facts, root, parameters), data_license(facts))
    for described, text in zip(DESCRIPTION, texts, strict=True):
        if is_changed(account or output, output / described):
            print(f"{output / described}: was changed since medseg wrote it, and is left as it is")
        else:
            replace_file(output / described, text)
    if config.finder is not None:
        write_bundle(first_stage(config), output=output / FINDER, facts=of_region(facts), account=account or output)
    return contents


def to_yaml(content: Mapping[str, Any]) -> str:
    """YAML as MONAI's parser (PyYAML) reads it, in the order of the content."""
    return yaml.dump(for_monai(content), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    """No anchors for equal values, short lists of numbers on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        plain = all(isinstance(item, int | float | str) for item in sequence) and len(sequence) <= 8
        flat = plain and not any(isinstance(item, str) and item.startswith("$") for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat or flow_style)
