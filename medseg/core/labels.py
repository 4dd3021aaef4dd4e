"""What the integers of a label mean, and what the channels of a network's output mean: pure data, no torch.

A label is a map of integers. Its *classes* exclude one another (softmax over background and classes); its *regions* are
unions of classes and may overlap (one sigmoid each), as whole tumour / tumour core / enhancing tumour in BraTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from medseg.core.errors import ConfigError, DataError, Problem, did_you_mean
from medseg.core.plain import refusal


@dataclass(frozen=True)
class Labels:
    """Names and values of a label map.

    Args:
        classes: name -> integer value in the label file; a background included, first.
        regions: name -> values of the label file that belong to it; empty where classes are exclusive.
        region_values: for each region, in order, the value written into a mask; later ones overwrite earlier ones
            (nnU-Net's `regions_class_order`).
        ignore_index: value of voxels that count nowhere (neither in a loss nor in a metric), or None.
        also_ignored: further values that count nowhere (Cityscapes has 15 labels that are not evaluated).
        background: value of the class that is not scored; None where every class is (a natural image has no such class,
            and VOC scores its background like any other).
        merged: name of a class -> further values of the label file that count as it.
        colours: name of a class or region -> (red, green, blue), 0 to 255.
        recoded: value of the label file -> value here, where files hold other values for the same classes (those of
            another data set).
        undeclared: values that mean something here, but nothing in the label files of another data set.

    Raises:
        DataError: a name would be code in a MONAI bundle (a `dataset.json` comes from anywhere).
    """

    classes: Mapping[str, int]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    region_values: tuple[int, ...] = ()
    ignore_index: int | None = None
    also_ignored: tuple[int, ...] = ()
    background: int | None = 0
    merged: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    recoded: Mapping[int, int] = field(default_factory=dict)
    undeclared: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        reasons = [reason for name in (*self.classes, *self.regions, *self.merged) if (reason := refusal(name))]
        if reasons:
            raise DataError([Problem("label names", reason, "rename the label") for reason in reasons])

    def to_plain(self) -> dict[str, Any]:
        """As dicts, lists, numbers and None, for JSON and YAML; the keys are the arguments."""
        recoded = {"recoded": dict(self.recoded)} if self.recoded else {}
        undeclared = {"undeclared": list(self.undeclared)} if self.undeclared else {}
        return {
            **recoded,
            **undeclared,
            "classes": dict(self.classes),
            "regions": {name: list(values) for name, values in self.regions.items()},
            "region_values": list(self.region_values),
            "ignore_index": self.ignore_index,
            "also_ignored": list(self.also_ignored),
            "background": self.background,
            "merged": {name: list(values) for name, values in self.merged.items()},
            "colours": {name: list(colour) for name, colour in self.colours.items()},
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Labels:
        """The inverse of `to_plain`. What an older version did not write has its default.

        Raises:
            DataError: the content has no classes, or a key that means nothing here.
        """
        if unknown := sorted(set(content) - {one.name for one in fields(cls)}):
            what = f"have the unknown {'key' if len(unknown) == 1 else 'keys'} {', '.join(unknown)}"
            raise DataError(Problem("the labels", what, "written by a newer medseg? Then update this one"))
        if "classes" not in content:
            raise DataError(Problem("the labels", "have no classes", "expected {'classes': {name: value, ...}, ...}"))
        tuples: dict[str, Any] = {
            name: {key: tuple(values) for key, values in content[name].items()}
            for name in ("regions", "merged", "colours")
            if name in content
        }
        if "recoded" in content:
            tuples["recoded"] = {int(value): own for value, own in content["recoded"].items()}
        lists = {
            name: tuple(content[name]) for name in ("region_values", "also_ignored", "undeclared") if name in content
        }
        return cls(**{**content, **tuples, **lists})

    @property
    def values(self) -> tuple[int, ...]:
        """The value of every class in the label file, background first: channel k of a softmax means `values[k]`."""
        return tuple(self.classes.values())

    @property
    def counts_as(self) -> dict[int, int]:
        """Value of the label file -> value of the class that it counts as, where that is another one."""
        merged = {value: self.classes[name] for name, values in self.merged.items() for value in values}
        return merged | {value: merged.get(own, own) for value, own in self.recoded.items()}

    @property
    def ignored(self) -> tuple[int, ...]:
        """Every value whose voxels count nowhere."""
        return self.also_ignored if self.ignore_index is None else (self.ignore_index, *self.also_ignored)

    @property
    def beyond(self) -> int:
        """The value of a label around its image, which is no class's: an ignored one, or else the largest of those that
        mean nothing; where all 256 are classes, that of the first."""
        if self.ignored:
            return self.ignored[0]
        taken = {*self.values, *self.counts_as, *(value for values in self.regions.values() for value in values)}
        return next((value for value in range(255, -1, -1) if value not in taken), self.values[0])

    @property
    def known(self) -> tuple[int, ...]:
        """Every value that a label may hold, in order, after `counts_as`; any other means nothing."""
        return tuple(sorted({*self.values, *self.ignored, *(v for region in self.regions.values() for v in region)}))

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What is scored: name -> label values, one entry a region, or a class (without the background)."""
        if self.regions:
            return dict(self.regions)
        return {name: (value,) for name, value in self.classes.items() if value != self.background}

    @property
    def target_values(self) -> tuple[int, ...]:
        """Every value that some target has, in order."""
        return tuple(sorted({value for values in self.targets.values() for value in values}))

    @property
    def mask_values(self) -> dict[str, int]:
        """Target -> the value that it paints into a mask, in the order of painting: later ones lie on top."""
        if self.regions:
            return dict(zip(self.regions, self.region_values, strict=True))
        return {name: values[0] for name, values in self.targets.items()}

    @property
    def channels(self) -> tuple[str, ...]:
        """The name of every output channel of a network."""
        return tuple(self.regions) if self.regions else tuple(self.classes)


REST = "rest"


def merge_classes(labels: Labels, groups: Mapping[str, Sequence[str]]) -> Labels:
    """The labels with one class in the place of every group of classes.

    It takes value and colour of the one with the smallest value, so the background stays the background. Regions,
    which are unions of the old classes, are gone.

    Args:
        groups: new name -> names of old classes; `rest` stands for all that no other group names.

    Raises:
        ConfigError: a name that is no class, a class in two groups or in none, or all of them in one.
    """
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    for name, members in groups.items():
        for member in members:
            key = f"merge.{name}"
            if member != REST and member not in labels.classes:
                problems.append(Problem(key, f"no class {member!r}", did_you_mean(member, [*labels.classes, REST])))
            elif member in owner:
                problems.append(Problem(key, f"{member!r} is in {owner[member]!r} as well", "name it once"))
            owner.setdefault(member, name)
    left = [name for name in labels.classes if name not in owner]
    if not problems and left and REST not in owner:
        some = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        remedy = f"name them too, or give one class [{REST}]: all that is left"
        problems.append(Problem("merge", f"leaves out {some}", remedy))
    elif not problems and not left and REST in owner and REST not in labels.classes:
        problems.append(Problem(f"merge.{owner[REST]}", f"nothing is left for {REST!r}", "leave it out"))
    elif not problems and len(groups) == 1:
        problems.append(Problem("merge", "makes one class of all", "name two classes or more"))
    if problems:
        raise ConfigError(problems)
    values: dict[str, list[int]] = {}
    for member, value in labels.classes.items():
        values.setdefault(owner.get(member) or owner[REST], []).append(value)
    values = {name: sorted(found) for name, found in sorted(values.items(), key=lambda item: min(item[1]))}
    colour_of = {value: labels.colours[name] for name, value in labels.classes.items() if name in labels.colours}
    return replace(
        labels,
        classes={name: found[0] for name, found in values.items()},
        merged={name: tuple(found[1:]) for name, found in values.items() if len(found) > 1},
        colours={name: colour_of[found[0]] for name, found in values.items() if found[0] in colour_of},
        regions={},
        region_values=(),
    )
