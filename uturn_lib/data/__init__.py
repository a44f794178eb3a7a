"""Named data sets as tensors in [-1, 1], the archives they come from, and verified downloads."""

from .sets import ImageSet, load_data

__all__ = ["ImageSet", "load_data"]
