"""U-Turn diffusion: the library behind the notebooks. docs/house.md shows where everything is.

Threads: OpenMP threads that wait for one another spin by default. On a machine that does other work as well, the cores that they burn make
every small tensor operation many times slower. So this package sets ``GOMP_SPINCOUNT`` (a waiting thread soon goes to sleep), unless the user
has set it or ``OMP_WAIT_POLICY``. GNU's OpenMP, which torch uses on Linux, reads it once, when torch is loaded: it has no effect where torch was
imported before ``uturn_lib``, as in a notebook that was not started by ``make``. Then set it in the shell. Other systems have another OpenMP.
"""

import os
import warnings

if "OMP_WAIT_POLICY" not in os.environ:
    # Seen with two processes of two threads each on two crowded cores: 9 calls of the digits network per second in each, against 0.5 with
    # 20000 or with libgomp's own 300000. Sleeping at once (0) is faster still there, and costs a tenth to a third of the speed on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Libraries that ask tqdm for its notebook widget warn when ipywidgets is absent; the text bar serves as well.
warnings.filterwarnings("ignore", message="IProgress not found")

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
from .methods import Churn, Step
from .networks import load_classifier, load_denoiser
from .noise import karras_sigmas
from .profiles import Profile, load_profile
from .sampling import Sampler, reverse
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
    "Ledger",
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
    "load_profile",
    "measures",
    "noise_prediction",
    "reverse",
    "score",
    "u_turn",
    "velocity",
]
