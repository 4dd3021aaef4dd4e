"""How data sets lie on disk: one file a layout, and the table that names them.

Where a config or a command says `auto`, the layouts are asked in the order of the table. Those of other packages (entry
points of the group `medseg.layouts`) are asked only where they are named.
"""

from medseg.core.parts import Table

LAYOUTS = Table(
    "layout",
    "medseg.layouts",
    {
        "csv": "medseg.data.cases.layouts.lists:CSVList",
        "msd": "medseg.data.cases.layouts.msd:Decathlon",
        "nnunet": "medseg.data.cases.layouts.nnunet:NNUNetRaw",
        "bids": "medseg.data.cases.layouts.bids:BIDS",
        "volumes": "medseg.data.cases.layouts.volumes:Volumes",
        "voc": "medseg.data.cases.layouts.voc:VOC",
        "cityscapes": "medseg.data.cases.layouts.cityscapes:Cityscapes",
        "ade20k": "medseg.data.cases.layouts.ade20k:ADE20K",
        "camvid": "medseg.data.cases.layouts.camvid:CamVid",
        "pairs": "medseg.data.cases.layouts.pairs:PicturePairs",
    },
)
AUTO = "auto"
"""In the place of a name: whichever layout the data set has."""
