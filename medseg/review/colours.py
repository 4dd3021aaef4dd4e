"""One colour a target, the same in overlays, curves and tables, told apart by colour-blind eyes too."""

from __future__ import annotations

from medseg.core.labels import Labels

# Okabe & Ito (2008), "Color universal design", the ones that stand out on grey tissue first.
PALETTE = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)


def target_colours(targets: list[str], labels: Labels | None = None) -> dict[str, tuple[float, float, float]]:
    """Target -> (red, green, blue), 0 to 1: the data set's own colours where it has them, else the palette's."""
    own = {} if labels is None else labels.colours
    colours = {name: own.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(targets)}
    return {name: (red / 255, green / 255, blue / 255) for name, (red, green, blue) in colours.items()}
