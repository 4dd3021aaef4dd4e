"""medseg: semantic segmentation in two and three dimensions, where every run is a MONAI bundle."""

__version__ = "0.1.0"
