"""The config of a run: every key, its type, its default and what it means.

A config is data: nothing in it can execute anything. A key here is the name of an argument in the code and the path
after `--set`. Loading, `--set` and the messages for mistakes are in `config/load.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from medseg.config.augmentation import AugmentationConfig
from medseg.config.crf import CRFConfig
from medseg.config.dicom import DicomConfig
from medseg.config.finder import FinderConfig
from medseg.config.loss import LossConfig
from medseg.config.names import NameIn
from medseg.config.network import NetworkConfig
from medseg.config.optimizer import OptimizerConfig, ScheduleConfig
from medseg.config.postprocess import PostprocessConfig
from medseg.config.section import Finding, Section
from medseg.core.conventions import Convention
from medseg.core.patterns import fault_of
from medseg.core.types import Axes, Count, Fraction, Positive, Range, Share, Size
from medseg.data.cases.layouts import AUTO, LAYOUTS
from medseg.data.training.growth import PatchGrowth


class DataConfig(Section):
    """Where the cases are, what their labels mean, and which of them are held out."""

    root: str | None = None
    """Folder of the data set, or a CSV list of cases. Required to train; often given as `--set data.root=DIR`."""
    card: str | None = None
    """Name of a card in `datasets/`; its labels, regions and channels win over the data set's own."""
    layout: Annotated[str, NameIn(LAYOUTS, (AUTO,))] = AUTO
    """How the data are organised: Medical Segmentation Decathlon, nnU-Net raw, a CSV list of cases, BIDS, folders of
    images and labels, a public set of pictures, any folder of pictures and masks, or found out by looking."""
    classes: dict[str, Annotated[int, Field(ge=0, le=255)]] | None = None
    """Name -> value in the masks, for data that do not say it and have no card; of pictures, 0 need not be there."""
    merge: dict[str, Annotated[list[str], Field(min_length=1)]] | None = None
    """Name -> classes that count as one class of this name; `rest` stands for all that are named nowhere else."""
    training_split: str = "train"
    """Where the data set has official splits (folders or list files): the one to train on."""
    validation_split: str = "val"
    """And the one that is held out."""
    validation: Share = 0.2
    """Fraction of the labelled cases that training never sees; metrics are computed on them."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of a cross-validation (`medseg train --fold k | all`), each held out once."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """The part that is held out, from 0; null holds out the fraction `validation` instead."""
    folds_file: str | None = None
    """Which cases each fold trains on and holds out: a splits.json, or nnU-Net's splits_final.json. Default: made."""
    patient_pattern: str | None = None
    """Regular expression; what it finds in a case's name (its first group, if it has one) is the patient. A patient's
    cases are never divided. Default: every case is a patient."""
    patient_table: str | None = None
    """The same as a CSV or TSV file with the columns `case` and `patient`."""
    regions: dict[str, list[int]] | None = None
    """Overlapping targets, name -> label values. Default: the card's, else the data set's own."""
    region_values: list[int] | None = None
    """The value that each region writes into a mask, in the order of `regions`; later ones overwrite earlier ones."""
    ignore_index: int | None = None
    """Label value that counts neither in the loss nor in a metric."""
    context: Count | None = None
    """Volumes for a network of two dimensions, slice by slice: so many neighbouring slices are its channels, an odd
    number (1: the slice alone). Slices lie along the last axis of preprocessing.orientation. Null: of two dimensions
    are pictures."""
    spacing_mm: Annotated[list[Positive], Field(min_length=2, max_length=3)] | None = None
    """Voxel size along the axes of the files, of all images and labels, where their headers lie; also of what the run
    predicts. Null: as the headers say. Without a config: the variable MEDSEG_SPACING_MM."""
    cache: str | None = None
    """Folder for preprocessed cases. Default: `cache` inside the run folder."""
    dicom: DicomConfig | None = None
    """Which series is the image where a DICOM study holds several; null: a study has to hold one scan."""
    largest_file_gib: Positive | None = None
    """GiB that an image may hold, unpacked. Null: 16, or what MEDSEG_LARGEST_FILE_GIB says."""
    largest_picture_mp: Positive | None = None
    """Megapixels that a picture may have. Null: 1000, or what MEDSEG_LARGEST_PICTURE_MP says."""

    def findings(self) -> Iterable[Finding]:
        names, values = self.regions, self.region_values
        if (names is None) != (values is None):
            yield ("region_values", "regions"), "regions and region_values belong together: give both or neither"
        elif names is not None and values is not None and len(names) != len(values):
            yield ("region_values", "regions"), f"{len(values)} values for {len(names)} regions"
        if values and (len(set(values)) != len(values) or min(values) < 1):
            yield ("region_values",), f"{values} must be different positive numbers (0 is the background)"
        for name, members in (names or {}).items():
            if not members or min(members) < 1 or len(set(members)) != len(members):
                yield (f"regions.{name}",), f"{members} must be different positive label values"
            if self.ignore_index in members:
                yield (f"regions.{name}", "ignore_index"), f"holds the ignore_index {self.ignore_index}"
        if self.context is not None and self.context % 2 == 0:
            yield ("context",), f"{self.context} must be odd: a slice and as many before as behind it"
        if self.fold is not None and self.folds_file is None and self.fold >= self.folds:
            yield ("fold", "folds"), f"{self.fold} is not one of the {self.folds} folds, which count from 0"
        if self.patient_pattern is not None and self.patient_table is not None:
            yield ("patient_pattern", "patient_table"), "both say who the patient is: give one"
        if (fault := fault_of(self.patient_pattern or "")) is not None:
            yield ("patient_pattern",), f"{self.patient_pattern!r} is no regular expression: {fault}"

    @property
    def holds_out(self) -> bool:
        """Whether there are cases that training does not see."""
        return self.fold is not None or self.validation > 0


