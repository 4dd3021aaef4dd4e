"""What a short command imports: MONAI, without what it could use beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BESIDE_MONAI = ("matplotlib", "pydicom", "scipy.signal", "skimage", "sklearn", "tensorboard")
"""Packages that MONAI imports where they are installed, for what no prediction does."""


@contextmanager
def monai_alone() -> Iterator[None]:
    """Inside it, an import of `BESIDE_MONAI` fails, as where they are not installed; behind it, it works.

    `import monai` imports all of MONAI and whatever optional package there is: a quarter of the time until a network
    is at work. Nothing changes where packages bring parts of medseg, which may use all of MONAI.
    """
    from importlib import metadata  # `medseg --help` does without

    brought = any(group.startswith("medseg.") for group in metadata.entry_points().groups)
    left_out = [] if brought else [name for name in BESIDE_MONAI if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(left_out))  # None: what `import` takes for "there is no such module"
    try:
        yield
    finally:
        for name in left_out:
            del sys.modules[name]
