"""Runs, masks, scores and names of weights as medseg made them at an older commit, made anew by that commit's own code.

    python tests/older/make_runs.py FOLDER [COMMIT]

`make` lays the commit's files out in a temporary folder and runs this file there, in a process of its own, whose medseg
is that commit's. What it leaves in FOLDER is what `test_older_runs.py` holds today's medseg to:

    data/     two small data sets of volumes and slices, one of pictures
    runs/     regions, folds/fold_{0,1}, auxiliary, pictures: trained for an epoch
    masks/    what `medseg predict` made of them, by the names in `PREDICTED`
    weights.json   network, in the form of `SMALL` or its default, and dimensions -> count and digest of the state dict
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "150974b1a386bd529b128fc78e6f00029e817a86"  # the last one before the tree of today
FILES = ("medseg", "configs", "datasets", "tests")

# What is predicted: the name of a folder in masks/ -> runs, data set.
PREDICTED: dict[str, tuple[tuple[str, ...], str]] = {
    "regions": (("regions",), "data/volumes/imagesTs"),
    "fold": (("folds/fold_0",), "data/volumes/imagesTs"),
    "folds": (("folds",), "data/volumes/imagesTs"),
    "two": (("folds/fold_0", "folds/fold_1"), "data/volumes/imagesTs"),
    "auxiliary": (("auxiliary",), "data/slices/imagesTs"),
    "pictures": (("pictures",), "data/pictures/images/test"),
}
LEARNT = {  # enough for masks that are not empty
    "training.batch_size": "2",
    "training.max_epochs": "1",
    "training.iterations_per_epoch": "30",
    "training.optimizer.learning_rate": "0.01",
    "training.precision": "float32",  # sums in another order move a bfloat16 far enough to change a mask
}
VOLUMES = LEARNT | {
    "network.widths": "[4, 8, 8]",
    "training.patch_size": "[16, 16, 16]",
    "inference.mirror_axes": "[0]",
}
SETTINGS: dict[str, dict[str, str]] = {
    "regions": VOLUMES
    | {
        "data.root": "data/volumes",
        "data.validation": "0.25",
        "data.regions": "{whole: [1, 2], core: [2]}",
        "data.region_values": "[1, 2]",
        "network.deep_supervision": "true",
        "training.weight_average": "0.5",
        "inference.keep_largest_component": "[core]",
        "inference.minimum_volume_ml": "{whole: 0.01}",
    },
    "folds": VOLUMES
    | {
        "data.root": "data/volumes",
        "data.folds": "2",
        "training.iterations_per_epoch": "60",
        "evaluation.lesions": "[lesion]",
    },
    "auxiliary": LEARNT
    | {
        "data.root": "data/slices",
        "data.validation": "0.25",
        "network.name": "deeplabv3plus",
        "network.spatial_dims": "2",
        "network.encoder": "resnet18",
        "network.encoder_options": "{width: 0.125}",
        "network.width": "8",
        "network.norm": "instance",
        "network.auxiliary": "true",
        "training.patch_size": "[32, 32]",
        "inference.crf": "{parameters: deeplabv2, image_std: 20.0, iterations: 2}",
    },
    "pictures": LEARNT
    | {
        "data.root": "data/pictures",
        "data.classes": "{road: 3, car: 7, sky: 0}",
        "data.ignore_index": "255",
        "preprocessing.normalization": "imagenet",
        "network.name": "fpn",
        "network.spatial_dims": "2",
        "network.encoder": "resnet18",
        "network.encoder_options": "{width: 0.25, stem: deep}",
        "network.pyramid_channels": "8",
        "network.segmentation_channels": "8",
        "network.context": "[1, 2]",
        "network.norm": "instance",
        "loss.name": "combined",
        "loss.lovasz_weight": "1",
        "loss.class_weights": "median_frequency",
        "augmentation.crop_scale": "[0.5, 2.0]",
        "augmentation.photometric": "{}",
        "augmentation.flip_axes": "[1]",
        "training.patch_size": "[32, 32]",
        "inference.whole_image": "true",
        "inference.scales": "[1, 1.5]",
        "inference.mirror_axes": "[1]",
        "evaluation.convention": "voc",
    },
}
DECISION = {"minimum_total_ml": {"lesion": 1000.0}, "fill_holes": ["organ"]}  # planted, as if the folds had shown it

RESNET = {"encoder": "resnet18", "encoder_options": {"width": 0.125}}
VGG = {"encoder": "vgg16", "encoder_options": {"width": 0.125}, "fc_channels": 8}
SMALL: dict[str, dict[str, Any]] = {  # "name" or "name, in what form" -> the keys of the config's section `network`
    "attentionunet": {"widths": [4, 8, 8]},
    "deeplabv1": VGG,
    "deeplabv1_msc": {**VGG, "branch_width": 4},
    "deeplabv2": {**RESNET, "scales": [0.5]},
    "deeplabv3": {**RESNET, "width": 16, "auxiliary": True},
    "deeplabv3plus": {**RESNET, "width": 16, "separable": True, "auxiliary": True},
    "dynunet": {"widths": [4, 8, 8], "deep_supervision": True},
    "efficientfcn": {**RESNET, "width": 16, "wide": 32, "codewords": 8},
    "encnet": {**RESNET, "channels": 16, "codes": 4, "auxiliary": True},
    "fcn": RESNET,
    "fcn16s": VGG,
    "fcn32s": {**VGG, "encoder": "alexnet"},
    "fcn8s": VGG,
    "fpn": {**RESNET, "pyramid_channels": 16, "segmentation_channels": 16, "context": [1, 3], "smoothing": True},
    "hrnet": {"encoder": "hrnet_w18s", "encoder_options": {"width": 4, "stem_width": 8}},
    "pspnet": {**RESNET, "width": 16, "auxiliary": True},
    "segresnet": {"blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "swinunetr": {"width": 12, "window_size": 4, "depths": [1, 1, 1, 1]},
    "unet": {"widths": [4, 8, 8], "deep_supervision": True},
    "unet, residual and pooled": {"widths": [4, 8], "downsample": "pool", "upsample": "linear", "residual": True},
    "unet, on resnet18": {**RESNET, "widths": [4, 4, 8, 8, 8]},
    **{f"{name}, group norm": {**RESNET, "norm": "group"} for name in ("fcn", "fpn", "pspnet", "unet")},
    **{
        f"fpn, on {encoder}": {"encoder": encoder}
        for encoder in ("efficientnet_lite0", "resnet34", "resnet50", "resnet101", "vgg16_bn")
    },
    **{f"hrnet, on {encoder}": {"encoder": encoder} for encoder in ("hrnet_w18", "hrnet_w32", "hrnet_w48")},
}
READS_VALUES = {"swinunetr"}  # of a tensor, while it is built
DEFAULT = tuple(name for name in SMALL if "," not in name)


def make(folder: Path, commit: str = COMMIT) -> None:
    """Fill a folder with what the commit's medseg makes.

    Raises:
        LookupError: this is no checkout, or its history does not reach back to the commit.
        subprocess.CalledProcessError: the commit's code failed; its output has been printed.
    """
    try:
        archive = subprocess.run(["git", "archive", commit, *FILES], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LookupError(f"no commit {commit[:7]} in the history of {ROOT}: git fetch --unshallow") from error
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary).resolve()
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
        environment = os.environ | {
            "PYTHONPATH": str(tree),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),  # sums are split among threads
        }
        command = [sys.executable, __file__, "--inside", str(tree), str(folder.resolve())]
        subprocess.run(command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, check=True)


def medseg(*arguments: str | Path) -> None:
    """The command `medseg ARGUMENTS` in this process.

    Raises:
        RuntimeError: it ended with another exit code than 0.
    """
    from medseg.cli import main

    before, sys.argv = sys.argv, ["medseg", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"medseg {' '.join(map(str, arguments))}: exit code {stop.code}") from None
    finally:
        sys.argv = before


def weights(build: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Names and shapes of the weights of every network, small and by default: count and digest of both, sorted.

    Args:
        build: `build_network` of medseg.networks.
    """
    import torch

    found = {}
    forms = [*SMALL.items(), *((f"{name}, by default", {}) for name in DEFAULT)]
    for form, options in forms:
        for spatial_dims in (2, 3):
            name = form.split(",")[0]
            with torch.device("cpu" if name in READS_VALUES else "meta"):  # meta: shapes without memory
                network = build(name, spatial_dims=spatial_dims, in_channels=2, out_channels=3, **options)
            names = sorted(f"{name} {tuple(value.shape)}" for name, value in network.state_dict().items())
            digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
            found[f"{form}, {spatial_dims}D"] = {"count": len(names), "digest": digest}
    return found


