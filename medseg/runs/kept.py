"""Masks that the same weights have made already: they are scored as they are, since a case is predicted once.

A mask is taken where its sidecar says that it came from these weights, this pipeline (preprocessing, network, windows,
test-time augmentation, CRF, these versions of medseg and of packages that bring parts) and these files of the image,
and where it was not changed since. Cleaning is no part of that: it begins with the mask as it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.compile import FINISHING, RAW_MASKS
from medseg.bundle.language import Component
from medseg.bundle.trained import Trained
from medseg.core.errors import DataError
from medseg.core.sealed import data_digest
from medseg.data.cases.case import Case
from medseg.data.files.digests import file_digest
from medseg.data.files.reading import seen_as
from medseg.engine.origin import MASK, ORIGIN, is_of_image
from medseg.engine.outputs import mask_paths
from medseg.engine.sidecar import read_sidecar
from medseg.runs.plugins import plugins_of

OTHERWISE = (
    *("bundle_root", "dataset_dir", "output_dir", "data", "split", "cases", "kept", "origin", "benchmark", "cohort"),
    *("device", "dataloader", "weights", "handlers", "initialize", "seed", "postprocessing", "finishing"),
    *("inputs", "overwrite", "formats", "maps", "probabilities", "uncertainty"),
)
"""What says nothing of the mask before its cleaning; whatever is not listed does."""


def made_by(run: Trained, content: Component) -> dict[str, str]:
    """Who makes the masks of this evaluation: digests of the weights, and of all that leads from an image to a mask."""
    return _maker([run], _pipeline(content))


def predicted_by(members: Sequence[Trained], content: Component) -> dict[str, str]:
    """Who makes the masks of this prediction by one run or several: as `made_by`, with cleaning and coding.

    Args:
        content: what is run, with what the call asks for in the place of its defaults.
    """
    return _maker(members, [_pipeline(content), content["steps"].get("clean")])


def _pipeline(content: Component) -> Component:
    pipeline = {key: value for key, value in content.items() if key not in OTHERWISE}
    pipeline["dataset"] = {key: value for key, value in content["dataset"].items() if key != "labels"}
    left_out = (*FINISHING, "maps")
    return {**pipeline, "steps": {name: step for name, step in content["steps"].items() if name not in left_out}}


def _maker(members: Sequence[Trained], pipeline: Any) -> dict[str, str]:
    finders = [member.finder for member in members]
    finder = (
        {}
        if not any(finders)
        else {"finder": _joined(["" if one is None else _digest(one.weights) for one in finders])}
    )
    series, spacing = seen_as()
    said = [{key: value} for key, value in {"spacing_mm": spacing, "dicom": series}.items() if value and any(value)]
    plugins = [plugin for member in members for plugin in plugins_of(member.config)]
    return {
        "weights": _joined([_digest(member.weights) for member in members]),
        **finder,
        "pipeline": data_digest([medseg.__version__, pipeline, *plugins, *said]),
    }


def _joined(digests: Sequence[str]) -> str:
    """One digest of several; a single one stays as it is."""
    return digests[0] if len(digests) == 1 else data_digest(list(digests))


def _digest(weights: Path) -> str:
    return file_digest(weights) if weights.is_file() else ""  # what loads them says so


def kept_masks(outputs: Iterable[Path], cases: Sequence[Case], maker: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Pairs (case, file of its mask before any cleaning), of the cases that have one by this maker.

    Args:
        outputs: folders of evaluations; the first that has a mask counts.
        maker: of `made_by`.
    """
    found = {}
    for output in dict.fromkeys(outputs):
        for case in cases:
            if case.name not in found and (mask := _mask_of(output, case, maker)) is not None:
                found[case.name] = str(mask)
    return tuple(found.items())


def _mask_of(output: Path, case: Case, maker: dict[str, str]) -> Path | None:
    masks = output / "masks"
    sidecar = read_sidecar(masks, case.name)
    if "postprocessing" in sidecar:  # that one is cleaned
        masks = output / RAW_MASKS
        sidecar = read_sidecar(masks, case.name)
    origin = sidecar.get(ORIGIN, {})
    if not maker.items() <= origin.items():
        return None
    (mask,) = mask_paths(masks, case.name, case.first)
    try:
        return mask if file_digest(mask) == origin.get(MASK) and is_of_image(origin, case.images) else None
    except (OSError, DataError):  # a file is gone
        return None
