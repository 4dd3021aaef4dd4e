"""A trained run that is loaded once and segments image after image, for whoever calls medseg from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import Compose

from medseg.bundle.ensemble import compile_members
from medseg.bundle.facts import reading_as
from medseg.bundle.language import Code, target
from medseg.bundle.run import parser_of
from medseg.bundle.trained import Trained
from medseg.core.errors import DataError, Problem
from medseg.core.foreign import unwrapped
from medseg.core.labels import Labels
from medseg.data.cases.kinds import other_scan
from medseg.data.files.images import Image, among_channels, read_image, voxel_ml, write_mask
from medseg.data.files.reading import ReadingRules, now, reading
from medseg.data.training.apply import apply
from medseg.engine.device import set_up
from medseg.engine.places import Place, check_places
from medseg.metrics.confusion import target_voxels
from medseg.runs.members import as_folders, read_members

AFFINE_OF_FILE = "leave it out, or give the array: medseg.Predictor(...)(array, affine=affine)"
ONLY_FOR_FILES = ("maps", "raw", "save")  # steps of an inference that write


@dataclass(frozen=True)
class Mask:
    """What was found in one image.

    Args:
        array: `(*spatial)` label values, on the image's own grid.
        affine: 4x4 float64, voxel index -> RAS+ millimetres.
        labels: what the values mean.
        like: the image, or its file, whose grid a saved mask gets.
        rules: how that file was read, and is read again for the mask.
    """

    array: np.ndarray
    affine: np.ndarray
    labels: Labels
    like: Image | Path = field(repr=False)
    rules: ReadingRules = field(default_factory=now, repr=False)

    @property
    def volume_ml(self) -> dict[str, float]:
        """Target (a class or a region) -> millilitres; empty of a picture, which has no volume."""
        ml = voxel_ml(self.affine, self.array.ndim)
        if ml is None:
            return {}
        return {name: count * ml for name, count in target_voxels(self.array, self.labels).items()}

    def save(self, path: str | Path) -> Path:
        """Write it as a file, by its ending: `.nii.gz`, `.nii`, `.nrrd`, `.mha`, of a picture `.png`.

        Raises:
            DataError: another ending, a volume as a picture, or the file is the image itself.
        """
        if isinstance(self.like, Path):
            place = Path(path)
            check_places(
                [Place(place, place.parent, str(self.like), ours=True)], [self.like], remedy="save it elsewhere"
            )
        with reading(self.rules):
            write_mask(path, self.array, like=self.like, labels=self.labels)
        return Path(path)


class Predictor:
    """One run, or several as an ensemble, on their device, ready for any number of images.

        predictor = Predictor.from_run("runs/brain")
        mask = predictor("scan.nii.gz")          # a file, a DICOM folder, or one file a channel
        mask = predictor(array, affine=affine)   # (C, *spatial) or (*spatial), RAS+ millimetres

    The masks are those of `medseg predict`: PyTorch's global settings (cuDNN, TF32) become its own, but no generator is
    seeded.
    """

    def __init__(self, parser: ConfigParser, first: Trained) -> None:
        self.labels, self.channels = first.facts.labels, first.facts.channels
        self._kinds = first.facts.kinds
        self._dims, self._config = first.config.image_dims, first.config
        self._prepare: Any = parser.get_parsed_content("preprocessing")
        self._evaluator: Any = parser.get_parsed_content("evaluator")
        self._evaluator.network.eval()

    @classmethod
    def from_run(
        cls, run: str | Path | Sequence[str | Path], *, device: str = "auto", postprocess: bool = True
    ) -> Predictor:
        """Load the weights of a run, of a folder of folds, or of several runs.

        Args:
            run: the folder, or several.
            device: auto, cpu, cuda or cuda:N.
            postprocess: False leaves out what `medseg postprocess` decided.

        Raises:
            MedsegError: a folder is no trained run, or the runs do not predict the same.
        """
        members = read_members(as_folders(run), postprocess)
        with reading_as(members[0].config):
            content = compile_members("inference", members)
            steps = [Code(f"@steps#{name}") for name in content["steps"] if name not in ONLY_FOR_FILES]
            content |= {"handlers": [], "postprocessing": target(Compose, transforms=steps), "cases": ()}
            content["device"] = {**content["device"], "name": device}
            parser = parser_of(content)
            set_up()
            with unwrapped():
                predictor = cls(parser, members[0])
                parser.get_parsed_content("weights").load(predictor._evaluator)
        return predictor

    def __call__(
        self,
        image: str | Path | Sequence[str | Path | None] | np.ndarray,
        affine: np.ndarray | None = None,
        channels: Sequence[str] | None = None,
        any_scan: bool = False,
    ) -> Mask:
        """The mask of one image.

        Args:
            image: a file, the folder of a DICOM series, one file a channel; or an array `(C, *spatial)`, where there is
                one channel also `(*spatial)`, which needs the `affine`.
            affine: 4x4, voxel index of the array -> RAS+ millimetres; of a picture none, a file has its own.
            channels: the names of those that the image has, in its order, where the run was trained to do without some
                (`training.channel_dropout`); default: all. In a list of files, None is one that is missing.
            any_scan: also a DICOM series whose header says another kind of scan than the network was trained on.

        Raises:
            DataError: the image cannot be read, has other channels than the run, or no affine where it needs one, or
                one where it has its own.
        """
        if affine is not None and not isinstance(image, np.ndarray):
            raise DataError(Problem("affine", "is given beside a file, which has its own", AFFINE_OF_FILE))
        with reading_as(self._config):
            return self._mask(image, affine, channels, any_scan)

    def _mask(
        self,
        image: str | Path | Sequence[str | Path | None] | np.ndarray,
        affine: np.ndarray | None,
        channels: Sequence[str] | None,
        any_scan: bool,
    ) -> Mask:
        names = self.channels if channels is None else tuple(channels)
        if not set(names) <= set(self.channels) or len(set(names)) < len(names):
            what = f"are {', '.join(names)}, but the run knows {', '.join(self.channels)}"
            raise DataError(Problem("the channels", what, "name those that the image has, each once"))
        read = self._of_array(image, affine, names) if isinstance(image, np.ndarray) else read_image(image)
        if channels is not None:
            if len(read.array) != len(names) or read.missing:
                what = f"has {len(read.array)} channels, but {len(names)} are named: {', '.join(names)}"
                raise DataError(Problem(str(read.path), what, "name those that the image has, each once"))
            read = among_channels(read, [self.channels.index(name) for name in names], len(self.channels))
        if not any_scan and (why := other_scan(read.kinds, self._kinds)):
            raise DataError(Problem(str(read.path), why, "any_scan=True predicts it all the same"))
        case = apply(self._prepare, {"image": read, "case": read.path.name})
        case = self._evaluator.segmented({**case, "image_path": str(read.path), "label_path": None})
        array = np.asarray(case["pred"])[0]
        like = read if isinstance(image, np.ndarray) else read.path
        return Mask(array, np.asarray(case["native_affine"], dtype=np.float64), self.labels, like)

    def _of_array(self, array: np.ndarray, affine: np.ndarray | None, names: Sequence[str]) -> Image:
        spatial_dims = self._dims
        if array.ndim == spatial_dims and len(names) == 1:
            array = array[None]
        if array.ndim != spatial_dims + 1 or len(array) != len(names):
            what = f"has the shape {array.shape}, expected {len(names)} channels ({', '.join(names)})"
            raise DataError(Problem("the array", f"{what} and {spatial_dims} spatial axes", "give (C, *spatial)"))
        if affine is None and spatial_dims == 3:
            raise DataError(Problem("the array", "has no place in a patient", "give affine=, 4x4, in RAS+ millimetres"))
        return Image(array, np.eye(4) if affine is None else _checked(affine), Path("array"))


def _checked(affine: np.ndarray) -> np.ndarray:
    """The affine as float64; raises DataError where it places no voxel."""
    try:
        numbers = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (4, 4):
        what = f"has the shape {np.shape(affine)}" if numbers.size else "holds no numbers"
        raise DataError(Problem("affine", what, "give 4x4 numbers: voxel index -> RAS+ millimetres"))
    if not np.isfinite(numbers).all() or not np.linalg.det(numbers[:3, :3]) or numbers[3].tolist() != [0, 0, 0, 1]:
        what = f"is no map from voxels to millimetres: {numbers.tolist()}"
        raise DataError(Problem("affine", what, "finite, invertible, its last row 0 0 0 1"))
    return numbers
