"""What a layout is: it says whether a path has it, and finds the cases there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medseg.core.errors import Problem
from medseg.core.labels import Labels
from medseg.data.cases.case import Case


@dataclass
class Found:
    """What a layout finds.

    Args:
        cases: with a label; `unlabelled`: without.
        incomplete: what is wrong with cases that lack channels, unless they may; they are listed all the same.
        channels, labels: empty where the data set does not say what its channels and label values mean.
        splits: the official ones, name -> cases, some of them perhaps without a label; none where there are no splits.
        name: of the data set; "" where it is that of its folder.
    """

    cases: list[Case] = field(default_factory=list)
    unlabelled: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    incomplete: list[Problem] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    labels: Labels = field(default_factory=lambda: Labels({}))
    splits: Mapping[str, list[Case]] = field(default_factory=dict)
    name: str = ""


class Layout(ABC):
    """One way in which data sets lie on disk; made without arguments."""

    expects: ClassVar[str]
    """What a path of this layout holds, in a few words, for whoever has none."""
    natural: ClassVar[bool] = False
    """Whether the images are pictures, in which 0 may be a class like any other."""
    labels_folder: ClassVar[str] = ""
    """Where labels are looked for below the folder of a data set; "" where they may be anywhere."""

    label_names: ClassVar[str] = ""
    """How labels are named, where `is_label` wants more than an ending."""
    mask_names: ClassVar[str] = ""
    """How masks are named, where `case_of_mask` wants more than an ending."""

    @abstractmethod
    def recognises(self, root: Path) -> bool:
        """Whether this path has the layout; at most a look at names, since many layouts are asked.

        Raises:
            DataError: it has, and what it begins with (`dataset.json`) cannot be read.
        """

    @abstractmethod
    def find(self, root: Path) -> Found:
        """The cases of a path that `recognises` accepts. What is wrong with single files is in `Found.problems`.

        Raises:
            DataError: nothing can be found for what is wrong.
        """

    def case_of_mask(self, name: str) -> str | None:
        """The case that a mask belongs to, by its file's name without ending; None: it belongs to none."""
        return name

    def is_label(self, name: str) -> bool:
        """Whether a file of this name (without ending) is a label, where other maps lie beside the labels."""
        return True

    def instances(self, label: Path) -> Path | None:
        """The file beside a label in which its single objects are told apart, where there is one."""
        return None
