"""Trained networks behind the denoiser interface: our own (``unet``), NVIDIA's EDM files (``edm``),
DDPM models of diffusers (``diffusers_format``); classifiers and feature extractors that judge
images.

``base`` is what every kind shares; ``loader`` finds out which kind a checkpoint is. Opening a
checkpoint runs no code from it.
"""

from .base import NetworkDenoiser, accelerate, accelerated_fingerprint
from .checkpoints import find_checkpoint
from .classifier import Classifier, load_classifier, save_classifier
from .loader import load_denoiser, shipped_fingerprint
from .unet import EDMDenoiser, make_unet, save_denoiser

__all__ = [
    "Classifier",
    "EDMDenoiser",
    "NetworkDenoiser",
    "accelerate",
    "accelerated_fingerprint",
    "find_checkpoint",
    "load_classifier",
    "load_denoiser",
    "make_unet",
    "save_classifier",
    "save_denoiser",
    "shipped_fingerprint",
]
