"""`dataset.json` of a Medical Segmentation Decathlon or nnU-Net raw data set: channels, labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable
from medseg.core.labels import Labels
from medseg.data.cases.case import UNSAFE_NAME, Case, is_name
from medseg.data.cases.layouts.layout import Found
from medseg.data.files.images import case_name

FILE = "dataset.json"
JSON = ".json"
FORM = (
    '{"labels": {"0": "background", "1": NAME, ...}, "channel_names": {"0": NAME, ...}, '
    '"training": [{"image": FILE or [FILE of each channel], "label": FILE}, ...]}'
)
CaseLister = Callable[[Path, Mapping[str, Any], int, Found], tuple[list[Case], list[Case]]]
"""(root, description, number of channels, where to add what is wrong) -> (labelled, unlabelled)."""


def find_described(root: Path, list_cases: CaseLister) -> Found:
    """What a data set with a `dataset.json` holds."""
    file = description_file(root)
    description = read_description(file)
    name = description.get("name")
    found = Found(name=name if isinstance(name, str) else root.stem if root == file else "")
    if "labels" in description:
        found.labels = labels_of(description, str(file), found.problems)
    if "labels" in description or description.keys() & {"channel_names", "modality"}:
        found.channels = channels_of(description, str(file), found.problems)
    found.cases, found.unlabelled = list_cases(file.parent, description, len(found.channels), found)
    if not found.cases and not found.unlabelled and not found.problems:
        found.problems.append(
            Problem(str(file), "lists no case", f"expected files in imagesTr and labelsTr, or {FORM}")
        )
    for name in {case.name for case in (*found.cases, *found.unlabelled) if not is_name(case.name)}:
        found.problems.append(Problem(str(file), f"a case is called {name!r}", UNSAFE_NAME))
    for name, count in Counter(case.name for case in found.cases).items():
        if count > 1:
            what = f"{count} cases are named {name!r}"
            found.problems.append(Problem(str(file), what, "give each file its own name"))
    return found


def is_described(root: Path, *, by_value: bool) -> bool:
    """Whether a folder has a `dataset.json` that names labels in this direction, see `names_by_value`.

    Raises:
        DataError: it has one that cannot be read.
    """
    file = description_file(root)
    return file.is_file() and names_by_value(read_description(file)) == by_value


def description_file(root: Path) -> Path:
    """Of a folder its `dataset.json`; a JSON file itself, as MONAI's lists of data are."""
    return root if root.name.lower().endswith(JSON) and root.is_file() else root / FILE


