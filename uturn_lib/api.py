"""The public names of the library. ``uturn_lib`` loads this file when one of them is first used."""

from . import measures
from .claims import Ledger
from .data import ImageSet, load_data
from .denoisers import (
    ClassConditional,
    Denoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    noise_prediction,
    score,
    velocity,
)
from .empirical import EmpiricalDenoiser
from .local import LocalDenoiser
from .methods import Churn, Step
from .networks import load_classifier, load_denoiser, load_noise_classifier
from .noise import karras_sigmas
from .profiles import Profile, load_profile
from .sampling import Sampler, reverse
from .uturn import UTurn, artificial_start, g_turn, u_turn

__all__ = [
    "Churn",
    "ClassConditional",
    "Denoiser",
    "EmpiricalDenoiser",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "ImageSet",
    "Ledger",
    "LocalDenoiser",
    "Profile",
    "Sampler",
    "Step",
    "UTurn",
    "artificial_start",
    "g_turn",
    "karras_sigmas",
    "load_classifier",
    "load_data",
    "load_denoiser",
    "load_noise_classifier",
    "load_profile",
    "measures",
    "noise_prediction",
    "reverse",
    "score",
    "u_turn",
    "velocity",
]
