"""Data sets with nothing wrong: whatever their orientation, types, endings and layout, `medseg check` finds nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image as Pillow
from scipy import ndimage

from tests.corpus.pictures import png
from tests.corpus.situation import Subjects, read
from tests.dicom_files import write_slices

SHAPE, SPACING, CASES = (14, 12, 9), (0.9, 0.9, 2.5), 3
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = -6, 11, 40
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([-0.9, 0.9, 2.5]), [30, -20, 11]
)

Make = Callable[[Path], Path]


def tissue(seed: int) -> np.ndarray:
    """Blobs from 2 to 120 in a frame of 0, which fit into every type."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 1)
    image = np.round(2 + 118 * (values - values.min()) / np.ptp(values))
    image[:2], image[-2:] = 0, 0
    return image.astype(np.int16)


def lesion() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[3:7, 3:7, 3:6] = 1
    return label


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nibabel.Nifti1Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(voxels, affine, dtype=voxels.dtype), path)


def itk(path: Path, voxels: np.ndarray, compressed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(voxels.T)
    image.SetSpacing(SPACING)
    image.SetOrigin((6, -11, 40))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(path), compressed)


def write(path: Path, voxels: np.ndarray, **options: Any) -> None:
    (nifti if ".nii" in path.name.lower() else itk)(path, voxels, **options)


def volumes(root: Path, ending: str = ".nii.gz", label_ending: str = "", **options: Any) -> Path:
    for number in range(CASES):
        write(root / f"images/p{number}{ending}", tissue(number), **options)
        write(root / f"labels/p{number}{label_ending or ending}", lesion(), **options)
    return root


def oriented(codes: str, root: Path) -> Path:
    """The axes on disk go to these sides of the patient."""
    way = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = AFFINE @ inv_ornt_aff(way, SHAPE)
    for number in range(CASES):
        for kind, voxels in (("images", tissue(number)), ("labels", lesion())):
            nifti(root / kind / f"p{number}.nii.gz", nibabel.orientations.apply_orientation(voxels, way), affine)
    return root


def typed(image: type, label: type, root: Path) -> Path:
    for number in range(CASES):
        nifti(root / f"images/p{number}.nii.gz", tissue(number).astype(image))
        nifti(root / f"labels/p{number}.nii.gz", lesion().astype(label))
    return root


def big_endian(root: Path) -> Path:
    for number in range(CASES):
        for kind, voxels in (("images", tissue(number)), ("labels", lesion().astype(np.int16))):
            header = nibabel.Nifti1Header(endianness=">")
            (root / kind).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(voxels.astype(">i2"), AFFINE, header=header)
            nibabel.save(image, root / kind / f"p{number}.nii")
    return root


