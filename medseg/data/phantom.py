"""A synthetic cohort of four-modality brain-tumour MR, drawn and never measured: for the demo and for tests.

Every brain is an ellipsoid bent by smooth random fields: CSF, folded cortex, white matter, deep grey nuclei,
ventricles, cerebellum, vessels; a tumour of nested irregular regions pushes it aside. The skull is stripped, as in
BraTS: outside, the images are 0. The intensities follow
what FLAIR, T1, T1 with gadolinium and T2 show of such tissue; every case has its own contrast, bias field, blur, noise,
pose, voxel size and orientation. Look-alikes are left unlabelled on purpose (vessels enhance as tumour does, white
matter lesions shine on FLAIR as oedema does, CSF on T2): a threshold does not solve it. Results on it say that a
pipeline works, and nothing about patients.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from medseg.core.errors import DataError

NAME = "Synthetic brain tumour phantom"
MODALITIES = ("FLAIR", "T1w", "T1gd", "T2w")
CLASSES = {"background": 0, "oedema": 1, "non_enhancing_core": 2, "enhancing_tumour": 3}
REGIONS = {"whole_tumour": (1, 2, 3), "tumour_core": (2, 3), "enhancing_tumour": (3,)}
REGION_VALUES = (1, 2, 3)

DESCRIPTION = "SYNTHETIC phantom, no patient data. Drawn by medseg; figures on it say nothing about real images."
HEAD_MM = np.array([76.0, 92.0, 82.0])  # half axes of the head with scalp and skull: right-left, front-back, up-down
FIELD_OF_VIEW_MM = np.array([174.0, 174.0, 158.0])  # divided by the shape: the voxel size
NON_ENHANCING_EVERY = 6  # the last of every six cases has no enhancing tumour, as a low-grade glioma

# What each tissue looks like on FLAIR, T1w, T1gd, T2w, relative to the brightest.
TISSUES = {
    "outside": (0.0, 0.0, 0.0, 0.0),
    "csf": (0.12, 0.15, 0.16, 0.95),
    "grey": (0.55, 0.50, 0.53, 0.60),
    "white": (0.44, 0.68, 0.70, 0.42),
    "deep_grey": (0.50, 0.57, 0.60, 0.50),
    "lesion": (0.76, 0.58, 0.60, 0.64),
    "vessel": (0.20, 0.30, 0.95, 0.18),
    "oedema": (0.82, 0.42, 0.44, 0.78),
    "core": (0.50, 0.24, 0.27, 0.90),
    "enhancing": (0.70, 0.44, 0.92, 0.62),
}
CODE = {name: code for code, name in enumerate(TISSUES)}


def write_phantom(
    folder: str | Path,
    *,
    cases: int = 24,
    unlabelled: int = 4,
    shape: Sequence[int] = (48, 48, 48),
    seed: int = 0,
) -> None:
    """Write a synthetic cohort in the layout of the Medical Segmentation Decathlon.

    Images are int16 (*shape, 4), channels as in `MODALITIES`; labels uint8 (*shape) with the values of `CLASSES`.
    A case depends on `seed`, its number and `shape` only. Raises DataError where another data set already lies in
    `folder`.
    """
    folder = Path(folder)
    description = folder / "dataset.json"
    if description.exists() and json.loads(description.read_text(encoding="utf-8")).get("name") != NAME:
        raise DataError(f"{folder}: holds another data set", remedy="give an empty or a new folder")
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)

    training, test = [], []
    for number in range(cases + unlabelled):
        image, label, affine = draw_case(
            np.random.default_rng([seed, number]), shape, enhancing=(number + 1) % NON_ENHANCING_EVERY != 0
        )
        name = f"phantom_{number:03d}.nii.gz"
        if number < cases:
            _save(folder / "imagesTr" / name, image, affine)
            _save(folder / "labelsTr" / name, label, affine)
            training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        else:
            _save(folder / "imagesTs" / name, image, affine)
            test.append(f"./imagesTs/{name}")
    content = {
        "name": NAME,
        "description": DESCRIPTION,
        "synthetic": True,
        "reference": "medseg.data.phantom",
        "licence": "CC0-1.0",
        "tensorImageSize": "4D",
        "modality": {str(index): name for index, name in enumerate(MODALITIES)},
        "labels": {str(value): name for name, value in CLASSES.items()},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    description.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def draw_case(
    rng: np.random.Generator, shape: Sequence[int], *, enhancing: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One synthetic head: image int16 (*shape, 4), label uint8 (*shape), affine (4, 4) in mm, RAS+."""
    size = tuple(int(length) for length in shape)
    spacing = FIELD_OF_VIEW_MM / size * rng.uniform(0.96, 1.04, 3)
    index = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in size), indexing="ij"))
    scanner = index * spacing[:, None, None, None]  # (3, *shape) mm from the centre, RAS
    pose = _rotation(rng.uniform(-8, 8, 3))
    head = np.tensordot(pose, scanner, 1) + rng.uniform(-5, 5, 3)[:, None, None, None]

    distance, centre = _tumour(rng, head)
    away = head - centre[:, None, None, None]
    head = head - 0.25 * away * np.exp(-(distance**2) / 2)  # mass effect: what was near the centre now lies further out
    tissue = _anatomy(rng, head)
    label = _tumour_label(rng, distance, tissue, enhancing)
    image = _scan(rng, tissue, label, distance)

    affine = np.eye(4)
    affine[:3, :3] = _rotation(rng.uniform(-3, 3, 3)) * spacing  # a slightly oblique scan
    affine[:3, 3] = rng.uniform(-10, 10, 3) - affine[:3, :3] @ (np.array(size) - 1) / 2
    # Scanners store axes in either direction: arrays differ, the world does not.
    for axis in np.flatnonzero(rng.random(3) < (0.4, 0.4, 0.1)).tolist():
        image, label = np.flip(image, axis), np.flip(label, axis)
        affine[:3, 3] += affine[:3, axis] * (size[axis] - 1)
        affine[:3, axis] *= -1
    return np.ascontiguousarray(image), np.ascontiguousarray(label), affine