class PreprocessingConfig(Section):
    """Deterministic steps, done once a case and cached."""

    orientation: Annotated[str, Field(pattern="^[RLAPSI]{2,3}$")] = "RAS"
    """Axis codes that every image is flipped and transposed to."""
    spacing_mm: Annotated[list[Positive | None], Field(min_length=2, max_length=3)] | None = None
    """Voxel size to resample to; null keeps each case's own, of all axes or of one."""
    longest_side: Count | None = None
    """Pictures, whose pixels have no size in mm: resize each to so many pixels along its longer side."""
    crop_to_foreground: bool = False
    """Crop to the box of voxels above the image's background (skull-stripped or padded images)."""
    normalization: (
        Literal["zscore", "zscore_nonzero", "zscore_bright", "ct", "imagenet", "inception", "none"]
        | list[Literal["zscore", "zscore_nonzero", "zscore_bright", "ct", "none"]]
    ) = "zscore"
    """zscore over all voxels; over non-background voxels; over those brighter than their mean; CT window then z-score;
    or nothing. For RGB of 8 bits: by ImageNet's mean and deviation, or (value - 127) / 128 as EfficientNet-Lite
    expects; it stays bytes until then.
    A list says it of each channel: [ct, zscore] for CT beside PET."""
    window_hu: Range = [-160.0, 240.0]
    """Hounsfield units that `normalization: ct` clips to."""
    ct_mean_std: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Mean and deviation that `ct` takes out, the same of every case, as nnU-Net does; null: each case's own."""

    def findings(self) -> Iterable[Finding]:
        axes = [("RL", "AP", "SI")[0 if code in "RL" else 1 if code in "AP" else 2] for code in self.orientation]
        if len(set(axes)) != len(axes):
            yield ("orientation",), f"{self.orientation!r} must name each axis (R or L, A or P, S or I) once"
        if self.longest_side is not None and self.spacing_mm is not None:
            yield ("longest_side", "spacing_mm"), "both say how large a pixel becomes: give one"
        if self.ct_mean_std is not None and self.ct_mean_std[1] <= 0:
            yield ("ct_mean_std",), f"{self.ct_mean_std}: the deviation must be above 0"

    @property
    def colours(self) -> str:
        """The normalisation by which red, green and blue would be scaled; "" where each channel has its own."""
        return self.normalization if isinstance(self.normalization, str) else ""


