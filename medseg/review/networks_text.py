"""The table of `medseg networks` for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from medseg.networks.analysis import NORM

LEGEND = (
    "GMAC: 10^9 multiply-accumulates of a forward pass of one image.",
    "stride: of the coarsest map.",
    "receptive field: voxels along an axis that a logit can depend on through convolutions, poolings and resizes;",
    "  'whole image': beside these through global pooling or attention; 'norm': beside these through the statistics of",
    "  instance or group norm.",
    "activations: kept for the backward pass of one image in float32 on a CPU, each piece of memory once, without",
    "  parameters.",
)
MEASURED = (
    "effective field: voxels along an axis, about the middle, with 95 % of the squared gradient of the middle logit on",
    "  noise; mean of 3 images. {weights}",
    "forward: one image, {precision} on {device}{threads}.",
)


def as_text(result: dict[str, Any]) -> str:
    """The result of `networks` as a table with its legend; of one network all that is known of it."""
    image = " x ".join(map(str, (result["channels"], *result["size"])))
    head = f"{result['spatial_dims']}D, image {image}, {result['classes']} classes"
    rows = result["networks"]
    alone = len(rows) == 1 and "stages" in rows[0]
    measured = any("effective_field" in row or "not_measured" in row for row in rows)
    lines = [head, "", *(_facts(rows[0], result) if alone else _list(rows, measured)), "", *LEGEND]
    if measured:
        threads = f", {result['threads']} threads" if result["device"] == "cpu" else ""
        trained = any(row.get("options", {}).get("pretrained") for row in rows)
        weights = "Pretrained weights." if trained else "Untrained weights: training widens it."
        lines += [line.format(**{**result, "threads": threads, "weights": weights}) for line in MEASURED]
    return "\n".join(lines)


def _list(rows: Sequence[dict[str, Any]], measured: bool) -> list[str]:
    titles = ["network", "parameters", "GMAC", "stride", "receptive field", "activations"]
    titles += ["effective field", "forward"] if measured else []
    cells = [
        [row["name"], *([] if "problem" in row else [*_costs(row), *(_measured(row) if measured else [])])]
        for row in rows
    ]
    lines = _aligned([titles, *cells], right={1, 2, 5, 7})
    for number, row in enumerate(rows, start=1):
        if reason := row.get("problem") or row.get("not_measured"):
            lines[number] = f"{lines[number].rstrip()}  {reason}"
    return lines


def _costs(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['parameters']:,}",
        f"{row['gmac']:.2f}",
        _extent(row["output_stride"]),
        _field(row),
        _memory(row["activation_mib"]),
    ]


def _measured(row: dict[str, Any]) -> list[str]:
    if "not_measured" in row:
        return []
    return [_extent(row["effective_field"] or ["none"]), f"{row['forward_seconds']:.3g} s"]


def _facts(row: dict[str, Any], result: dict[str, Any]) -> list[str]:
    costs = _costs(row)
    facts = [
        ("network", row["name"]),
        ("options", ", ".join(f"{key}: {value}" for key, value in row["options"].items()) or "its own defaults"),
        ("parameters", costs[0]),
        ("GMAC", costs[1]),
        ("stride", costs[2]),
        ("receptive field", _field(row, causes=True)),
        ("activations", costs[4]),
    ]
    if "not_measured" in row:
        facts.append(("not measured", row["not_measured"]))
    elif "forward_seconds" in row:
        facts += zip(("effective field", "forward"), _measured(row), strict=True)
    table = [["map of", "channels", "stride", "receptive field"]]
    table += [
        [stage["name"], str(stage["channels"]), _extent(stage["stride"]), _field(stage, causes=True)]
        for stage in row["stages"]
    ]
    lines = [*(f"{key:17}{value}" for key, value in facts), "", *_aligned(table, right={1})]
    return [*lines, "", *_keys(row["keys"])] if row["keys"] else lines


def _keys(keys: Sequence[dict[str, str]]) -> list[str]:
    """What a config can say of the network and of its encoder, with what it means below each key."""
    heads = _aligned([[key["key"], f"default {key['default']}", key["type"]] for key in keys], right=set())
    found = []
    for head, key in zip(heads, keys, strict=True):
        found += [head, *textwrap.wrap(key["help"], 112, initial_indent="    ", subsequent_indent="    ")]
    return found


def _field(row: dict[str, Any], causes: bool = False) -> str:
    extent = _extent(row["receptive_field"]) if row["receptive_field"] else ""
    beside = row["whole_image_by"]
    if not beside:
        return extent
    if causes:
        return f"{extent}{', ' if extent else ''}whole image by {', '.join(beside)}"
    return ", ".join(filter(None, (extent, "norm" if beside == [NORM] else "whole image")))


def _extent(lengths: Sequence[Any]) -> str:
    """`[8, 8]` -> `8`; `[1, 8, 8]` -> `1x8x8`."""
    return str(lengths[0]) if len(set(lengths)) == 1 else "x".join(map(str, lengths))


def _memory(mib: float) -> str:
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB" if mib >= 10 else f"{mib:.2f} MiB"


def _aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