def read_description(file: Path) -> dict[str, Any]:
    """The file as plain data; raises DataError if it is damaged, or has no labels."""
    try:
        description = json.loads(readable(file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(Problem(str(file), f"is not JSON: {error}", "write it anew, or restore it")) from None
    if isinstance(description, list):  # a list of cases, without anything around it
        description = {"training": description}
    if not isinstance(description, dict):
        raise DataError(Problem(str(file), f"holds {short(description)}", f"expected {FORM}"))
    labels = description.get("labels")
    if isinstance(labels, list):  # names in the order of their values
        description["labels"] = labels = {str(value): name for value, name in enumerate(labels)}
    listed_alone = labels is None and isinstance(description.get("training"), list | dict)
    if not isinstance(labels, dict) and not listed_alone:
        raise DataError(Problem(str(file), f'has the "labels" {short(labels)}', f"expected {FORM}"))
    return {key: value for key, value in description.items() if not (key == "labels" and value is None)}


def names_by_value(description: Mapping[str, Any]) -> bool:
    """Whether labels are named value -> name (MSD), or name -> value or values (nnU-Net): so the two are told apart."""
    return all(str(key).isdigit() for key in description.get("labels", ()))


def channels_of(description: Mapping[str, Any], file: str, problems: list[Problem]) -> tuple[str, ...]:
    """The names of the channels, in order; what is wrong is added to `problems`."""
    channels = description.get("channel_names") or description.get("modality")
    if isinstance(channels, str):
        channels = {"0": channels}
    elif isinstance(channels, list):
        channels = {str(number): name for number, name in enumerate(channels)}
    if not isinstance(channels, dict) or sorted(channels) != sorted(str(i) for i in range(len(channels))):
        remedy = 'expected "channel_names" (or "modality"): {"0": "T1", "1": ...}'
        problems.append(Problem(file, f"channels named as {short(channels)}", remedy))
        return ("0",)
    for key, name in channels.items():
        if not is_word(name):
            problems.append(Problem(file, f"the channel {key} is called {short(name)}", "give it a name, in quotes"))
    return tuple(str(channels[str(i)]) for i in range(len(channels)))


def labels_of(description: Mapping[str, Any], file: str, problems: list[Problem]) -> Labels:
    """What the labels mean; what is wrong is added to `problems`."""

    def complain(what: str, remedy: str = "") -> None:
        problems.append(Problem(file, what, remedy))

    named: dict[str, tuple[int, ...]] = {}
    for key, entry in description["labels"].items():
        name, values = (entry, key) if names_by_value(description) else (key, entry)
        try:
            numbers = tuple(map(_whole, values if isinstance(values, list) else [values]))
        except (TypeError, ValueError, OverflowError):
            complain(f"labels: {short(key)} is {short(entry)}", "expected a whole number, or a list of them")
            continue
        if not is_word(name):
            complain(f"labels: {short(key)} is called {short(name)}", "give it a name, in quotes")
            continue
        if not numbers or min(numbers) < 0 or max(numbers) > 255:
            complain(f"labels: {short(key)} is {short(entry)}", "label values lie between 0 and 255")
        elif str(name) in named:
            complain(f"labels: the name {name!r} is there twice", "give each label its own name")
        else:
            named[str(name)] = numbers
    ignored = named.pop("ignore", None)
    background = [name for name, values in named.items() if values == (0,)]
    if len(background) != 1:
        complain("labels: no background", "the value 0 is the background")
    for name in background:
        named.pop(name)
    zero = {background[0] if background else "background": 0}
    ignore_index, also_ignored = (ignored[0], ignored[1:]) if ignored else (None, ())
    if both := sorted({*(ignored or ())} & {value for values in (*named.values(), (0,)) for value in values}):
        complain(f"labels: {', '.join(map(str, both))} is ignored and a class", "leave it in one of the two")

    if all(len(values) == 1 for values in named.values()) and "regions_class_order" not in description:
        classes = zero | {name: values[0] for name, values in sorted(named.items(), key=lambda item: item[1])}
        if len(set(classes.values())) < len(classes):
            complain(f"labels: two names for one value in {classes}")
        return Labels(classes, ignore_index=ignore_index, also_ignored=also_ignored)

    order = description.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(named) or not all(type(value) is int for value in order):
        what = f"regions_class_order is {short(order)}, but there are {len(named)} regions"
        complain(what, "give the value that each region writes into a mask, in the order of the labels")
        order = [values[0] for values in named.values()]
    every = sorted({value for values in named.values() for value in values})
    if unknown := sorted(set(order) - set(every)):
        complain(f"regions_class_order writes {unknown}, which no region holds", f"known values: {every}")
    alone = {values[0]: name for name, values in named.items() if len(values) == 1}
    classes = zero | {alone.get(value, f"label_{value}"): value for value in every}
    return Labels(classes, named, tuple(order), ignore_index, also_ignored)


def paths_in(root: Path, entry: Any, where: str, problems: list[Problem]) -> list[Path]:
    """The paths that an entry gives, from `root`: one, or a list with one a channel; none, and a problem, otherwise."""
    texts = entry if isinstance(entry, list) else [entry]
    if texts and all(isinstance(text, str) and case_name(text) for text in texts):
        return [root / _of_this_system(text) for text in texts]
    problems.append(Problem(where, f"names the file {short(entry)}", "expected a path, or a list of one a channel"))
    return []


def _of_this_system(text: str) -> str:
    """A path that was written on Windows, from the folder of the list, with slashes."""
    return text.replace("\\", "/") if "\\" in text and "/" not in text else text


@dataclass(frozen=True)
class Entry:
    """A case as a list has it.

    Args:
        name: as the list says it; "" where it does not.
        images: a file a channel, or one.
    """

    name: str
    images: list[Path]
    label: Path | None


def entry_of(
    root: Path,
    entry: Any,
    where: str,
    name: str,
    problems: list[Problem],
    channels: Sequence[str] = (),
    *,
    labelled: bool = True,
) -> Entry | None:
    """An entry of a list, `{"image": FILE or [FILE of each channel], "label": FILE or null}`.

    None, and a problem, where it is none. nnU-Net says `images`; an image may be `{CHANNEL: FILE}`, and a case without
    a label its image alone.

    Args:
        where, name: of the list and of the entry, for the problem.
        labelled: a label has to be given, if only as null.
    """
    if isinstance(entry, str):
        entry = {"image": entry}
    image = entry.get("image", entry.get("images")) if isinstance(entry, dict) else None
    if isinstance(image, dict) and image and set(image) == set(channels):
        image = [image[channel] for channel in channels]
    if not isinstance(entry, dict) or image is None or isinstance(image, dict):
        expected = f"expected {FORM}" + (f"; the channels are {', '.join(channels)}" if isinstance(image, dict) else "")
        problems.append(Problem(where, f"{name}: {short(entry)} has no image", expected))
        return None
    if labelled and "label" not in entry:
        problems.append(
            Problem(where, f"{name}: {short(entry)} has no label", "give it one, or null where there is none")
        )
        return None
    files = paths_in(root, image, f"{where} {name}", problems)
    label = entry.get("label")
    labels = paths_in(root, label, f"{where} {name}", problems) if label is not None else []
    if len(labels) > 1:
        problems.append(Problem(where, f"{name}: {short(label)}", "expected one file as the label"))
        return None
    called = entry.get("case")
    if not files or (label is not None and not labels):
        return None
    return Entry(str(called) if is_word(called) else "", files, labels[0] if labels else None)


def entries_of(description: Mapping[str, Any], key: str, where: str, problems: list[Problem]) -> list[tuple[str, Any]]:
    """(name, entry) of all that a list of the description holds; "" as the name where it does not go by names."""
    entries = description.get(key, [])
    if entries is None and key != "training":
        return []
    if isinstance(entries, list):
        return [("", entry) for entry in entries]
    if isinstance(entries, dict):
        return [(str(name), entry) for name, entry in entries.items()]
    problems.append(Problem(where, f"{key} is {short(entries)}", f"expected {FORM}"))
    return []


def is_word(name: Any) -> bool:
    """Whether something can be called so: a text, or a number."""
    return (isinstance(name, str) and bool(name.strip())) or type(name) is int


def short(value: Any) -> str:
    """A value of any kind for a message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _whole(value: Any) -> int:
    """A number, or a text that is one; raises TypeError or ValueError for anything else."""
    number = int(value)
    if isinstance(value, bool) or (not isinstance(value, str) and number != value):
        raise ValueError(f"{value!r} is no whole number")
    return number
