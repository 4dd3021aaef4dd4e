"""Config -> bundle: the one place where a pipeline is put together.

Each function returns a bundle's YAML as plain data (its language: `bundle.language`). The ids are MONAI's
conventional ones (`monai/bundle/properties.py`), so `monai.bundle`, MONAI Label and MONAI Deploy find what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from monai.data import DataLoader
from monai.inferers import SimpleInferer
from monai.transforms import Compose

from medseg.bundle import components as parts
from medseg.bundle.facts import DataFacts
from medseg.bundle.language import Code, Component, target
from medseg.bundle.preprocessing import preprocessing
from medseg.config.coding import recode
from medseg.config.finder import FINDER
from medseg.config.schema import Config
from medseg.config.stages import QUICK_OVERLAP, second_stage
from medseg.data.cases.dataset import list_inputs
from medseg.data.training.encode import LabelEncoder
from medseg.data.writers import OWN
from medseg.engine import device as hardware
from medseg.engine.allowance import Allowance
from medseg.engine.average import average_weights
from medseg.engine.budget import Budget, samples_per_epoch
from medseg.engine.cohort import CleanMaskd, CohortReport, SaveMaskd, ScoreMaskd
from medseg.engine.evaluator import CaseDataset, SegmentationEvaluator, case_loader
from medseg.engine.handlers import History, Progress, Validation
from medseg.engine.maps import SaveMapsd
from medseg.engine.outputs import FORMATS, pending_cases
from medseg.engine.resume import MODEL, BestWeights, Checkpoints
from medseg.engine.tally import TallyMaskd
from medseg.engine.trainer import SegmentationTrainer
from medseg.engine.validation import ValidationDice, ValidationIoU
from medseg.inference.maps import map_names
from medseg.inference.postprocess import LogitsToMaskd

UNLIMITED_EPOCHS = 1_000_000  # a budget in minutes ends the run
FOUND_BY = Code(f"$@bundle_root + '/{FINDER}/models/{MODEL}'")
RAW_MASKS = "masks_raw"  # of an evaluation whose masks are cleaned: those before


Kind = Literal["train", "evaluate", "inference"]


def compiled(kind: Kind, config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """What is run, in memory: the content of `configs/KIND.yaml` of a bundle in the folder `bundle_root`."""
    compilers: dict[Kind, Callable[..., Component]] = {
        "train": compile_training,
        "evaluate": compile_evaluation,
        "inference": compile_inference,
    }
    return compilers[kind](config, facts=facts, bundle_root=bundle_root)


def compile_training(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`train.yaml`: from a data set to `models/model.pt`.

    Args:
        config: the experiment.
        facts: channels and labels of its data.
        bundle_root: folder of the bundle.
    """
    config = second_stage(config)
    training, validates = config.training, config.data.holds_out
    limits = {"allowance": Code("@allowance")} if validates and training.max_minutes is not None else {}
    handlers = [
        target(
            Validation,
            validator=Code("@validate#evaluator"),
            interval=Code("@val_interval"),
            epoch_level=True,
            **limits,
        ),
        target(History, folder=Code("@bundle_root"), validator=Code("@validate#evaluator")),
        target(Progress, description="train"),
        target(
            Checkpoints,
            folder=Code("$@bundle_root + '/models'"),
            validator=Code("@validate#evaluator"),
            early_stop_epochs=training.early_stop_epochs,
        ),
    ]
    if not validates:
        handlers = [{k: v for k, v in handler.items() if k != "validator"} for handler in handlers[1:]]
    evaluated = Code("$@average.module") if training.weight_average else Code("@network")
    judged = facts if config.finder is None else None  # of two stages the first one has said what there is to say
    common = parts.common(config, facts, bundle_root)
    content: Component = {
        **common,
        "imports": [*common["imports"], Code("$import medseg.engine.filling as filling")],
        **parts.labelled(config, keep=True),
        "cache_dir": config.data.cache or Code("$@bundle_root + '/cache'"),
        "val_interval": training.validation_interval,
        "network": parts.placed_network(config, checkpoint=Code("$@bundle_root + '/models/checkpoint.pt'")),
        "average": target(average_weights, network=Code("@network"), decay=training.weight_average)
        if training.weight_average
        else None,
        "optimizer": parts.optimizer(config),
        "loss": parts.loss(config, facts),
        "budget": target(
            Budget,
            optimizer=Code("@optimizer"),
            max_minutes=training.max_minutes,
            warmup=training.schedule.warmup,
            power=training.schedule.power,
            **({"max_iterations": training.max_iterations} if training.max_iterations else {}),
            **limits,
        ),
        "samples_per_epoch": target(
            samples_per_epoch,
            cases=Code("$len(@train#cases)"),
            batch_size=training.batch_size,
            iterations=training.iterations_per_epoch,
        ),
        "train": {
            "preprocessing": preprocessing(config, facts),
            "cases": parts.cached("training", Code("@train#preprocessing"), judged),
            "dataset": parts.patches(config, facts),
            "sampler": parts.sampler(config),
            "dataloader": target(
                DataLoader,
                dataset=Code("@train#dataset"),
                sampler=Code("@train#sampler"),
                batch_size=training.batch_size,
                num_workers=training.workers,
                persistent_workers=training.workers > 0,
                pin_memory=Code("$@device.type == 'cuda'"),
            ),
            "inferer": parts.coloured(config, target(SimpleInferer)),
            "augment": parts.augment(config),
            "handlers": handlers,
            "trainer": target(
                SegmentationTrainer,
                device=Code("@device"),
                max_epochs=UNLIMITED_EPOCHS if training.max_minutes or training.max_iterations else training.max_epochs,
                train_data_loader=Code("@train#dataloader"),
                network=Code("@network"),
                optimizer=Code("@optimizer"),
                loss_function=Code("@loss"),
                encode=target(LabelEncoder, labels=Code("@labels")),
                inferer=Code("@train#inferer"),
                budget=Code("@budget"),
                augment=Code("@train#augment"),
                average=Code("@average"),
                precision=training.precision,
                gradient_clip=training.gradient_clip,
                seed=config.seed,
                compile=training.compile,
                train_handlers=Code("@train#handlers"),
            ),
        },
        "initialize": [
            parts.reading(config),
            Code(f"$hardware.prepare(@seed, {training.deterministic})"),
            Code("$filling.fill_caches(@bundle_root, @train#cases, @validate#dataset)")
            if validates
            else Code("$filling.fill_caches(@bundle_root, @train#cases)"),
        ],
        "run": [Code("$@train#trainer.run()")],
    }
    if validates:
        content["validate"] = {
            "preprocessing": Code("@train#preprocessing")
            if config.finder is None
            else preprocessing(config, facts, finder=FOUND_BY),
            "dataset": parts.cached("validation", Code("@validate#preprocessing"), judged),
            "dataloader": target(case_loader, dataset=Code("@validate#dataset")),
            "inferer": parts.inferer(_quick(config) if limits else config),
            "key_metric": {"mean_dice": target(ValidationDice, labels=Code("@labels"))}
            if facts.convention == "medical"
            else {"mean_iou": target(ValidationIoU, labels=Code("@labels"))},
            "evaluator": target(
                SegmentationEvaluator,
                device=Code("@device"),
                val_data_loader=Code("@validate#dataloader"),
                network=evaluated,
                inferer=Code("@validate#inferer"),
                precision=training.precision,
                key_val_metric=Code("@validate#key_metric"),
            ),
        }
    if limits:
        content["allowance"] = target(Allowance, max_minutes=training.max_minutes)
        content["validate"]["sampler"] = parts.spread_out(config)
        content["validate"]["dataloader"]["sampler"] = Code("@validate#sampler")
        content["validate"]["evaluator"]["val_handlers"] = [Code("@allowance")]
    return content


