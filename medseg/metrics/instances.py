"""Single objects of Cityscapes: how much of each was found, which the instance-level IoU (iIoU) is made of.

`instanceIds` holds 1000 x class + number for single objects, and the class itself for everything else: groups ("a crowd
of people") are no objects and count neither as found nor as missed (Cordts et al. 2016, section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FIRST = 1000  # what is not larger is a class, not an object


@dataclass(frozen=True)
class Instance:
    """One object of the truth: its class, its pixels, those found as its class, and as any class of its category."""

    value: int
    pixels: int
    found: int
    found_category: int


def count_instances(instances: np.ndarray, prediction: np.ndarray, categories: Mapping[int, str]) -> list[Instance]:
    """Every object of one image, by number.

    Args:
        instances: map of instanceIds, below 65536.
        prediction: uint8 map of classes, of the same shape.
        categories: value of a class -> its category.
    """
    places = np.flatnonzero(instances.ravel() > FIRST)
    numbers, classes = instances.ravel()[places].astype(np.int64), prediction.ravel()[places]
    names = sorted(set(categories.values()))
    index = np.full(256, -1, dtype=np.int16)  # a class without category is in the category of no object
    for value, name in categories.items():
        index[value] = names.index(name)
    own = numbers // FIRST
    right = classes == own
    near = index[classes] == index[own]
    length = int(numbers.max(initial=0)) + 1
    pixels, found, found_category = (
        np.bincount(chosen, minlength=length) for chosen in (numbers, numbers[right], numbers[near])
    )
    return [
        Instance(int(number) // FIRST, int(pixels[number]), int(found[number]), int(found_category[number]))
        for number in np.flatnonzero(pixels)
    ]
