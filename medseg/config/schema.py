"""The config of a run: every key, its type, its default and what it means.

A config is data: nothing in it can execute anything. A key here is the name of an argument in the code and the path
after `--set`. Loading, `--set` and the messages for mistakes are in `config/load.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[list[Count], Field(min_length=2, max_length=3)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Section(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(Section):
    """Where the cases are, what their labels mean, and which of them are held out."""

    root: str | None = None
    """Folder of the data set. Required to train; often given as `--set data.root=DIR`."""
    card: str | None = None
    """Name of a card in `datasets/`; its labels, regions and channels win over the data set's own."""
    layout: Literal["auto", "msd", "nnunet"] = "auto"
    """How the folder is organised: Medical Segmentation Decathlon, nnU-Net raw, or found out by looking."""
    validation: Fraction = 0.2
    """Fraction of the labelled cases that training never sees; metrics are computed on them."""
    regions: dict[str, list[int]] | None = None
    """Overlapping targets, name -> label values. Default: the card's, else the data set's own."""
    region_values: list[int] | None = None
    """The value that each region writes into a mask, in the order of `regions`; later ones overwrite earlier ones."""
    ignore_index: int | None = None
    """Label value that counts neither in the loss nor in a metric."""
    cache: str | None = None
    """Folder for preprocessed cases. Default: `cache` inside the run folder."""

    @model_validator(mode="after")
    def region_values_fit(self) -> DataConfig:
        if (self.regions is None) != (self.region_values is None):
            raise ValueError("regions and region_values belong together: give both or neither")
        if self.regions and self.region_values and len(self.regions) != len(self.region_values):
            raise ValueError(
                f"region_values needs one value a region: got {len(self.region_values)} for {len(self.regions)} regions"
            )
        return self


class PreprocessingConfig(Section):
    """Deterministic steps, done once a case and cached."""

    orientation: Annotated[str, Field(pattern="^[RLAPSI]{2,3}$")] = "RAS"
    """Axis codes that every image is flipped and transposed to."""
    spacing_mm: Annotated[list[Positive], Field(min_length=2, max_length=3)] | None = None
    """Voxel size to resample to; null keeps each case's own."""
    crop_to_foreground: bool = False
    """Crop to the box of voxels above the image's background (skull-stripped or padded images)."""
    normalization: Literal["zscore", "zscore_nonzero", "ct", "none"] = "zscore"
    """zscore over all voxels; over non-background voxels; CT window then z-score; or nothing."""
    window_hu: Range = [-160.0, 240.0]
    """Hounsfield units that `normalization: ct` clips to."""


class NetworkConfig(Section):
    """Which network, and its options."""

    name: Literal["unet"] = "unet"
    spatial_dims: Literal[2, 3] = 3
    widths: Annotated[list[Count], Field(min_length=2)] = [32, 64, 128, 256, 320]
    """Channels at each resolution, the finest first."""
    strides: list[Count | Size] | None = None
    """Down-sampling before each resolution, one number or one an axis; default 1, then 2 each."""
    kernel_sizes: list[Count | Size] | None = None
    """Kernel of the convolutions at each resolution, one number or one an axis; default 3 each."""
    blocks_per_level: Count = 2
    """Convolution blocks at each resolution."""
    norm: Literal["instance", "group", "batch", "syncbatch", "none"] = "instance"
    activation: Literal["leakyrelu", "relu", "gelu", "silu"] = "leakyrelu"
    upsample: Literal["transposed", "linear"] = "transposed"
    """Up-sampling in the decoder: transposed convolution, or (tri)linear resize and a 1x1 convolution."""
    residual: bool = False
    dropout: Fraction = 0.0
    deep_supervision: bool = True
    """Train on the coarser maps of the decoder too (weights 1, 1/2, 1/4, ...)."""

    @model_validator(mode="after")
    def one_entry_a_level(self) -> NetworkConfig:
        levels = len(self.widths)
        for key in ("strides", "kernel_sizes"):
            entries = getattr(self, key)
            if entries is None:
                continue
            if len(entries) != levels:
                raise ValueError(f"{key} needs one entry a level: got {len(entries)} for {levels} widths")
            for entry in entries:
                if isinstance(entry, list) and len(entry) != self.spatial_dims:
                    raise ValueError(f"{key}: {entry} must have {self.spatial_dims} numbers (spatial_dims)")
        return self


class LossConfig(Section):
    """Dice + cross-entropy: softmax over classes, or a sigmoid for every region."""

    name: Literal["dice_ce"] = "dice_ce"
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    batch_dice: bool = True
    """Sum the Dice terms over the batch before the ratio: steadier for small structures."""


