"""Pictures that medseg made for others say so (`Software` in a text chunk), so that it replaces only its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.data.files.pixels import opened

SOFTWARE, NAME = "Software", "medseg"


def signature() -> Any:
    """What `Pillow.save(..., format="PNG", pnginfo=...)` takes to sign a picture."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(SOFTWARE, NAME)
    return info


def is_signed(path: Path) -> bool:
    """Whether medseg made the picture; False of whatever is no picture."""
    try:
        with opened(path) as picture:
            return bool(picture.info.get(SOFTWARE) == NAME)
    except Exception:  # anything that a file can make a reader raise
        return False