class TrainingConfig(Section):
    """The budget and everything about the steps."""

    max_epochs: Count = 100
    max_minutes: Positive | None = None
    """Wall-clock minutes of training and validation together (start-up and the final scoring come on top); the schedule
    follows it. When given, it ends the run, whatever max_epochs says, and validation takes at most 5 % of it, or a
    single case where that takes longer: a fixed sample of the held-out cases, as often as that allows."""
    max_iterations: Count | None = None
    """Steps of training; when given, they end the run, whatever max_epochs says."""
    iterations_per_epoch: Count | None = None
    """Default: as many as it takes to see every training case once, at least 20."""
    batch_size: Count = 2
    patch_size: Size = [96, 96, 96]
    patch_growth: Share = 0.0
    """Share of the budget in which patches grow to patch_size, from half of each side, so that its steps are cheaper.
    0: they have that size from the beginning."""
    foreground_probability: Fraction = 0.33
    """Share of patches centred on a voxel of a target, every target alike."""
    channel_dropout: Share = 0.0
    """Probability that a channel of a training sample is taken out, never all of them. Above 0 the network learns to do
    with any of the channels, and cases may lack some, in training and in prediction."""
    start: str | None = None
    """Folder of a finished run to begin with (`medseg train --from RUN`): its weights, for other data, with other
    channels, targets or spacing. What the config does not say of the network is as in that run."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    gradient_clip: Annotated[float, Field(ge=0)] = 12.0
    """Largest norm of the gradient; 0 switches clipping off."""
    weight_average: Share = 0.0
    """Decay of an exponential moving average of the weights, used to validate and predict; 0 switches it off."""
    validation_interval: Count = 1
    """Epochs between validations; at least so many where max_minutes is given."""
    early_stop_epochs: Count | None = None
    """Stop after so many epochs without a better key metric."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the hardware has it (CUDA with bf16, CPUs with AMX or AVX512-BF16), else float32."""
    device: Annotated[str, Field(pattern="^(auto|cpu|cuda|cuda:[0-9]+)$")] = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load data. Their number never changes a result."""
    compile: bool = False
    """Run the network through torch.compile."""
    deterministic: bool = False
    """On a GPU: only deterministic algorithms (slower). A CPU is deterministic anyway."""

    def findings(self) -> Iterable[Finding]:
        if self.device == "cpu" and self.precision == "float16":
            yield ("precision", "device"), "float16 needs a GPU; on a CPU use auto, float32 or bfloat16"

    @property
    def lacks_channels(self) -> bool:
        """Whether cases may lack channels."""
        return self.channel_dropout > 0


class InferenceConfig(PostprocessConfig):
    """From an image of any size to a mask, and the steps that clean it (the keys of `PostprocessConfig`)."""

    patch_size: Size | None = None
    """Sliding window; default: training.patch_size."""
    whole_image: bool = False
    """The whole image at once in the place of a window."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Average the predictions of the image resized by these factors (test-time augmentation)."""
    overlap: Share = 0.5
    window_batch: Count = 1
    mirror_axes: Axes = []
    """Average the predictions of the image mirrored along every combination of these axes (test-time augmentation)."""
    crf: CRFConfig | None = None
    """Sharpen masks along the edges of the image, in predict and evaluate."""
    coding: Literal["own", "brats"] | dict[str, Annotated[int, Field(ge=1, le=255)]] = "own"
    """Values in the masks that `predict` saves: those of the data set, BraTS's (1 core, 2 oedema, 4 enhancing), or a
    value for each target."""
    memory_mib: Count = 512
    """Cap on the logits that are resampled to the native grid at once."""


class EvaluationConfig(Section):
    convention: Convention | None = None
    """Whose rules: metrics per case (medical), or of one confusion matrix of all images as the benchmark's own program
    forms them. Default: the card's."""
    tolerance_mm: Positive = 1.0
    """Tolerance of the surface Dice."""
    lesions: list[str] = []
    """Targets whose connected parts are scored one by one as well: found, missed, invented (lesions.json)."""


