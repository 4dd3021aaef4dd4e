"""How medseg draws with Matplotlib: what people call their classes and cases is shown as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PLAIN: dict[str, Any] = {"text.parse_math": False, "text.usetex": False}


@contextmanager
def plain_text(**style: Any) -> Iterator[None]:
    """A drawing, from its first text to the saved file, in which no text is mathematics (`$`) or TeX.

    Args:
        style: further settings of Matplotlib, dots as two underscores.
    """
    import matplotlib

    settings: Any = {name.replace("__", "."): value for name, value in style.items()} | PLAIN
    with matplotlib.rc_context(settings):
        yield


def name_legend(owner: Any, handles: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A legend of an axis or a figure; Matplotlib itself would leave out names that begin with an underscore."""
    legend = owner.legend(handles, [str(number) for number in range(len(names))], **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