def headed(change: Callable[[nibabel.Nifti1Header], None], root: Path, affine: np.ndarray = AFFINE) -> Path:
    """A header as other tools fill it."""
    for number in range(CASES):
        for kind, voxels in (("images", tissue(number)), ("labels", lesion())):
            image = nibabel.Nifti1Image(voxels, affine)
            image.set_qform(affine, 1)
            change(image.header)
            (root / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(image, root / kind / f"p{number}.nii.gz")
    return root


def coded(sform: int, qform: int, header: nibabel.Nifti1Header) -> None:
    header["sform_code"], header["qform_code"] = sform, qform


def scaled_hu(root: Path) -> Path:
    """Stored from 0, with a slope of 1 and an intercept of -1024, as scanners have it."""
    for number in range(CASES):
        stored = tissue(number) * 10 + 900
        stored[:2] = 24
        image = nibabel.Nifti1Image(stored.astype(np.int16), AFFINE)
        image.header.set_slope_inter(1, -1024)
        path = root / f"imagesTr/p{number}_0000.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        nifti(root / f"labelsTr/p{number}.nii.gz", lesion())
    return described(root, {"0": "CT"})


def described(root: Path, channels: dict[str, str], ending: str = ".nii.gz", **more: Any) -> Path:
    about = {"channel_names": channels, "labels": {"background": 0, "lesion": 1}, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps({**about, "numTraining": CASES, **more}))
    return root


def nnunet(ending: str, channels: Sequence[str], root: Path) -> Path:
    for number in range(CASES):
        for channel in range(len(channels)):
            write(root / f"imagesTr/p{number}_{channel:04d}{ending}", tissue(number + 10 * channel))
        write(root / f"labelsTr/p{number}{ending}", lesion())
    return described(root, {str(place): name for place, name in enumerate(channels)}, ending)


def msd(channels: int, root: Path) -> Path:
    """The Decathlon; several channels lie in one file, as its last axis."""
    for number in range(CASES):
        stack = np.stack([tissue(number + 10 * channel) for channel in range(channels)], axis=-1)
        nifti(root / f"imagesTr/p{number}.nii.gz", stack if channels > 1 else stack[..., 0])
        nifti(root / f"labelsTr/p{number}.nii.gz", lesion())
    cases = [{"image": f"./imagesTr/p{n}.nii.gz", "label": f"./labelsTr/p{n}.nii.gz"} for n in range(CASES)]
    about = {"modality": {str(place): f"MR{place}" for place in range(channels)}, "training": cases, "test": []}
    (root / "dataset.json").write_text(json.dumps({**about, "labels": {"0": "background", "1": "lesion"}}))
    return root


def bids(root: Path) -> Path:
    for number in range(CASES):
        name = f"sub-{number:02d}_ses-1"
        nifti(root / f"sub-{number:02d}/ses-1/anat/{name}_T1w.nii.gz", tissue(number))
        nifti(root / f"derivatives/manual/sub-{number:02d}/ses-1/anat/{name}_desc-lesion_mask.nii.gz", lesion())
    (root / "dataset_description.json").write_text(json.dumps({"Name": "healthy", "BIDSVersion": "1.9.0"}))
    return root


def listed(name: str, divider: str, root: Path) -> Path:
    volumes(root)
    with (root / name).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=divider)
        writer.writerow(("case", "patient", "image_T1w", "label"))
        writer.writerows((f"c.{n}", f"s{n}", f"images/p{n}.nii.gz", f"labels/p{n}.nii.gz") for n in range(CASES))
    return root / name


def dicom(root: Path) -> Path:
    """CT series with labels in NIfTI, by a list."""
    lines = ["case,image_CT,label"]
    affine = np.diag([-0.9, -0.9, 2.5, 1.0])
    for number in range(CASES):
        stored = tissue(number) * 10 + 900
        stored[:2] = 24
        scale = {0x00281052: ("DS", "-1024"), 0x00281053: ("DS", "1")}
        folder, slices = root / f"p{number}", stored.T.astype(np.uint16)
        write_slices(folder, slices, step=(0, 0, 2.5), spacing=(0.9, 0.9), more=scale)
        nifti(root / f"p{number}.nii.gz", lesion(), affine)
        lines.append(f"p{number},p{number},p{number}.nii.gz")
    (root / "cases.csv").write_text("\n".join(lines))
    return root / "cases.csv"


def colours(seed: int, channels: int = 3) -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((16, 24, channels)), (2, 2, 0))
    return np.round(255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)


def classes() -> np.ndarray:
    mask = np.zeros((16, 24), np.uint8)
    mask[3:9, 4:12] = 1
    return mask


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels).save(path, **options)


def pictures(ending: str, root: Path, *, channels: int = 3, folders: Sequence[str] = ("",), **options: Any) -> Path:
    for folder in folders:
        for number in range(CASES):
            pixels = colours(number + 10 * folders.index(folder), channels)
            save(root / f"images/{folder}/p{number}{folder}{ending}", pixels.squeeze(), **options)
            save(root / f"masks/{folder}/p{number}{folder}.png", classes())
    return root


def deep(root: Path) -> Path:
    for number in range(CASES):
        save(root / f"images/p{number}.png", colours(number, 1)[..., 0].astype(np.uint16) * 257)
        save(root / f"masks/p{number}.png", classes())
    return root


def few_bits(bits: int, root: Path) -> Path:
    pictures(".png", root)
    for number in range(CASES):
        png(root / f"masks/p{number}.png", classes(), bits)
    return root


def palette(root: Path) -> Path:
    pictures(".jpg", root)
    for number in range(CASES):
        mask = Pillow.fromarray(classes(), "L").convert("P")
        mask.putpalette([0, 0, 0, 128, 0, 0])
        mask.save(root / f"masks/p{number}.png")
    return root


def black_and_white(root: Path) -> Path:
    pictures(".jpg", root)
    for number in range(CASES):
        save(root / f"masks/p{number}_mask.png", classes() * 255)
        (root / f"masks/p{number}.png").unlink()
    return root