class Config(Section):
    """One experiment: data, preprocessing, finder, network, loss, augmentation, training, inference, evaluation."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = DataConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    finder: FinderConfig | None = None
    """Two stages: a first network finds the region of the targets on a coarse grid, the network delineates them in it.
    Null: the network sees the whole image."""
    network: SerializeAsAny[NetworkConfig] = Field(default_factory=NetworkConfig.of)
    loss: SerializeAsAny[LossConfig] = Field(default_factory=LossConfig.of)
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def findings(self) -> Iterable[Finding]:
        dims = self.network.spatial_dims
        for key, size in {
            "training.patch_size": self.training.patch_size,
            "inference.patch_size": self.inference.patch_size,
        }.items():
            if size is not None and len(size) != dims:
                yield (
                    (key, "network.spatial_dims"),
                    f"{size} has {len(size)} numbers, but network.spatial_dims is {dims}",
                )
        spacing = self.preprocessing.spacing_mm
        if spacing is not None and len(spacing) != self.image_dims:
            yield (
                ("preprocessing.spacing_mm", "network.spatial_dims", "data.context"),
                f"{spacing} has {len(spacing)} numbers, but the images have {self.image_dims} dimensions",
            )
        if self.preprocessing.longest_side is not None and self.image_dims == 3:
            what = "is of pictures; volumes are resampled to a size of their voxels (preprocessing.spacing_mm)"
            yield ("preprocessing.longest_side", "network.spatial_dims", "data.context"), what
        if self.data.context is not None:
            yield from self._slice_findings()
        for key, axes in {
            **{f"augmentation.{name}": axes for name, axes in self.augmentation.axes.items()},
            "inference.mirror_axes": self.inference.mirror_axes,
        }.items():
            if any(axis >= dims for axis in axes):
                yield (key, "network.spatial_dims"), f"{axes} names an axis that spatial_dims {dims} does not have"
            if len(set(axes)) != len(axes):
                yield (key,), f"{axes} names an axis twice"
        if self.image_dims == 3 and len(self.preprocessing.orientation) != 3:
            yield ("preprocessing.orientation", "network.spatial_dims"), "needs three letters where images are volumes"
        if len(self.training.patch_size) == dims:
            smallest, growth = self.training.patch_size, self.patch_growth()
            if growth is not None:
                smallest = list(growth.sizes[0])
                if smallest == self.training.patch_size:
                    what = "cannot be smaller: the network's coarsest map takes as many voxels as one"
                    yield ("training.patch_size", "training.patch_growth"), f"{smallest} {what}"
            coarsest = self.network.coarsest(smallest)
            norm, alone = self.network.options().get("norm"), self.training.batch_size == 1
            if coarsest and math.prod(coarsest) == 1 and (norm == "instance" or (norm == "batch" and alone)):
                yield (
                    (
                        "training.patch_size",
                        *(["training.batch_size"] if norm == "batch" else []),
                        *(["training.patch_growth"] if growth else []),
                        "network.widths",
                        "network.strides",
                        "network.norm",
                        "network.spatial_dims",
                    ),
                    f"{smallest} is a single voxel at the coarsest resolution, too few for {norm} norm",
                )
        if self.finder is not None:
            yield from self.finder.misfits(self.network, self.image_dims)
        if self.training.lacks_channels and self.preprocessing.colours in ("imagenet", "inception"):
            both = ("training.channel_dropout", "preprocessing.normalization")
            yield both, "a picture has all its colours; zscore is for channels that are measured one by one"
        if self.network.options().get("norm") == "syncbatch" and self.training.device == "cpu":
            yield ("network.norm", "training.device"), "syncbatch is for GPUs: on a CPU take batch"
        if self.preprocessing.colours in ("imagenet", "inception") and self.augmentation.patches_changed:
            both = ("preprocessing.normalization", "augmentation.crop_scale")
            yield both, f"{self.preprocessing.colours} is for crops of pictures: give crop_scale, or take zscore"
        if self.training.start is not None and self.network.pretrained is not None:
            yield ("training.start", "network.pretrained"), "both say which weights to begin with: give one"
        if self.training.early_stop_epochs and not self.data.holds_out:
            yield ("training.early_stop_epochs", "data.validation"), "needs validation cases, but data.validation is 0"
        for keys, name in self.inference.named():
            if self.data.regions and name not in self.data.regions:
                yield (".".join(("inference", *keys)), "data.regions"), f"{name!r} is not one of data.regions"
        for key in self.inference.of_volumes if self.image_dims == 2 else ():
            what = "a picture has no volume: needs spatial_dims 3, or data.context"
            yield (f"inference.{key}", "network.spatial_dims"), what

    def _slice_findings(self) -> Iterable[Finding]:
        """What does not go with a network that sees volumes slice by slice."""
        if self.network.spatial_dims != 2:
            what = "slices are for a network of two dimensions; one of three sees the volume"
            yield ("data.context", "network.spatial_dims"), what
        if self.augmentation.crop_scale is not None:
            what = "crops at a random scale are of pictures; slices are turned and scaled by the other keys"
            yield ("augmentation.crop_scale", "data.context"), what

    def patch_growth(self) -> PatchGrowth | None:
        """How the patches of training grow, if they do."""
        size, share = self.training.patch_size, self.training.patch_growth
        return PatchGrowth(size, share, self.network.multiple()) if share else None

    @property
    def image_dims(self) -> int:
        """Dimensions of the images: those of the network, or 3 where it sees volumes slice by slice."""
        return self.network.spatial_dims if self.data.context is None else 3
