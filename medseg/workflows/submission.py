"""`medseg submission`: masks as the server of a benchmark takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medseg.config.cards import Card, load_card
from medseg.core.errors import ConfigError, DataError, PartialFailure, Problem
from medseg.core.files import replacing
from medseg.data.cases.masks import find_masks
from medseg.data.cases.values import unknown_values
from medseg.data.files.images import label_values, read_image
from medseg.data.files.pictures import palette
from medseg.data.files.signed import is_signed, signature
from medseg.engine.places import Place, check_places, door
from medseg.metrics.benchmarks import Benchmark, from_train_ids
from medseg.metrics.confusion import value_counts

FORMATS = {"cityscapes": "{case}_labelIds.png", "voc": "{case}.png", "ade20k": "{case}.png"}
"""Layout of a data set with a server -> how that wants the files called."""


def write_submission(
    prediction: Path, *, dataset: str, output: Path, train_ids: bool = False, progress: bool = True
) -> list[Path]:
    """Write every mask of a folder as one 8-bit PNG: labelIds for Cityscapes, with the official palette for VOC.

    Args:
        prediction: folder of masks in any format that medseg reads.
        dataset: a card with a server: cityscapes, voc2012, ade20k.
        output: folder of the PNGs; they appear whole or not at all.
        train_ids: the masks hold places among the evaluated classes (trainIds) instead of values.

    Returns:
        The files.

    Raises:
        ConfigError: the data set has no server.
        DataError: there is no mask, or a file would be replaced that medseg did not write.
        PartialFailure: some masks hold values that are no classes, or are several for one case; the others are written.
    """
    card = load_card(dataset)
    if card.layout != card.convention or card.convention not in FORMATS:
        raise ConfigError(
            f"{dataset} has no server to submit to", f"known: {', '.join(FORMATS)} (as the card's layout)"
        )
    found = find_masks(prediction, card.layout)
    places = {case: output / FORMATS[card.layout].format(case=case) for case in found}

    def check() -> None:
        check_places(
            (Place(place, output, case, output, is_signed(place)) for case, place in places.items()),
            (file for files in found.values() for file in files),
        )

    with door(output, check):
        return _write_all(found, places, card, output, train_ids=train_ids, progress=progress)


def _write_all(
    found: Mapping[str, Sequence[Path]],
    places: Mapping[str, Path],
    card: Card,
    output: Path,
    *,
    train_ids: bool,
    progress: bool,
) -> list[Path]:
    """Every mask into its place; the files that are written."""
    benchmark = Benchmark.of_card(card)
    written: list[Path] = []
    problems: list[Problem] = []
    for case, files in tqdm(
        sorted(found.items()), "writing", unit="mask", disable=None if progress else True, leave=False
    ):
        try:
            if len(files) > 1:
                raise DataError(Problem(case, f"has several masks: {', '.join(map(str, files))}", "leave one"))
            mask = label_values(read_image(files[0], channel_axis=False))[0]
            if mask.ndim != 2:
                raise DataError(Problem(str(files[0]), f"has {mask.ndim} dimensions, expected rows and columns"))
            if train_ids:
                mask = from_train_ids(mask, benchmark.labels, str(files[0]))
            if problem := unknown_values(value_counts(mask), str(files[0]), benchmark.predictable):
                raise DataError(problem)
        except DataError as error:
            problems += error.problems
            continue
        path = places[case]
        _write(path, mask, coloured=card.layout == "voc")
        written.append(path)
    if problems and not written:
        raise DataError(problems)
    if problems:
        raise PartialFailure(
            [*problems, Problem(str(output), f"{len(problems)} masks are missing from the submission")]
        )
    return written


def _write(path: Path, mask: np.ndarray, *, coloured: bool) -> None:
    from PIL import Image as Pillow

    size = (mask.shape[1], mask.shape[0])
    picture = Pillow.frombytes("P" if coloured else "L", size, np.ascontiguousarray(mask).tobytes())
    if coloured:
        picture.putpalette(palette({}).ravel().tolist())
    with replacing(path) as writing:
        picture.save(writing, format="PNG", pnginfo=signature())
