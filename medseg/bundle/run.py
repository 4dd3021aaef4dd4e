"""Run what was compiled, in memory and through MONAI's parser: no bundle's YAML is read, or written, for it."""

from __future__ import annotations

import copy
import logging
from typing import Any

from monai.bundle import ConfigParser

from medseg.bundle.components import Component
from medseg.core.errors import unwrapped


def run_compiled(content: Component, **objects: Any) -> ConfigParser:
    """Do what `python -m monai.bundle run` does with the same content in a file: `initialize`, then `run`.

    Args:
        content: what `compiled` gave in this process: a bundle is code, so never one that was found somewhere.
        objects: id -> value in the place of what the content says, as `dataset_dir="/data"`, or an object that is there
            already (a list as a tuple: MONAI would look for components in it).

    Returns:
        The parser, which has every component by its id.
    """
    for name, level in (("ignite", logging.CRITICAL), ("monai", logging.WARNING)):  # as in a bundle's logging.conf
        logging.getLogger(name).setLevel(level)
    parser = ConfigParser({**copy.deepcopy(content), **objects})
    with unwrapped():
        for name in ("initialize", "run"):
            parser.get_parsed_content(name)
    return parser
