"""The maps of a case beside its mask: probabilities and uncertainty, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.core.labels import Labels
from medseg.data.writers import OWN
from medseg.data.writers.base import own_writer
from medseg.engine.outputs import map_path, remove_older_map
from medseg.engine.staged import Staged, staging
from medseg.inference.maps import LEVELS, GridLogits, native_maps


class SplitMomentsd(MapTransform):
    """Part what an `EnsembleInferer` with moments gives: logits stay in `pred`, the rest goes into `moments`.

    Both are lists, one entry a grid, where the members see the case on several.
    """

    def __init__(self, labels: Labels) -> None:
        super().__init__("pred")
        self.channels = len(labels.channels)

    def __call__(self, data: Mapping) -> dict:
        case = dict(data)
        parts = case["pred"] if isinstance(case["pred"], list) else [case["pred"]]
        if all(len(part) == self.channels for part in parts):
            return case
        kept = [part[: self.channels] for part in parts]
        case["pred"] = kept if isinstance(case["pred"], list) else kept[0]
        case["moments"] = [_plain(part[self.channels :]) for part in parts]
        return case


class SaveMapsd(MapTransform):
    """Write the maps of a case's logits `pred`, which stay as they are. Nothing to do where `names` is empty.

    The files come into their places together with the mask (`SaveMaskd`), by what is `staged` in the case.

    Args:
        output_dir: folder of the masks, made if missing.
        labels: what the channels mean.
        names: of the maps, as `map_names` gives them for the same wishes.
        probabilities, uncertainty: the wishes.
        memory_mib: of the way to the native grid.
        members: networks behind the logits on each grid.
    """

    def __init__(
        self,
        output_dir: str,
        labels: Labels,
        *,
        names: Sequence[str],
        probabilities: bool = False,
        uncertainty: bool = False,
        memory_mib: float = 512,
        members: Sequence[int] = (1,),
    ) -> None:
        super().__init__("pred")
        self.output_dir, self.labels, self.names = Path(output_dir), labels, list(names)
        self.wishes: dict[str, Any] = {"probabilities": probabilities, "uncertainty": uncertainty}
        self.memory_mib, self.members = memory_mib, list(members)

    def __call__(self, data: Mapping) -> dict:
        case = dict(data)
        moments = case.pop("moments", None)
        if not self.names:
            return case
        logits = case["pred"] if isinstance(case["pred"], list) else [case["pred"]]
        grids = [
            GridLogits(_plain(one), (one if isinstance(one, MetaTensor) else case["image"]).affine, spread, members)
            for one, spread, members in zip(logits, moments or [None] * len(logits), self.members, strict=True)
        ]
        native = (torch.as_tensor(case["native_affine"]).cpu(), case["native_shape"], self.labels)
        maps = native_maps(grids, *native, memory_mib=self.memory_mib, **self.wishes).numpy()
        image = Path(case["image_path"])
        with staging(case.setdefault("staged", Staged())) as staged:
            for name, values in zip(self.names, maps, strict=True):
                place = map_path(self.output_dir, case["case"], image, name)
                own_writer(image).write_map(staged.add(place, self.output_dir / OWN), values, LEVELS, like=image)
                remove_older_map(self.output_dir, case["case"], image, name)
        return case


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
