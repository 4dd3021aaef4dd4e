"""Lists of cases: MONAI's, MSD's and nnU-Net's `dataset.json`, in all the forms that people write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medseg.data.cases.dataset import read_dataset
from tests.corpus.labels import ball, image, save
from tests.corpus.situation import Subjects, read, refused, without

COUNT = 5
LABELS = {"0": "background", "1": "ball"}
MSD = {"modality": {"0": "T1"}, "labels": LABELS}
TWO = {"modality": {"0": "T1", "1": "T2"}, "labels": LABELS}
ONE = [{"image": f"imagesTr/a{i}_t1.nii.gz", "label": f"labelsTr/a{i}.nii.gz"} for i in range(COUNT)]
BOTH = [entry | {"image": [entry["image"], entry["image"].replace("t1", "t2")]} for entry in ONE]


def files(root: Path) -> Path:
    for number in range(COUNT):
        save(root / f"imagesTr/a{number}_t1.nii.gz", image(number))
        save(root / f"imagesTr/a{number}_t2.nii.gz", image(number + 50))
        save(root / f"labelsTr/a{number}.nii.gz", ball())
    return root


def described(root: Path, description: Any, name: str = "dataset.json") -> Path:
    files(root)
    (root / name).write_text(json.dumps(description))
    return root if name == "dataset.json" else root / name


def there(root: Path, labelled: int, unlabelled: int = 0, **more: Any) -> Callable[[], None]:
    def look() -> None:
        found = read_dataset(root)
        assert (len(found.cases), len(found.unlabelled)) == (labelled, unlabelled)
        for key, value in more.items():
            assert getattr(found, key) == value, (key, getattr(found, key))

    return look


@read(__name__)
def an_image_is_a_list(folder: Path) -> Subjects:
    yield described(folder, TWO | {"training": BOTH})
    yield there(folder, COUNT, channels=("T1", "T2"))


@read(__name__)
def an_image_is_a_dictionary(folder: Path) -> Subjects:
    entries = [{**one, "image": dict(zip(("T2", "T1"), one["image"][::-1], strict=True))} for one in BOTH]
    yield described(folder, TWO | {"training": entries})
    yield there(folder, COUNT, channels=("T1", "T2"))


@refused(__name__, "training 0", "the channels are T1, T2")
def a_dictionary_of_other_channels(folder: Path) -> Subjects:
    yield described(folder, TWO | {"training": [{**BOTH[0], "image": {"T1": "a", "PD": "b"}}]})


@read(__name__)
def absolute_paths(folder: Path) -> Subjects:
    entries = [{key: str(folder / path) for key, path in one.items()} for one in ONE]
    yield described(folder, MSD | {"training": entries})


@read(__name__)
def windows_paths(folder: Path) -> Subjects:
    entries = [{key: ".\\" + path.replace("/", "\\") for key, path in one.items()} for one in ONE]
    yield described(folder, MSD | {"training": entries})
    yield there(folder, COUNT)


@read(__name__)
def cases_go_by_names(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": {f"p{number}": one for number, one in enumerate(ONE)}})
    yield there(folder, COUNT)


@read(__name__)
def test_is_null_or_dictionaries(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "test": None})
    yield described(folder, MSD | {"training": ONE[:4], "test": [{"image": ONE[4]["image"]}]})
    yield there(folder, 4, 1)


@read(__name__)
def a_label_is_null(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": [*ONE[:4], ONE[4] | {"label": None}]})
    yield there(folder, 4, 1)


@refused(__name__, "training is None", '{"labels"')
def training_is_null(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": None})


@refused(__name__, "training 1", "no label")
def a_label_is_missing(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": [ONE[0], {"image": ONE[1]["image"]}]})


@refused(__name__, "test 0", "'scan'", "has no image")
def an_image_is_missing(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "test": [{"scan": "imagesTr/a0_t1.nii.gz"}]})


@read(__name__)
def modality_is_a_text_or_a_list(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "modality": "T1"})
    yield there(folder, COUNT, channels=("T1",))
    yield described(folder, TWO | {"training": BOTH, "modality": ["T1", "T2"]})


@refused(__name__, "channels named as None", "channel_names")
def modality_is_null(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "modality": None})


@read(__name__)
def labels_are_a_list(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "labels": ["background", "ball"]})


@refused(__name__, "labels: '1' is called")
def a_label_has_a_dictionary_as_its_name(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE, "labels": {"0": "background", "1": {"name": "ball"}}})


@read(__name__)
def a_list_of_monai_says_only_files(folder: Path) -> Subjects:
    entries = [one | {"fold": number % 2} for number, one in enumerate(BOTH)]
    yield described(folder, {"training": entries}, "folds.json")
    yield there(folder / "folds.json", COUNT, name="folds")
    yield described(folder, BOTH, "bare.json")
    yield there(folder / "bare.json", COUNT)


@read(__name__)
def a_validation_list_is_held_out(folder: Path) -> Subjects:
    yield described(folder, MSD | {"training": ONE[:3], "validation": ONE[3:]})

    def look() -> None:
        splits = read_dataset(folder).splits
        assert {name: len(cases) for name, cases in splits.items()} == {"train": 3, "val": 2}

    yield look


NNUNET = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}


@read(__name__)
def a_list_of_nnunet(folder: Path) -> Subjects:
    entries = {f"p{n}": {"images": [one["image"]], "label": one["label"]} for n, one in enumerate(ONE)}
    yield described(folder, NNUNET | {"dataset": entries})
    yield there(folder, COUNT)


@refused(__name__, "a0", "has no label")
def a_list_of_nnunet_without_a_label(folder: Path) -> Subjects:
    yield described(folder, NNUNET | {"dataset": {"a0": {"images": ["imagesTr/a0_t1.nii.gz"]}}})


@refused(__name__, "labels", '{"0": "background"')
def no_list_and_no_labels(folder: Path) -> Subjects:
    yield described(folder, {"name": "something else"})


without(__name__, "medseg.data.cases.layouts.description._of_this_system", lambda text: text)
without(__name__, "medseg.data.cases.layouts.msd.LISTS", {"training": "train", "test": "test"})
