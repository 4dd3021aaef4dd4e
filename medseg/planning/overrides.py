"""What the user gives a plan as `key=value`, in the place of what it would have chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medseg.config.document import Document, dotted
from medseg.config.network import PER_LEVEL, NetworkConfig
from medseg.planning.candidates import PICTURES, PLAIN, SLICES, STAGES, VOLUMES
from medseg.planning.rules import Choice

GIVEN = "as given"
CONTEXT = "data.context"


def given_document(overrides: Sequence[str]) -> Document:
    """What was given, as a config that holds nothing else."""
    document = Document(source="medseg plan")
    for assignment in overrides:
        document.override(assignment)
    return document


def kinds_that_fit(overrides: Sequence[str]) -> list[str] | None:
    """Names of the kinds of network that go with what was given; None: all.

    Another network, or another form of the U-Net, stands in the place of the plain one.
    """
    document = given_document(overrides)
    network = document.data.get("network")
    network = network if isinstance(network, dict) else {}
    data = document.data.get("data")
    if document.data.get("finder") is not None:
        return [STAGES]
    if isinstance(data, dict) and data.get("context") is not None:
        return [SLICES]
    if set(network) - {"spatial_dims"}:
        return [VOLUMES, PLAIN]
    dims = network.get("spatial_dims")
    fitting = {2: [SLICES, PICTURES, PLAIN], 3: [VOLUMES, STAGES]}.get(dims) if isinstance(dims, int) else None
    if "finder" in document.data:  # null: none
        return [kind for kind in fitting or (VOLUMES, SLICES, PICTURES, PLAIN) if kind != STAGES]
    return fitting


def overridden(choices: list[Choice], overrides: Sequence[str]) -> list[Choice]:
    """The choices with what was given in their place; a key that the plan does not have is added to its section."""
    document = given_document(overrides)
    for keys in [keys for keys in document.places if keys]:
        if any(other[:-1] == keys for other in document.places if other):  # a section, of which keys were given
            continue
        value: Any = document.data
        for key in keys:
            value = value[key]
        choice = Choice(dotted(keys), value, GIVEN)
        at = next((n for n, old in enumerate(choices) if old.key == choice.key), None)
        if at is not None:
            choices = [*choices[:at], choice, *choices[at + 1 :]]
        else:
            section = f"{keys[0]}."
            last = max((n for n, old in enumerate(choices) if old.key.startswith(section)), default=len(choices) - 1)
            choices = [*choices[: last + 1], choice, *choices[last + 1 :]]
    return _fitting(choices)


def _fitting(choices: list[Choice]) -> list[Choice]:
    """The choices without those of the planned U-Net that do not go with the network that was given."""
    planned_keys = {_network_key(choice): choice.value for choice in choices if choice.reason != GIVEN}
    given = {_network_key(choice): choice.value for choice in choices if choice.reason == GIVEN}
    if planned_keys.get("encoder") is not None:
        return choices
    planned = NetworkConfig.of().part
    same = NetworkConfig.parts_of({key: value for key, value in given.items() if value is not None}) == (planned,)
    widths = given.get("widths")
    kept = []
    for choice in choices:
        key = _network_key(choice)
        if choice.reason == GIVEN or key not in planned.options:
            kept.append(choice)
        elif same and key in PER_LEVEL and isinstance(widths, list):
            if len(widths) <= len(choice.value):
                kept.append(replace(choice, value=choice.value[: len(widths)]))
        elif same:
            kept.append(choice)
    return kept


def _network_key(choice: Choice) -> str:
    """`name` of `network.name`; empty for keys of other sections."""
    section, _, key = choice.key.partition(".")
    return key if section == "network" else ""
