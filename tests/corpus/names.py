"""Names of files: numbers that are no channels, dots, spaces, links, folders of other names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from medseg.data.cases.case import Case
from medseg.data.cases.dataset import list_inputs, read_dataset
from medseg.workflows.score import score
from tests.corpus.labels import ball, image, nnunet, save
from tests.corpus.situation import Subjects, read, refused, without
from tests.dicom_files import write_slices


def volumes(root: Path, names: list[str], images: str = "images", labels: str = "labels", end: str = "") -> Path:
    for number, name in enumerate(names):
        save(root / images / f"{name}.nii.gz", image(number))
        save(root / labels / f"{name}{end}.nii.gz", ball())
    return root


def cases_are(root: Path, names: list[str]) -> None:
    found = [case.name for case in read_dataset(root).cases]
    assert found == sorted(names), found


def labels_of(root: Path) -> dict[str, str]:
    """Case -> its label, by the path in the folder of labels."""
    return {
        case.name: Path(case.label or "").relative_to(root / "labels").as_posix() for case in read_dataset(root).cases
    }


def inputs_are(path: Path, channels: int, names: list[str]) -> None:
    found = [case.name for case in list_inputs(path, channels)]
    assert found == names, found


NUMBERED = ["pancreas_0042", "pancreas_0043", "TCGA_CS_4941", "scan_2023", "patient_0001"]


@read(__name__)
def numbers_that_are_names(folder: Path) -> Subjects:
    yield volumes(folder, NUMBERED)
    yield lambda: cases_are(folder, NUMBERED)
    yield lambda: inputs_are(folder / "images", 1, sorted(NUMBERED))


@read(__name__)
def numbers_from_0000_that_have_labels_of_their_own(folder: Path) -> Subjects:
    names = [f"p_{number:04d}" for number in range(5)]
    yield volumes(folder, names)
    yield lambda: cases_are(folder, names)
    yield volumes(folder / "suffixed", names, end="_seg")
    yield lambda: cases_are(folder / "suffixed", names)
    yield lambda: inputs_are(folder / "images", 1, names)


@read(__name__)
def channels_are_numbers(folder: Path) -> Subjects:
    for name in "abcde":
        for channel in range(2):
            save(folder / f"images/{name}_{channel:04d}.nii.gz", image(ord(name) + 9 * channel))
        save(folder / f"labels/{name}.nii.gz", ball())
    yield folder
    yield lambda: cases_are(folder, list("abcde"))
    yield lambda: inputs_are(folder / "images", 2, list("abcde"))
    yield lambda: inputs_are(folder / "images/b_0001.nii.gz", 2, ["b"])


@read(__name__)
def a_file_and_its_folder_give_one_name(folder: Path) -> Subjects:
    save(folder / "nn/case_0000.nii.gz", image(0))
    save(folder / "one/scan_2023.nii.gz", image(1))
    for path, name in ((folder / "nn", "case"), (folder / "one", "scan_2023")):
        yield lambda path=path, name=name: inputs_are(path, 1, [name])
        yield lambda path=path, name=name: inputs_are(next(path.iterdir()), 1, [name])


@refused(__name__, "case 'b' has b_0000.nii.gz", "expected b_0000, b_0001")
def a_channel_that_is_missing(folder: Path) -> Subjects:
    for name in ("a_0000", "a_0001", "b_0000"):
        save(folder / f"{name}.nii.gz", image(0))
    yield lambda: list_inputs(folder, 2)


DOTTED = ["IXI002-Guys-0828.T1", "sub 07", "1.2.840.113619.2", "frame.v1.00", "plain"]


@read(__name__)
def dots_and_spaces(folder: Path) -> Subjects:
    yield volumes(folder, DOTTED)
    yield lambda: cases_are(folder, DOTTED)
    yield lambda: inputs_are(folder / "images", 1, sorted(DOTTED))


@read(__name__)
def equal_names_pair_first(folder: Path) -> Subjects:
    names = ["a", "a_seg", "b", "b_mask", "c"]
    yield volumes(folder, names)

    def paired() -> None:
        assert all(Path(case.first).name == Path(str(case.label)).name for case in read_dataset(folder).cases)

    yield paired


@read(__name__)
def scans_and_masks(folder: Path) -> Subjects:
    yield volumes(folder, list("abcde"), "scans", "masks")


@read(__name__)
def one_level_deeper(folder: Path) -> Subjects:
    volumes(folder / "data", list("abcde"), "Images", "Segmentations")
    yield folder
    yield lambda: cases_are(folder, list("abcde"))


@read(__name__)
def folders_inside_both(folder: Path) -> Subjects:
    for site in ("north", "south"):
        for number in range(3):
            save(folder / f"images/{site}/p{number}.nii.gz", image(number + 10 * len(site) + ord(site[0])))
            save(folder / f"labels/{site}/p{number}.nii.gz", ball())
    yield folder
    yield lambda: cases_are(folder, [f"{site}_p{number}" for site in ("north", "south") for number in range(3)])


@refused(__name__, "5 in pictures_of_it", "5 in truths")
def folders_of_unknown_names(folder: Path) -> Subjects:
    yield volumes(folder, list("abcde"), "pictures_of_it", "truths")


@refused(__name__, "there are DICOM series, which a list gives labels: b, c")
def a_folder_of_dicom_series(folder: Path) -> Subjects:
    for name in "bc":
        write_slices(folder / name, np.ones((3, 4, 5), np.uint16), series=name)
    yield folder


@read(__name__)
def a_folder_that_is_called_as_a_picture(folder: Path) -> Subjects:
    for number in range(3):
        for kind, value in (("images", number), ("masks", -1)):
            (folder / kind / "old.png").mkdir(parents=True, exist_ok=True)
            picture(folder / kind / f"p{number}.png", value)
    yield folder


def stored(root: Path) -> Path:
    """All files as links to blobs without an ending, as git-annex, DVC and the caches of hubs have them."""
    for number, file in enumerate(sorted(root.rglob("*.nii.gz"))):
        blob = root.parent / "blobs" / f"{number:064x}"
        blob.parent.mkdir(exist_ok=True)
        file.rename(blob)
        file.symlink_to(blob)
    return root


@read(__name__)
def links_to_blobs(folder: Path) -> Subjects:
    yield stored(volumes(folder / "set", list("abcde")))
    yield lambda: cases_are(folder / "set", list("abcde"))
    yield lambda: inputs_are(folder / "set/images/a.nii.gz", 1, ["a"])


@read(__name__)
def links_to_blobs_of_a_description(folder: Path) -> Subjects:
    yield stored(nnunet(folder / "set", [ball()] * 5))
    (folder / "cases.csv").write_text(
        "case,image,label\n"
        + "".join(f"c{i},set/imagesTr/c{i}_0000.nii.gz,set/labelsTr/c{i}.nii.gz\n" for i in range(5))
    )
    yield folder / "cases.csv"


@read(__name__)
def a_folder_that_is_a_link(folder: Path) -> Subjects:
    volumes(folder / "store" / "0a1b", list("abcde"))
    (folder / "set").symlink_to(folder / "store" / "0a1b")
    yield folder / "set"

    def name_is_the_links() -> None:
        assert read_dataset(folder / "set").name == "set"

    yield name_is_the_links


def linked(folder: Path, ending: str, write: Callable[[Path, int], None]) -> Path:
    """A city of images and of labels each lies elsewhere; one link leads back to where it lies, which is a circle."""
    for kind in ("images", "labels"):
        for city in ("aachen", "bochum"):
            store = folder / "store" / kind / city
            store.mkdir(parents=True)
            for number in range(3):
                write(store / f"{city}{number}{ending}", number + 10 * (city == "bochum") if kind == "images" else -1)
            (folder / "set" / kind).mkdir(parents=True, exist_ok=True)
            (folder / "set" / kind / city).symlink_to(store)
        (folder / "store" / kind / "aachen" / "again").symlink_to(folder / "set" / kind)
    return folder / "set"


def volume(path: Path, number: int) -> None:
    save(path, ball() if number < 0 else image(number))


def picture(path: Path, number: int) -> None:
    values = np.eye(8, dtype=np.uint8) if number < 0 else np.full((8, 8), 10 * number + 1, np.uint8)
    values[0, 0] = 0
    Pillow.fromarray(values).save(path)


CITIES = [f"{city}{number}" for city in ("aachen", "bochum") for number in range(3)]


@read(__name__)
def folders_of_pictures_that_are_links(folder: Path) -> Subjects:
    yield linked(folder, ".png", picture)
    yield lambda: cases_are(folder / "set", CITIES)


@read(__name__)
def masks_in_folders_that_are_links(folder: Path) -> Subjects:
    def scored() -> None:
        labels = linked(folder, ".nii.gz", volume) / "labels"
        report = score(labels, labels, dataset="task04_hippocampus", workers=1, progress=False)
        assert report.as_dict()["cases"] == len(CITIES)

    yield scored


@read(__name__)
def files_beside_folders(folder: Path) -> Subjects:
    """Images of a first site right in the folder, those of others in folders of their own; of hidden ones none."""
    volumes(folder, ["a", "site1/b", "site1/c", "site2/b", "site2/site2_d"])
    (folder / "images" / ".hidden").mkdir()
    shutil.copy(folder / "images" / "a.nii.gz", folder / "images" / ".hidden" / "z.nii.gz")
    yield folder

    def paired() -> None:
        expected = {"a": "a", "c": "site1/c", "site1_b": "site1/b", "site2_b": "site2/b", "site2_d": "site2/site2_d"}
        assert labels_of(folder) == {name: f"{label}.nii.gz" for name, label in expected.items()}

    yield paired


@read(__name__)
def a_label_of_the_same_folder_goes_before_one_above(folder: Path) -> Subjects:
    volumes(folder, ["A/x", "B/x"])
    (folder / "labels" / "A" / "x.nii.gz").rename(folder / "labels" / "A" / "x_seg.nii.gz")
    (folder / "labels" / "B" / "x.nii.gz").rename(folder / "labels" / "x.nii.gz")
    yield folder

    def paired() -> None:
        assert labels_of(folder) == {"A_x": "A/x_seg.nii.gz", "B_x": "x.nii.gz"}

    yield paired


@read(__name__)
def names_of_lists(folder: Path) -> Subjects:
    def named() -> None:
        for entry, name in (
            ({"image": "pancreas_0042.nii.gz"}, "pancreas_0042"),
            ({"image": ["a_0000.nii", "a_0001.nii"]}, "a"),
            ({"image": [None, "a_0001.nii"]}, "a"),
            ({"image": "a_0000.nii"}, "a"),
            ({"image": ["t1_0042.nii", "t2_0042.nii"]}, "t1_0042"),
        ):
            assert Case.from_entry(entry).name == name, (entry, name)

    yield named


without(__name__, "medseg.data.cases.layouts.files.are_channels", lambda files: 1)
without(__name__, "medseg.data.cases.layouts.volumes.SUFFIXES", ("_seg", "_mask", ""))
without(__name__, "medseg.data.cases.dataset.absolute", lambda path: Path(path).resolve())
without(__name__, "medseg.data.cases.layouts.volumes._folders_of", lambda root: [])
without(__name__, "medseg.data.cases.layouts.pictures.walk", lambda folder: folder.rglob("*"))
without(__name__, "medseg.data.cases.masks.walk", lambda folder: folder.rglob("*"))
