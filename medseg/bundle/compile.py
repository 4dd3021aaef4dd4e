"""Config -> bundle: the one place where a pipeline is put together.

Each function returns a bundle's YAML as plain data (its language: `bundle.components`). The ids are MONAI's
conventional ones (`monai/bundle/properties.py`), so `monai.bundle`, MONAI Label and MONAI Deploy find what they need.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.data import DataLoader
from monai.inferers import SimpleInferer
from monai.transforms import Compose

from medseg.bundle import components as parts
from medseg.bundle.components import Component, target
from medseg.bundle.facts import DataFacts
from medseg.config.coding import recode
from medseg.config.schema import Config
from medseg.data.cases.dataset import list_inputs
from medseg.data.training.encode import LabelEncoder
from medseg.data.training.patches import SampleSequence
from medseg.engine import device as hardware
from medseg.engine.average import average_weights
from medseg.engine.budget import Budget, samples_per_epoch
from medseg.engine.cohort import CleanMaskd, CohortReport, SaveMaskd, ScoreMaskd, pending_cases
from medseg.engine.evaluator import CaseDataset, SegmentationEvaluator, case_loader
from medseg.engine.handlers import History, Progress, Validation
from medseg.engine.maps import SaveMapsd
from medseg.engine.resume import BestWeights, Checkpoints
from medseg.engine.tally import TallyMaskd
from medseg.engine.trainer import SegmentationTrainer
from medseg.engine.validation import ValidationDice, ValidationIoU
from medseg.inference.maps import map_names
from medseg.inference.postprocess import LogitsToMaskd

UNLIMITED_EPOCHS = 1_000_000  # a budget in minutes ends the run
RAW_MASKS = "masks_raw"  # of an evaluation whose masks are cleaned: those before


def compile_training(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`train.yaml`: from a data set to `models/model.pt`.

    Args:
        config: the experiment.
        facts: channels and labels of its data.
        bundle_root: folder of the bundle.
    """
    training, validates = config.training, config.data.holds_out
    handlers = [
        target(Validation, validator="@validate#evaluator", interval="@val_interval", epoch_level=True),
        target(History, folder="@bundle_root", validator="@validate#evaluator"),
        target(Progress, description="train"),
        target(
            Checkpoints,
            folder="$@bundle_root + '/models'",
            validator="@validate#evaluator",
            early_stop_epochs=training.early_stop_epochs,
        ),
    ]
    if not validates:
        handlers = [{k: v for k, v in handler.items() if k != "validator"} for handler in handlers[1:]]
    evaluated = "$@average.module" if training.weight_average else "@network"
    content: Component = {
        **parts.common(config, facts, bundle_root),
        "cache_dir": config.data.cache or "$@bundle_root + '/cache'",
        "val_interval": training.validation_interval,
        "network": parts.placed_network(config, checkpoint="$@bundle_root + '/models/checkpoint.pt'"),
        "average": target(average_weights, network="@network", decay=training.weight_average)
        if training.weight_average
        else None,
        "optimizer": parts.optimizer(config),
        "loss": parts.loss(config, facts),
        "budget": target(
            Budget,
            optimizer="@optimizer",
            max_minutes=training.max_minutes,
            warmup=training.schedule.warmup,
            power=training.schedule.power,
            **({"max_iterations": training.max_iterations} if training.max_iterations else {}),
        ),
        "samples_per_epoch": target(
            samples_per_epoch,
            cases="$len(@train#cases)",
            batch_size=training.batch_size,
            iterations=training.iterations_per_epoch,
        ),
        "train": {
            "preprocessing": parts.preprocessing(config, facts),
            "cases": parts.cached(config, "training", "@train#preprocessing"),
            "dataset": parts.patches(config, facts),
            "sampler": target(
                SampleSequence,
                samples_per_epoch="@samples_per_epoch",
                batch_size=training.batch_size,
                rank="$hardware.rank()",
                world_size="$hardware.world_size()",
            ),
            "dataloader": target(
                DataLoader,
                dataset="@train#dataset",
                sampler="@train#sampler",
                batch_size=training.batch_size,
                num_workers=training.workers,
                persistent_workers=training.workers > 0,
                pin_memory="$@device.type == 'cuda'",
            ),
            "inferer": parts.coloured(config, target(SimpleInferer)),
            "augment": parts.augment(config),
            "handlers": handlers,
            "trainer": target(
                SegmentationTrainer,
                device="@device",
                max_epochs=UNLIMITED_EPOCHS if training.max_minutes or training.max_iterations else training.max_epochs,
                train_data_loader="@train#dataloader",
                network="@network",
                optimizer="@optimizer",
                loss_function="@loss",
                encode=target(LabelEncoder, labels="@labels"),
                inferer="@train#inferer",
                budget="@budget",
                augment="@train#augment",
                average="@average",
                precision=training.precision,
                gradient_clip=training.gradient_clip,
                seed=config.seed,
                compile=training.compile,
                train_handlers="@train#handlers",
            ),
        },
        "initialize": [
            f"$hardware.prepare(@seed, {training.deterministic})",
            "$hardware.first_process_first(@train#cases.fill)",
        ],
        "run": ["$@train#trainer.run()"],
    }
    if validates:
        content["validate"] = {
            "preprocessing": "@train#preprocessing",
            "dataset": parts.cached(config, "validation", "@validate#preprocessing"),
            "dataloader": target(case_loader, dataset="@validate#dataset"),
            "inferer": parts.inferer(config),
            "key_metric": {"mean_dice": target(ValidationDice, labels="@labels")}
            if facts.convention == "medical"
            else {"mean_iou": target(ValidationIoU, labels="@labels")},
            "evaluator": target(
                SegmentationEvaluator,
                device="@device",
                val_data_loader="@validate#dataloader",
                network=evaluated,
                inferer="@validate#inferer",
                precision=training.precision,
                key_val_metric="@validate#key_metric",
            ),
        }
        content["initialize"].append("$hardware.first_process_first(@validate#dataset.fill)")
    return content


