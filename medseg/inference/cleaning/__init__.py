"""Steps on a finished mask, a file each: small or stray parts are removed, holes are filled, for the targets named.

The names are keys of a config, and the order is that in which the steps are done: holes come last, since a stray part
that is removed from inside another class leaves one.
"""

from __future__ import annotations

from medseg.core.parts import Table

CLEANING = Table(
    "cleaning step",
    "medseg.cleaning",
    {
        "keep_largest_component": "medseg.inference.cleaning.largest_component:LargestComponent",
        "minimum_volume_ml": "medseg.inference.cleaning.minimum_volume:MinimumVolume",
        "minimum_total_ml": "medseg.inference.cleaning.minimum_total:MinimumTotal",
        "fill_holes": "medseg.inference.cleaning.fill_holes:FillHoles",
    },
)