def by_lists(root: Path) -> Path:
    pictures(".png", root)
    (root / "train.txt").write_text("p0\np1\n")
    (root / "val.txt").write_text("p2\n")
    return root


def camvid(root: Path) -> Path:
    for place, split in enumerate(("train", "val")):
        for number in range(CASES):
            save(root / f"{split}/{split}{number}.png", colours(number + 10 * place))
            save(root / f"{split}annot/{split}{number}.png", classes())
    return root


def voc(root: Path) -> Path:
    for number in range(CASES):
        save(root / f"JPEGImages/p{number}.jpg", colours(number))
        save(root / f"SegmentationClass/p{number}.png", classes())
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p0\np1\n")
    (lists / "val.txt").write_text("p2\n")
    return root


ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "PIR", "ASL", "SRA", "IPL")
SCALE = np.array([[1e3], [1e3], [1e3], [1]])
VARIANTS: dict[str, Make] = {
    **{f"orientation_{codes}": partial(oriented, codes) for codes in ORIENTATIONS},
    "orientation_oblique": partial(headed, lambda header: None, affine=OBLIQUE),
    **{
        f"image_of_{kind}": partial(typed, np.dtype(kind).type, np.uint8)
        for kind in ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
    },
    **{
        f"label_of_{kind}": partial(typed, np.int16, np.dtype(kind).type)
        for kind in ["int8", "int16", "uint16", "int32", "int64", "uint64", "float32", "float64"]
    },
    "nii": partial(volumes, ending=".nii"),
    "nii_in_capitals": partial(volumes, ending=".NII.GZ"),
    "nifti_2": partial(volumes, kind=nibabel.Nifti2Image),
    "big_endian_nii": big_endian,
    "microns": partial(headed, lambda header: header.set_xyzt_units("micron"), affine=AFFINE * SCALE),
    "metres": partial(headed, lambda header: header.set_xyzt_units("meter"), affine=AFFINE / SCALE),
    "units_that_are_not_said": partial(headed, lambda header: header.set_xyzt_units(0, 0)),
    "sform_alone": partial(headed, partial(coded, 1, 0)),
    "qform_alone": partial(headed, partial(coded, 0, 1)),
    "in_the_space_of_an_atlas": partial(headed, partial(coded, 4, 1)),
    "hu_by_an_intercept": scaled_hu,
    **{ending[1:]: partial(volumes, ending=ending) for ending in (".nrrd", ".mha", ".mhd")},
    "mha_compressed": partial(volumes, ending=".mha", compressed=True),
    "labels_in_another_format": partial(volumes, label_ending=".nrrd"),
    "decathlon": partial(msd, 1),
    "decathlon_of_four_channels": partial(msd, 4),
    "nnunet_one_channel": partial(nnunet, ".nii.gz", ("T1",)),
    "nnunet_two_channels_of_nrrd": partial(nnunet, ".nrrd", ("FLAIR", "T1Gd")),
    "bids_of_sessions": bids,
    "csv": partial(listed, "cases.csv", ","),
    "csv_of_semicolons": partial(listed, "cases.csv", ";"),
    "tsv": partial(listed, "cases.tsv", "\t"),
    "dicom_by_a_list": dicom,
    **{f"pictures_{end}": partial(pictures, f".{end}") for end in ["png", "jpg", "JPEG", "tif", "TIFF", "bmp", "webp"]},
    "pictures_in_grey": partial(pictures, ".png", channels=1),
    "pictures_in_grey_jpg": partial(pictures, ".jpg", channels=1),
    "pictures_of_16_bits": deep,
    "pictures_of_lzw": partial(pictures, ".tif", compression="tiff_lzw"),
    "pictures_by_split": partial(pictures, ".png", folders=("train", "val")),
    "pictures_by_lists": by_lists,
    **{f"masks_of_{bits}_bits": partial(few_bits, bits) for bits in (1, 2, 4)},
    "masks_of_a_palette": palette,
    "masks_of_black_and_white": black_and_white,
    "camvid_without_a_card": camvid,
    "voc_without_a_card": voc,
}


def situation(name: str, make: Make) -> Callable[[Path], Subjects]:
    def variant(folder: Path) -> Subjects:
        yield make(folder)

    variant.__name__ = name
    return variant


for _name, _make in VARIANTS.items():
    read(__name__)(situation(_name, _make))