def compile_evaluation(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`evaluate.yaml`: masks and scores of labelled cases, by default those that training did not see."""
    cases = parts.cases(config, "validation" if config.data.holds_out else "all")
    if facts.convention == "medical":
        lesions = {"lesions": config.evaluation.lesions} if config.evaluation.lesions else {}
        steps = [target(ScoreMaskd, labels="@labels", tolerance_mm=config.evaluation.tolerance_mm, **lesions)]
    else:
        steps = [target(TallyMaskd, benchmark="@benchmark")]
    return _prediction(config, facts, bundle_root, cases, "eval", steps)


def compile_inference(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`inference.yaml`: masks of the images in `dataset_dir` (a file, a folder, or a data set)."""
    inputs = target(list_inputs, path="@dataset_dir", channels=len(facts.channels))
    pairs = [list(pair) for pair in recode(facts.labels, config.inference.coding).items()]
    wishes: Component = {"probabilities": False, "uncertainty": False}
    asked = {name: f"@{name}" for name in wishes}
    cases = target(pending_cases, cases=inputs, output_dir="@output_dir", overwrite="@overwrite", maps="@maps")
    maps = target(
        SaveMapsd,
        output_dir="@output_dir",
        labels="@labels",
        names="@maps",
        **asked,
        memory_mib=config.inference.memory_mib,
    )
    return {
        "overwrite": True,
        "recode": pairs,
        **wishes,
        "maps": target(map_names, labels="@labels", **asked, members=1),
        **_prediction(config, facts, bundle_root, cases, "predictions", [], [maps]),
    }


def _prediction(
    config: Config,
    facts: DataFacts,
    bundle_root: str,
    cases: Component,
    output: str,
    steps: list[Component],
    maps: Sequence[Component] = (),
) -> Component:
    """What evaluation and inference share: cases through the network to masks on their native grid.

    Args:
        steps: after the mask is saved.
        maps: steps between the logits and the mask, which change neither.
    """
    pooled = {"benchmark": "@benchmark"} if steps and facts.convention != "medical" else {}
    masks = "@output_dir" if output == "predictions" else "$@output_dir + '/masks'"
    recoding = {"recode": "@recode"} if output == "predictions" else {}
    return {
        **parts.common(config, facts, bundle_root),
        "output_dir": f"$@bundle_root + '/{output}'",
        **({"benchmark": parts.benchmark(config, facts)} if pooled else {}),
        "network": parts.placed_network(config),
        "preprocessing": parts.preprocessing(config, facts),
        "dataset": target(CaseDataset, data=target(hardware.shard, cases=cases), transform="@preprocessing"),
        "dataloader": target(case_loader, dataset="@dataset", workers=config.training.workers),
        "inferer": parts.inferer(config),
        "postprocessing": target(
            Compose,
            transforms=[
                *parts.refinement(config, facts.channels),
                *maps,
                target(
                    LogitsToMaskd,
                    keys="pred",
                    labels="@labels",
                    memory_mib=config.inference.memory_mib,
                ),
                *_cleaning(config, keeps_raw=bool(steps)),
                target(SaveMaskd, output_dir=masks, labels="@labels", model=_model(config), **recoding),
                *steps,
            ],
        ),
        "handlers": [
            target(BestWeights, path="$@bundle_root + '/models/model.pt'"),
            target(CohortReport, output_dir="@output_dir", scored=bool(steps), **pooled, **_cleaned(config)),
            target(Progress, description=output),
        ],
        "evaluator": target(
            SegmentationEvaluator,
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            precision=config.training.precision,
            postprocessing="@postprocessing",
            val_handlers="@handlers",
        ),
        "initialize": ["$hardware.prepare(@seed)"],
        "run": ["$@evaluator.run()"],
    }


def _model(config: Config) -> dict[str, str]:
    """What made a mask, for its sidecar."""
    crf = config.inference.crf
    return {"name": config.name} | ({} if crf is None else {"crf": crf.parameters})


def _cleaning(config: Config, *, keeps_raw: bool) -> list[Component]:
    """The steps on the finished mask, if any; `keeps_raw`: the mask before them is saved too, to choose them anew."""
    if not config.inference.cleaning:
        return []
    raw = f"$@output_dir + '/{RAW_MASKS}'"
    before = target(SaveMaskd, output_dir=raw, labels="@labels", model=_model(config))
    clean = target(CleanMaskd, labels="@labels", steps=config.inference.cleaning)
    return [before, clean] if keeps_raw else [clean]


def _cleaned(config: Config) -> Component:
    return {"postprocessing": config.inference.cleaning} if config.inference.cleaning else {}