def inside(tree: Path, folder: Path) -> None:
    """All of it, by the medseg of `tree`, which this process has as its own."""
    from medseg.workflows.decision import SCHEMA, Decision, PostprocessConfig

    import medseg as package
    from medseg.networks import build_network
    from tests.conftest import write_msd
    from tests.pictures import write_pairs

    assert Path(package.__file__).is_relative_to(tree), f"not the commit's: {package.__file__}"
    data, runs = folder / "data", folder / "runs"
    runs.mkdir(parents=True)
    write_msd(data / "volumes", cases=4, unlabelled=2)
    write_msd(data / "slices", cases=4, shape=(40, 36), spacing_mm=(1.0, 1.0, 1.0), unlabelled=2)
    write_pairs(data / "pictures", test=2)
    for name, settings in SETTINGS.items():
        config = folder / f"{name}.yaml"
        config.write_text(f"name: {name}\n")
        values = settings | {"data.root": str(folder / settings["data.root"])}
        overrides = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        folds = ["--fold", "all"] if name == "folds" else []
        medseg("train", "--config", config, "--run", runs / name, *folds, *overrides)
    decision = Decision(**{"schema": SCHEMA, "steps": PostprocessConfig(**DECISION)})
    for run in (runs / "folds", *(runs / "folds").glob("fold_*")):
        decision.write(run)
    medseg("evaluate", "--run", runs / "folds")
    for name, (predicted, source) in PREDICTED.items():
        given = [word for run in predicted for word in ("--run", runs / run)]
        arguments = ["predict", *given, "--input", folder / source]
        medseg(*arguments, "--output", folder / "masks" / name)
        if name == "fold":
            medseg(*arguments, "--no-postprocess", "--output", folder / "masks" / "fold, not cleaned")
    (folder / "weights.json").write_text(json.dumps(weights(build_network), indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--inside", tree, folder]:
            inside(Path(tree), Path(folder))
        case [folder] | [folder, _] if not Path(folder).exists():
            make(Path(folder), *sys.argv[2:])
        case _:
            sys.exit(__doc__)
