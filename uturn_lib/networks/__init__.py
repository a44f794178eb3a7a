"""Trained denoisers and classifiers.

``unet``: our own; ``edm``: NVIDIA's EDM files; ``diffusers_format``: DDPM models of diffusers;
``base``: what they share; ``loader`` picks the kind. Loading a checkpoint runs no code from it.
"""

from .base import NetworkDenoiser, accelerate, accelerated_fingerprint
from .checkpoints import find_checkpoint
from .classifier import Classifier, load_classifier, save_classifier
from .loader import load_denoiser, shipped_fingerprint
from .noise_classifier import (
    CalibratedClassifier,
    NoiseClassifier,
    load_noise_classifier,
    save_noise_classifier,
)
from .unet import EDMDenoiser, make_unet, save_denoiser

__all__ = [
    "CalibratedClassifier",
    "Classifier",
    "EDMDenoiser",
    "NetworkDenoiser",
    "NoiseClassifier",
    "accelerate",
    "accelerated_fingerprint",
    "find_checkpoint",
    "load_classifier",
    "load_denoiser",
    "load_noise_classifier",
    "make_unet",
    "save_classifier",
    "save_denoiser",
    "save_noise_classifier",
    "shipped_fingerprint",
]