class AugmentationConfig(Section):
    """Random changes of a training batch; every draw derives from the seed and the number of the sample."""

    enabled: bool = True
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    rotation_probability: Fraction = 0.3
    scale: Range = [0.8, 1.25]
    scale_probability: Fraction = 0.3
    flip_axes: list[Annotated[int, Field(ge=0, le=2)]] = []
    """Spatial axes that may be mirrored; leave out the left-right axis where sides are different classes."""
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    noise_probability: Fraction = 0.15
    blur_sigma_voxels: Range = [0.5, 1.0]
    blur_probability: Fraction = 0.1
    brightness: Range = [0.75, 1.25]
    """Factor on the intensities."""
    brightness_probability: Fraction = 0.15
    contrast: Range = [0.75, 1.25]
    """Factor on the distance from the mean, within the image's own range."""
    contrast_probability: Fraction = 0.15
    gamma: Range = [0.7, 1.5]
    gamma_probability: Fraction = 0.3
    low_resolution_zoom: Range = [0.5, 1.0]
    low_resolution_probability: Fraction = 0.1


class OptimizerConfig(Section):
    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    momentum: Fraction = 0.99
    """Nesterov momentum of `sgd`; AdamW does not use it."""


class ScheduleConfig(Section):
    """learning_rate(progress) = warm-up line, then (1 - progress) ** power; progress is of epochs or of minutes."""

    warmup: Fraction = 0.02
    """Share of the budget in which the learning rate rises to its full value."""
    power: Annotated[float, Field(ge=0)] = 0.9


class TrainingConfig(Section):
    """The budget and everything about the steps."""

    max_epochs: Count = 100
    max_minutes: Positive | None = None
    """Wall-clock minutes of training (validation and start-up come on top); the schedule follows it. When given, it
    ends the run, whatever max_epochs says."""
    iterations_per_epoch: Count | None = None
    """Default: as many as it takes to see every training case once, at least 20."""
    batch_size: Count = 2
    patch_size: Size = [96, 96, 96]
    foreground_probability: Fraction = 0.33
    """Share of patches centred on a voxel of a target, every target alike."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    gradient_clip: Annotated[float, Field(ge=0)] = 12.0
    """Largest norm of the gradient; 0 switches clipping off."""
    weight_average: Fraction = 0.0
    """Decay of an exponential moving average of the weights, used to validate and predict; 0 switches it off."""
    validation_interval: Count = 1
    """Epochs between validations."""
    early_stop_epochs: Count | None = None
    """Stop after so many epochs without a better key metric."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the hardware has it (CUDA with bf16, CPUs with AMX or AVX512-BF16), else float32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load data. Their number never changes a result."""
    compile: bool = False
    """Run the network through torch.compile."""
    deterministic: bool = False
    """On a GPU: only deterministic algorithms (slower). A CPU is deterministic anyway."""


class InferenceConfig(Section):
    """From an image of any size to a mask."""

    patch_size: Size | None = None
    """Sliding window; default: training.patch_size."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    window_batch: Count = 1
    mirror_axes: list[Annotated[int, Field(ge=0, le=2)]] = []
    """Average the predictions of the image mirrored along every combination of these axes (test-time augmentation)."""
    keep_largest_component: list[str] = []
    """Targets of which only the largest connected component is kept."""
    memory_mib: Count = 512
    """Cap on the logits that are resampled to the native grid at once."""


class EvaluationConfig(Section):
    tolerance_mm: Positive = 1.0
    """Tolerance of the surface Dice."""


class Config(Section):
    """One experiment: data, preprocessing, network, loss, augmentation, training, inference, evaluation."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = DataConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def dimensions_agree(self) -> Config:
        dims = self.network.spatial_dims
        sizes = {
            "training.patch_size": self.training.patch_size,
            "inference.patch_size": self.inference.patch_size,
            "preprocessing.spacing_mm": self.preprocessing.spacing_mm,
        }
        for key, value in sizes.items():
            if value is not None and len(value) != dims:
                raise ValueError(f"{key} {value} has {len(value)} numbers, but network.spatial_dims is {dims}")
        for key, axes in {
            "augmentation.flip_axes": self.augmentation.flip_axes,
            "inference.mirror_axes": self.inference.mirror_axes,
        }.items():
            if any(axis >= dims for axis in axes):
                raise ValueError(f"{key} {axes} names an axis that spatial_dims {dims} does not have")
        return self
