"""Run what was compiled, in memory and through MONAI's parser: no bundle's YAML is read, or written, for it."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from medseg.bundle.language import Code, Component, parsed
from medseg.core.errors import below
from medseg.core.foreign import unwrapped
from medseg.data.files.reading import now, reading
from medseg.networks import name_of, options_of


def run_compiled(content: Component, **objects: Any) -> ConfigParser:
    """Do what `python -m monai.bundle run` does with the same content in a file: `initialize`, then `run`.

    Args:
        content: what `compiled` gave in this process: a bundle is code, so never one that was found somewhere.
        objects: id -> value in the place of what the content says, as `dataset_dir="/data"`, or an object that is there
            already (a list of objects as a tuple, which nobody looks into). All of it is data, see `bundle.language`.

    Returns:
        The parser, which has every component by its id.
    """
    for name, level in (("ignite", logging.CRITICAL), ("monai", logging.WARNING)):  # as in a bundle's logging.conf
        logging.getLogger(name).setLevel(level)
    parser = parser_of({**content, **objects})
    with reading(now()), unwrapped():  # what the bundle says of it ends with the bundle
        for name in ("initialize", "run"):
            parser.get_parsed_content(name)
    return parser


def parser_of(content: Component) -> ConfigParser:
    """MONAI's parser of what was compiled; what the network says of its options is a mistake of the config."""
    return parsed({**content, "network_def": checked(content["network_def"])})


def checked(network: Component) -> Component:
    """The component of a network, as one that names the section of the config where its options do not fit.

    It holds a function, so it is for this process and not for a file.
    """
    return {"_target_": _made, "network": {**network, "_mode_": Code("callable")}}


def _made(network: partial[nn.Module]) -> nn.Module:
    with below("network"), options_of(name_of(network.func)):
        return network()