def compile_evaluation(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`evaluate.yaml`: masks and scores of labelled cases, by default those that training did not see."""
    cases: Component = {
        **parts.labelled(config),
        "cases": Code("$@split.cases(@data, @split.scored)"),
        "kept": [],  # pairs (case, file of its mask) that need no prediction
        "origin": None,  # what makes the masks, where they may be taken again
    }
    if facts.convention == "medical":
        lesions = {"lesions": config.evaluation.lesions} if config.evaluation.lesions else {}
        score = target(ScoreMaskd, labels=Code("@labels"), tolerance_mm=config.evaluation.tolerance_mm, **lesions)
    else:
        cases["benchmark"] = parts.benchmark(config, facts)
        score = target(TallyMaskd, benchmark=Code("@benchmark"))
    raw, clean = _cleaning(config, facts)
    made = _made(config, facts)
    saved = target(
        SaveMaskd, output_dir=Code("$@output_dir + '/masks'"), labels=Code("@labels"), **made, origin=Code("@origin")
    )
    steps = {"raw": raw, "clean": clean, "save": saved, "score": score}  # raw: to choose the cleaning anew
    pooled = {"benchmark": Code("@benchmark")} if "benchmark" in cases else {}
    cohort = target(CohortReport, output_dir=Code("@output_dir"), scored=True, **pooled, **_cleaned(config))
    content = _prediction(config, facts, bundle_root, cases, steps, cohort, "eval")
    finishing = [Code(f"@steps#{name}") for name in content["steps"] if name in FINISHING]
    content["dataset"] |= {"kept": Code("@kept"), "labels": Code("@labels")}
    content["evaluator"]["finishing"] = Code("@finishing")
    return {**content, "finishing": target(Compose, transforms=finishing)}


def compile_inference(config: Config, *, facts: DataFacts, bundle_root: str) -> Component:
    """`inference.yaml`: masks of the images in `dataset_dir` (a file, a folder, or a data set)."""
    wishes: Component = {"probabilities": False, "uncertainty": False}
    asked = {name: Code(f"@{name}") for name in wishes}
    there = {name: Code(f"@{name}") for name in ("output_dir", "overwrite", "maps", "formats")}
    named = {"named" if config.training.lacks_channels else "names": list(facts.channels)}
    cases: Component = {
        "overwrite": True,
        "formats": list(FORMATS),
        "recode": [list(pair) for pair in recode(facts.labels, config.inference.coding).items()],
        **wishes,
        "maps": target(map_names, labels=Code("@labels"), **asked, members=1),
        "inputs": target(list_inputs, path=Code("@dataset_dir"), channels=len(facts.channels), **named),
        "origin": None,  # who makes the masks, where those by others are no masks of this
        "cases": target(pending_cases, cases=Code("@inputs"), **there, maker=Code("@origin")),
    }
    place: Component = {"output_dir": Code("@output_dir"), "labels": Code("@labels")}
    maps = target(SaveMapsd, **place, names=Code("@maps"), **asked, memory_mib=config.inference.memory_mib)
    _, clean = _cleaning(config, facts)
    written: Component = {"recode": Code("@recode"), "formats": Code("@formats"), "origin": Code("@origin")}
    kinds = {"kinds": list(facts.kinds)} if any(facts.kinds) else {}
    saved = target(SaveMaskd, **place, **_made(config, facts), **kinds, **written)
    own = Code(f"$@output_dir + '/{OWN}'")
    cohort = target(CohortReport, output_dir=own, scored=False, **_cleaned(config))
    steps = {"maps": maps, "clean": clean, "save": saved}
    return _prediction(config, facts, bundle_root, cases, steps, cohort, "predictions")


ORDER = ("refine", "maps", "mask", "raw", "clean", "save", "score")
"""From the logits of a case to its files; the steps stand in the bundle by these names."""
FINISHING = ORDER[ORDER.index("mask") + 1 :]
"""What follows the mask as the network made it."""


def _prediction(
    config: Config,
    facts: DataFacts,
    bundle_root: str,
    cases: Component,
    steps: Mapping[str, Component | None],
    cohort: Component,
    output: str,
) -> Component:
    """What evaluation and inference share: cases through the network to masks on their native grid.

    Args:
        cases: the component `cases`, and what it needs.
        steps: of `ORDER`, those that the two do not share.
        cohort: the handler that collects what all cases gave.
        output: folder of the results in the bundle.
    """
    mask = target(LogitsToMaskd, keys="pred", labels=Code("@labels"), memory_mib=config.inference.memory_mib)
    every = {**steps, "refine": parts.refinement(config, facts.channels), "mask": mask}
    there = {name: step for name in ORDER if (step := every.get(name)) is not None}
    return {
        **parts.common(config, facts, bundle_root),
        "output_dir": Code(f"$@bundle_root + '/{output}'"),
        **cases,
        "network": parts.placed_network(config),
        "preprocessing": preprocessing(config, facts, finder=FOUND_BY),
        "dataset": target(
            CaseDataset, data=target(hardware.shard, cases=Code("@cases")), transform=Code("@preprocessing")
        ),
        # a finder computes in this process: one that was forked could not use a GPU
        "dataloader": target(
            case_loader, dataset=Code("@dataset"), workers=config.training.workers if config.finder is None else 0
        ),
        "inferer": parts.inferer(config),
        "steps": there,
        "postprocessing": target(Compose, transforms=[Code(f"@steps#{name}") for name in there]),
        "weights": target(BestWeights, path=Code("$@bundle_root + '/models/model.pt'")),
        "cohort": cohort,
        "handlers": [Code("@weights"), Code("@cohort"), target(Progress, description=output)],
        "evaluator": target(
            SegmentationEvaluator,
            device=Code("@device"),
            val_data_loader=Code("@dataloader"),
            network=Code("@network"),
            inferer=Code("@inferer"),
            precision=config.training.precision,
            postprocessing=Code("@postprocessing"),
            val_handlers=Code("@handlers"),
        ),
        "initialize": [parts.reading(config), Code("$hardware.prepare(@seed)")],
        "run": [Code("$@evaluator.run()")],
    }


def _quick(config: Config) -> Config:
    """What validation predicts by where its time is limited: no test-time augmentation, windows that overlap less."""
    overlap = min(config.inference.overlap, QUICK_OVERLAP)
    quick = config.inference.model_copy(update={"mirror_axes": [], "scales": [1.0], "overlap": overlap})
    return config.model_copy(update={"inference": quick})


def _made(config: Config, facts: DataFacts) -> Component:
    """What made a mask, for its sidecar; and what channels may have been missing, where some may."""
    crf = config.inference.crf
    model = {"name": config.name} | ({} if crf is None else {"crf": crf.parameters})
    return {"model": model} | ({"channels": list(facts.channels)} if config.training.lacks_channels else {})


def _cleaning(config: Config, facts: DataFacts) -> tuple[Component, Component] | tuple[None, None]:
    """The step that saves the finished mask as it is, and the one that cleans it, if any is asked for."""
    if not config.inference.cleaning:
        return None, None
    raw = Code(f"$@output_dir + '/{RAW_MASKS}'")
    before = target(SaveMaskd, output_dir=raw, labels=Code("@labels"), **_made(config, facts), origin=Code("@origin"))
    return before, target(CleanMaskd, labels=Code("@labels"), steps=config.inference.cleaning)


def _cleaned(config: Config) -> Component:
    return {"postprocessing": config.inference.cleaning} if config.inference.cleaning else {}
