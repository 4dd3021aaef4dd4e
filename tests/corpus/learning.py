"""What a training learns, and must not learn: padding, what is ignored; other tools' weights and predictions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from medseg.bundle.components import patches
from medseg.bundle.facts import DataFacts
from medseg.config.load import load_config
from medseg.config.schema import Config
from medseg.core.labels import Labels
from medseg.data.training.encode import LabelEncoder
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.losses.target import IGNORED_CLASS, IGNORED_REGION
from medseg.networks import build_network
from medseg.networks.pretrained import load_pretrained
from medseg.workflows.score import score
from tests.corpus.situation import Subjects, read, refused, without

RANDOM = np.random.default_rng(0)


NO_IGNORED = Labels({"road": 1, "sky": 0, "car": 2}, background=None)
IGNORING = Labels({"sky": 0, "road": 3}, ignore_index=255, also_ignored=(1,), background=None)
MERGED = Labels({"sky": 0, "road": 3}, merged={"road": (255, 254)}, background=None)
REGIONS = Labels({"b": 0, "o": 1, "c": 2}, regions={"whole": (1, 2), "core": (2,)}, region_values=(1, 2))


@cache
def _config() -> Config:
    return load_config("camvid_cpu", ["network.pretrained=null"])


def padded_is_ignored(labels: Labels) -> Callable[[], None]:
    def looked_at() -> None:
        facts = DataFacts("made", labels=labels, channels=("red", "green", "blue"))
        outside = patches(_config(), facts)["outside"]
        assert outside not in (*labels.values, *labels.counts_as)
        target = LabelEncoder(labels)(torch.full((1, 1, 2, 2), outside, dtype=torch.uint8))
        assert (target == (IGNORED_REGION if labels.regions else IGNORED_CLASS)).all()

    return looked_at


@read(__name__)
def padding_of_crops_is_no_class(folder: Path) -> Subjects:
    yield padded_is_ignored(NO_IGNORED)
    yield padded_is_ignored(MERGED)


@read(__name__)
def padding_of_crops_is_what_is_ignored_anyway(folder: Path) -> Subjects:
    yield padded_is_ignored(IGNORING)


@read(__name__)
def padding_of_crops_is_in_no_region(folder: Path) -> Subjects:
    yield padded_is_ignored(REGIONS)


@read(__name__)
def classes_keep_their_places(folder: Path) -> Subjects:
    def looked_at() -> None:
        for labels in (NO_IGNORED, IGNORING, Labels({f"c{n}": n for n in range(256)}, background=None)):
            target = LabelEncoder(labels)(torch.tensor(labels.values, dtype=torch.uint8).view(1, 1, -1, 1))
            assert target.flatten().tolist() == list(range(len(labels.values)))

    yield looked_at


ENCODER = {"encoder": "resnet18", "encoder_options": {"width": 0.125}, "norm": "batch"}


def network(**options: object) -> torch.nn.Module:
    return build_network("unet", spatial_dims=2, in_channels=3, out_channels=3, **{**ENCODER, **options})


def loads(folder: Path, prefix: str, more: Mapping[str, torch.Tensor] | None = None, whole: bool = False) -> Callable:
    def loaded() -> None:
        theirs, mine = network(), network()
        tensors = (theirs if whole else theirs.encoder).state_dict()
        renamed = OrderedDict((f"{prefix}{name}", value) for name, value in tensors.items())
        file = folder / f"{prefix or 'plain'}{whole}.pt"
        torch.save({"state_dict": renamed | dict(more or {}), "epoch": 3}, file)
        load_pretrained(mine, file)
        for name, value in (mine if whole else mine.encoder).state_dict().items():
            assert torch.equal(value, tensors[name]), name

    return loaded


@read(__name__)
def weights_of_a_wrapped_encoder(folder: Path) -> Subjects:
    for prefix in (
        "",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "encoder._orig_mod.",
        "backbone.",
    ):
        yield loads(folder, prefix)


@read(__name__)
def weights_of_a_lightning_module(folder: Path) -> Subjects:
    for prefix in ("model.encoder.", "net._orig_mod.encoder.", "model.module.backbone.", "student.encoder."):
        yield loads(folder, prefix, {"criterion.weight": torch.ones(3), "loss_fn.weight": torch.ones(3)})


@read(__name__)
def weights_of_a_whole_wrapped_network(folder: Path) -> Subjects:
    for prefix in ("", "module.", "_orig_mod.", "model.", "model._orig_mod."):
        yield loads(folder, prefix, whole=True)


@refused(__name__, "does not fit", "elsewhere")
def weights_of_another_network(folder: Path) -> Subjects:
    torch.save({"elsewhere.weight": torch.ones(3), "somewhere.weight": torch.ones(3)}, folder / "a.pt")
    yield lambda: load_pretrained(network(), folder / "a.pt")


@read(__name__)
def frozen_batch_norm(folder: Path) -> Subjects:
    def trained() -> None:
        for encoder in ("resnet18", "efficientnet_lite0", "vgg16", "plain"):
            width = {} if encoder == "plain" else {"width": 0.125}
            options = {"encoder": encoder, "norm": "batch"}
            torch.manual_seed(0)
            frozen = network(**options, encoder_options=width | {"norm": "frozenbatch"}).train()
            free = network(**options, encoder_options=width | {"norm": "batch"}).train()
            assert list(frozen.state_dict()) == list(free.state_dict())
            for made, changes in ((frozen, False), (free, True)):
                before = {name: value.clone() for name, value in made.encoder.state_dict().items()}
                made(torch.randn(2, 3, 64, 64) + 3)
                after = made.encoder.state_dict()
                means = [name for name in before if name.endswith("running_mean")]
                assert means
                assert all(torch.equal(before[name], after[name]) != changes for name in means), (encoder, changes)
            assert any(name.endswith("running_mean") for name, _ in frozen.climbs.named_buffers())
            assert all(module.training for module in frozen.climbs.modules())

    yield trained


@read(__name__)
def focal_loss_of_a_certain_pixel(folder: Path) -> Subjects:
    logits = torch.tensor([[-100.0, 2.0], [100.0, -1.0]]).view(1, 2, 1, 2)
    target = torch.tensor([1, 0]).view(1, 1, 1, 2)

    def learnt() -> None:
        for gamma in (0.0, 0.1, 0.5, 0.9, 1.0, 2.0):
            for regions in (False, True):
                leaf = logits.clone().requires_grad_()
                truth = (target == 1).float().repeat(1, 2, 1, 1) if regions else target
                DiceCrossEntropy(focal_weight=1, focal_gamma=gamma, regions=regions)(leaf, truth).backward()
                assert torch.isfinite(leaf.grad).all()
            leaf = logits.clone().requires_grad_()
            CombinedLoss(cross_entropy_weight=0, focal_weight=1, focal_gamma=gamma)(leaf, target).backward()
            assert torch.isfinite(leaf.grad).all()

    yield learnt


def ade(folder: Path, shift: int, low: int = 1) -> tuple[Path, Path]:
    """Three masks of ADE20K's values and predictions that are right but for the shift and a few pixels."""
    for number in range(3):
        truth = np.kron(RANDOM.integers(low, 120, (4, 5)), np.ones((5, 5))).astype(np.uint8)
        truth[0] = 0
        prediction = np.where(truth > 0, truth.astype(int) + shift, 0).astype(np.uint8)
        prediction[:, 0] = 7
        for name, array in (("truth", truth), ("prediction", prediction)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(array).save(folder / name / f"a{number}.png")
    return folder / "prediction", folder / "truth"


def hints(folder: Path, word: str, shift: int, **options: object) -> Callable[[], None]:
    def scored() -> None:
        report = score(*ade(folder, shift), dataset="ade20k", workers=1, progress=False, **options)
        assert any(word in note for note in report.notes) if word else not report.notes, report.notes

    return scored


@read(__name__)
def predictions_with_zero_label_reduced(folder: Path) -> Subjects:
    yield hints(folder / "low", "--train-ids", -1)
    yield hints(folder / "mended", "", -1, train_ids=True)


@read(__name__)
def predictions_one_too_high(folder: Path) -> Subjects:
    yield hints(folder, "take 1 from them", 1)


@read(__name__)
def right_and_wrong_predictions_give_no_hint(folder: Path) -> Subjects:
    yield hints(folder / "right", "", 0)
    yield hints(folder / "wrong", "", 9)


@refused(__name__, "holds values that are no classes", "take 1 from them")
def values_that_no_class_has(folder: Path) -> Subjects:
    """The failure of the case has the hint."""
    truth = np.kron(np.arange(20).reshape(4, 5) % 11, np.ones((5, 5))).astype(np.uint8)
    for name, array in (("truth", truth), ("prediction", truth + 1)):
        (folder / name).mkdir()
        Pillow.fromarray(array).save(folder / name / "a.png")
    yield lambda: score(folder / "prediction", folder / "truth", dataset="camvid", workers=1, progress=False)


without(__name__, "medseg.core.labels.Labels.beyond", 0)
without(__name__, "medseg.networks.pretrained._unwrapped", lambda tensors, _: tensors)
without(__name__, "medseg.networks.pretrained.COMPILED", "")
without(__name__, "medseg.networks.blocks.layers.FrozenBatchNorm2d", torch.nn.BatchNorm2d)
without(__name__, "medseg.losses.dice_ce.focused", lambda entropy, gamma: (1 - torch.exp(-entropy)) ** gamma * entropy)
without(__name__, "medseg.workflows.score.misread", lambda *_: "")
without(__name__, "medseg.metrics.benchmarks.misread", lambda *_: "")
