"""Random changes of a training batch, one file each.

A transform is a class that derives from `Spatial` or `Intensity` (`base.py`). What its arguments are called, their
defaults, bounds and descriptions are those of keys of `augmentation` in a config, all transforms' beside one another:
so a name begins with what its transform is called. They take place in the order of the table, the spatial ones first,
as one interpolation. Each draws from a stream of its own, by its name here: adding, removing or moving one leaves what
the others draw as it is.

Installed packages bring more by entry points of the group `medseg.transforms`. To know their options their code has to
be imported, which takes seconds where it imports torch. So these are no keys of `augmentation` themselves: a config
names a package's transform, with its options, in `augmentation.plugins`, and only what is named there is looked for.
"""

from __future__ import annotations

from medseg.core.parts import Table

TRANSFORMS = Table(
    "transform",
    "medseg.transforms",
    {
        "rotation": "medseg.data.training.augment.rotation:Rotation",
        "scale": "medseg.data.training.augment.scale:Scale",
        "stretch": "medseg.data.training.augment.stretch:Stretch",
        "shift": "medseg.data.training.augment.shift:Shift",
        "flip": "medseg.data.training.augment.flip:Flip",
        "bend": "medseg.data.training.augment.bend:Bend",
        "blur": "medseg.data.training.augment.blur:Blur",
        "low_resolution": "medseg.data.training.augment.low_resolution:LowResolution",
        "noise": "medseg.data.training.augment.noise:Noise",
        "brightness": "medseg.data.training.augment.brightness:Brightness",
        "contrast": "medseg.data.training.augment.contrast:Contrast",
        "gamma": "medseg.data.training.augment.gamma:Gamma",
    },
)
