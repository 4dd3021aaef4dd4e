"""What describes a data set is somebody else's: entries of any type, and damaged text, are refused with a message."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.core.errors import MedsegError
from medseg.core.foreign import explained
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.folds import read_folds
from medseg.data.splits.patients import find_patients
from tests.conftest import MadeOnce, write_msd

Keys = tuple[Any, ...]

DRAWN = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FAR_MORE = settings(DRAWN, max_examples=5000)
TEXTS = (
    st.sampled_from(["", " ", ".", "..", "/", "../x", "a\0b", "$x", "x" * 5000, "9" * 5000, "caf\udce9"]) | st.text()
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CASE = {"image": "./imagesTr/tiny_00.nii.gz", "label": "./labelsTr/tiny_00.nii.gz"}
OTHER = {"image": "./imagesTr/tiny_01.nii.gz", "label": "./labelsTr/tiny_01.nii.gz"}
DECATHLON: dict[str, Any] = {
    "name": "tiny",
    "modality": {"0": "T1"},
    "labels": {"0": "background", "1": "organ", "2": "lesion"},
    "training": [CASE, OTHER],
    "test": ["./imagesTs/tiny_02.nii.gz", {"image": "./imagesTs/tiny_02.nii.gz"}],
}
REGIONS: dict[str, Any] = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "organ": [1, 2], "lesion": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "file_ending": ".nii.gz",
}
LISTED = REGIONS | {"dataset": {"one": {"images": [CASE["image"]], "label": CASE["label"]}}}
FOLDS = [{"train": ["a"], "val": ["b", "c"]}, {"train": ["b", "c"], "val": ["a"]}]
OURS = {"seed": 0, "notes": ["x"], "patients": {"a": "p", "b": "q", "c": "q"}, "folds": FOLDS}
TABLE = "case,patient,image,label\na,p,imagesTr/tiny_00.nii.gz,labelsTr/tiny_00.nii.gz\nb,q,x.nii,y.nii\n"


def places(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """The keys of every entry, that of the whole first."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def changed(value: Any, at: Keys, new: Any) -> Any:
    """A copy with something else in one place."""
    if not at:
        return new
    whole = copy.deepcopy(value)
    inner = whole
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return whole


def refused_or_read(work: Callable[[], Any]) -> bool:
    """Whether it is read; fails where the command line would have no message for what is wrong."""
    try:
        work()
    except Exception as error:
        if explained(error) is None:
            raise
        return False
    return True


@pytest.fixture
def data(made_once: MadeOnce, tmp_path: Path) -> Path:
    """A data set in the folder of the test, whose images are links."""
    root = made_once("damaged", lambda folder: write_msd(folder / "data", cases=2)) / "data"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / folder).symlink_to(root / folder)
    return tmp_path


def check_entries(root: Path, description: Any, at: Keys, value: Any) -> None:
    (root / "dataset.json").write_text(json.dumps(changed(description, at, value)))
    refused_or_read(lambda: read_dataset(root))


ENTRIES = given(st.sampled_from([DECATHLON, REGIONS, LISTED]).flatmap(
    lambda whole: st.tuples(st.just(whole), st.sampled_from([*places(whole)]), VALUES)))  # fmt: skip


@DRAWN
@ENTRIES
def test_a_dataset_json_with_entries_of_any_type(data: Path, drawn: tuple[Any, Keys, Any]) -> None:
    check_entries(data, *drawn)


@pytest.mark.campaign
@FAR_MORE
@ENTRIES
def test_dataset_json_far_more_often(data: Path, drawn: tuple[Any, Keys, Any]) -> None:
    check_entries(data, *drawn)


def test_what_is_right_is_read(data: Path) -> None:
    (data / "dataset.json").write_text(json.dumps(DECATHLON))
    assert refused_or_read(lambda: read_dataset(data))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (("training", 0, "image"), 3, "names the file 3"),
        (("training", 0, "label"), ["a", "b"], "expected one file as the label"),
        (("training",), None, "training is None"),
        (("test", 0), {}, "test 0: {} has no image"),
        (("labels", "1"), [1], r"labels: '1' is called \[1\]"),
        (("modality", "0"), None, "the channel 0 is called None"),
        (("training", 0, "image"), "..", "is called '..'"),
        (("training", 0, "label"), "a\0b", "can be no file"),
        (("training", 0, "label"), "x" * 5000, "File name too long"),
    ],
)
def test_what_is_wrong_is_named(data: Path, at: Keys, value: Any, words: str) -> None:
    (data / "dataset.json").write_text(json.dumps(changed(DECATHLON, at, value)))
    with pytest.raises(MedsegError, match=words):
        read_dataset(data)


@pytest.mark.parametrize("value", [1.5, True, float("inf"), "one", [1, 2.5], [], None])
def test_a_label_is_a_whole_number(data: Path, value: Any) -> None:
    (data / "dataset.json").write_text(json.dumps(changed(REGIONS, ("labels", "organ"), value)))
    with pytest.raises(MedsegError, match="labels: 'organ' is "):
        read_dataset(data)


def test_channels_may_be_files_of_their_own(data: Path) -> None:
    two = changed(DECATHLON, ("training", 0, "image"), [CASE["image"], OTHER["image"]]) | {"test": []}
    (data / "dataset.json").write_text(json.dumps(two | {"modality": {"0": "T1", "1": "T2"}}))
    first, _ = read_dataset(data).cases
    assert [Path(image).name for image in first.there] == ["tiny_00.nii.gz", "tiny_01.nii.gz"]


@DRAWN
@given(st.sampled_from([FOLDS, OURS]).flatmap(
    lambda whole: st.tuples(st.just(whole), st.sampled_from([*places(whole)]), VALUES)))  # fmt: skip
def test_folds_with_entries_of_any_type(tmp_path: Path, drawn: tuple[Any, Keys, Any]) -> None:
    file = tmp_path / "splits.json"
    file.write_text(json.dumps(changed(*drawn)))
    if refused_or_read(lambda: read_folds(file, ["a", "b", "c"])):
        read_folds(file, ["a", "b", "c"]).to_json()


def damaged(text: str) -> st.SearchStrategy[bytes]:
    """A text with some bytes replaced, put in or left out."""
    content = text.encode()
    part = st.tuples(st.integers(0, len(content)), st.integers(0, 8), st.binary(max_size=6) | st.sampled_from(ODD))

    def mend(parts: list[tuple[int, int, bytes]]) -> bytes:
        result = content
        for start, length, put in parts:
            result = result[:start] + put + result[start + length :]
        return result

    return st.lists(part, min_size=1, max_size=3).map(mend)


ODD = [b"\xff\xfe", b"\0", b'"', b"\r", b"\n", b"[" * 3000, b"{", b"\t", b";", b"," * 50, b"x" * 140_000, b"9" * 5000]


@DRAWN
@given(damaged(TABLE))
def test_a_damaged_list_of_cases(data: Path, content: bytes) -> None:
    (data / "cases.csv").write_bytes(content)
    refused_or_read(lambda: read_dataset(data / "cases.csv"))
    refused_or_read(lambda: find_patients(["a", "b"], None, str(data / "cases.csv")))


@DRAWN
@given(damaged(json.dumps(OURS)))
def test_a_damaged_file_of_folds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "splits.json").write_bytes(content)
    refused_or_read(lambda: read_folds(tmp_path / "splits.json", ["a", "b", "c"]))


@DRAWN
@given(damaged(json.dumps(DECATHLON)))
def test_a_damaged_dataset_json(data: Path, content: bytes) -> None:
    (data / "dataset.json").write_bytes(content)
    refused_or_read(lambda: read_dataset(data))
