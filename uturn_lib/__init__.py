"""U-Turn diffusion: the library behind the notebooks. See README.md for the map of the house."""

import warnings

# Libraries that ask tqdm for its notebook widget warn when ipywidgets is absent; the text bar serves as well.
warnings.filterwarnings("ignore", message="IProgress not found")

from . import measures
from .data import ImageSet, load_data
from .denoisers import (
    ClassConditional,
    Denoiser,
    EmpiricalDenoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    noise_prediction,
    score,
    velocity,
)
from .networks import load_classifier, load_denoiser
from .noise import karras_sigmas
from .profiles import Profile, load_profile
from .sampling import Churn, Step, reverse
from .uturn import UTurn, artificial_start, g_turn, u_turn

__version__ = "0.1.0"
__all__ = [
    "Churn",
    "ClassConditional",
    "Denoiser",
    "EmpiricalDenoiser",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "ImageSet",
    "Profile",
    "Step",
    "UTurn",
    "artificial_start",
    "g_turn",
    "karras_sigmas",
    "load_classifier",
    "load_data",
    "load_denoiser",
    "load_profile",
    "measures",
    "noise_prediction",
    "reverse",
    "score",
    "u_turn",
    "velocity",
]