def _anatomy(rng: np.random.Generator, head: np.ndarray) -> np.ndarray:
    """Tissue codes (*shape) of a head without tumour, at positions `head` (3, *shape) in mm from its centre."""
    size = head.shape[1:]
    head = head + np.stack([_field(rng, size, 5) * 4 for _ in range(3)])  # nobody is an ellipsoid
    x, y, z = head

    def ellipsoid(centre: Sequence[float], half_axes: Sequence[float]) -> np.ndarray:
        return sum(((p - c) / a) ** 2 for p, c, a in zip((x, y, z), centre, half_axes, strict=True)) ** 0.5

    size_of_head = HEAD_MM * rng.uniform(0.94, 1.03, 3)
    depth = (1 - ellipsoid((0, 0, 0), list(size_of_head))) * size_of_head.mean()  # mm under the skin, nearly
    folds = _field(rng, size, max(6, min(size) // 2))  # gyri of about 10 mm
    tissue = np.full(size, CODE["outside"], np.uint8)
    tissue[depth > 12] = CODE["csf"]
    tissue[depth + 1.5 * folds > 14] = CODE["grey"]
    tissue[depth + 6 * folds > 20] = CODE["white"]
    tissue[(np.abs(x) < 2.5) & (depth > 12) & ((z > 28) | (np.abs(y) > 42))] = CODE["csf"]  # the fissure
    behind = ellipsoid((0, -48, -42), (46, 26, 22))
    tissue[(behind < 1.12) & (depth > 12)] = CODE["csf"]
    tissue[(behind < 1) & (depth > 13)] = np.where(folds > 0, CODE["grey"], CODE["white"])[(behind < 1) & (depth > 13)]
    tissue[(ellipsoid((0, -20, -50), (12, 13, 40)) < 1) & (depth > 13)] = CODE["white"]  # brain stem
    width = rng.uniform(0.8, 1.5)  # of the ventricles
    for side in (-1, 1):
        tissue[ellipsoid((side * 24, 2, -2), (9, 22, 13)) < 1] = CODE["deep_grey"]
        rim = ellipsoid((side * 12, -6 - np.abs(z - 12) / 3, 12), (7 * width, 34, 9 * width))
        tissue[(rim < 1.2) & (_field(rng, size, 10) > 0.6)] = CODE["lesion"]
        tissue[rim < 1] = CODE["csf"]
    lesion = ndimage.gaussian_filter((rng.random(size) < 6 / 48**3).astype(np.float32), 0.9)
    tissue[(lesion > 0.02) & (tissue == CODE["white"])] = CODE["lesion"]
    sinus = np.hypot(x, depth - 15) < 4.5
    tissue[sinus & (z > -10)] = CODE["vessel"]
    vessel = ellipsoid((0, 18, -26), (3.5, 3.5, 26)) < 1
    arteries = np.hypot(y - 14 - 4 * np.sin(x / 12), z + 22 - np.abs(x) / 4) < 3.2
    tissue[vessel | (arteries & (np.abs(x) < 46))] = CODE["vessel"]
    return tissue


def _tumour(rng: np.random.Generator, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tumour is: an irregular distance (*shape), 1 at its edge, and its centre (3,) in mm."""
    direction = rng.normal(size=3) * (1, 1, 0.6) + (0, 0, 0.35)
    centre = direction / np.linalg.norm(direction) * HEAD_MM * rng.uniform(0.25, 0.5)
    radius = rng.uniform(22, 32) * rng.uniform(0.85, 1.15, 3)
    away = np.tensordot(_rotation(rng.uniform(-90, 90, 3)), head - centre[:, None, None, None], 1)
    distance = np.sqrt(sum((a / r) ** 2 for a, r in zip(away, radius, strict=True)))
    return distance * np.exp(0.14 * _field(rng, head.shape[1:], 7)), centre


def _tumour_label(rng: np.random.Generator, distance: np.ndarray, tissue: np.ndarray, enhancing: bool) -> np.ndarray:
    """Label (*shape): oedema spreads through white and grey matter, the core lies in it, its rim or lobes enhance."""
    size = distance.shape
    brain = np.isin(tissue, [CODE[name] for name in ("grey", "white", "deep_grey", "lesion")])
    core = (tissue != CODE["outside"]) & (distance * np.exp(0.08 * _field(rng, size, 9)) < rng.uniform(0.6, 0.75))
    spread = np.where(tissue == CODE["white"], 1.0, 0.92)
    label = (brain & (distance < spread)).astype(np.uint8)
    label[core] = 2
    inner = distance * np.exp(0.3 * _field(rng, size, 8)) < rng.uniform(0.34, 0.52)
    if enhancing:
        label[core & ~inner] = 3
    if not label.any():  # a tumour that fell on CSF only: possible in tiny volumes
        label[np.unravel_index(distance.argmin(), size)] = 2
    parts, count = ndimage.label(label > 0)
    if count > 1:  # crumbs cut off by a sulcus: no annotator would draw them
        label[parts != np.bincount(parts[parts > 0]).argmax()] = 0
    return label


def _scan(rng: np.random.Generator, tissue: np.ndarray, label: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The image (*shape, 4) int16 that four sequences make of the tissues: own contrast, blur, bias field and noise."""
    size = tissue.shape
    tumour = np.array([0, CODE["oedema"], CODE["core"], CODE["enhancing"]])
    drawn = np.where(label > 0, tumour[label], tissue)
    # Oedema fades into the tissue around it; the core replaces it.
    share = np.where(label == 1, np.clip(1.3 - 0.6 * distance, 0.6, 0.95), 1.0)
    texture, patchy = _field(rng, size, 12), _field(rng, size, 10)
    channels = []
    for modality in range(len(MODALITIES)):
        values = np.array([TISSUES[name][modality] for name in TISSUES])
        values = values * rng.normal(1, 0.05, len(values))
        ideal = share * values[drawn] + (1 - share) * values[tissue]
        ideal = ideal * (1 + 0.05 * texture)
        ideal = np.where(label > 0, ideal * (1 + 0.10 * patchy), ideal)  # tumours are uneven
        ideal = ndimage.gaussian_filter(ideal, rng.uniform(0.35, 0.6))  # point spread: partial volume
        ideal = ideal * np.exp(0.15 * _field(rng, size, 3))  # receive coil: smooth bias
        noise = rng.uniform(0.02, 0.04)
        magnitude = np.hypot(ideal + rng.normal(0, noise, size), rng.normal(0, noise, size))  # Rician
        channels.append(
            np.where(tissue == CODE["outside"], 0, magnitude) * rng.lognormal(np.log(600), 0.5)
        )  # arbitrary units
    return np.clip(np.ceil(np.stack(channels, -1)), 0, np.iinfo(np.int16).max).astype(np.int16)


def _field(rng: np.random.Generator, size: tuple[int, ...], knots: int) -> np.ndarray:
    """A smooth random field (*size) with mean 0 and standard deviation 1, about `knots` bumps an axis."""
    field = rng.normal(size=(knots,) * len(size))
    for length in size:  # bell curves around the knots, axis by axis; tensordot moves the finished axis to the end
        offset = np.linspace(0, knots - 1, length)[:, None] - np.arange(knots)
        field = np.tensordot(field, np.exp(-(offset**2)), (0, 1))
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def _rotation(degrees: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3): about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = b"SYNTHETIC phantom, no patient data (medseg)"
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)
