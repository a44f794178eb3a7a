"""Prasad et al. (2023): what the parts of the U-Net do, when they can be left out."""
