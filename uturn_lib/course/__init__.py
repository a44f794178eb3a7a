"""The course: checks of the exercises of notebooks/course, and what writes its student versions.

A check ``check_...(answer)`` compares with a closed form and says right, or what kind of error it
is, and never the answer.
"""

from .lesson1 import (
    check_add_noise,
    check_gaussian_denoiser,
    check_mixture_denoiser,
    check_score,
    check_sde_sampler,
    check_spreads,
)
from .lesson2 import (
    check_correlations,
    check_exact_turn,
    check_gaussian_correlation,
    check_identity_ratio,
    check_turn_kernel,
    check_u_turn,
)
from .lesson3 import (
    check_bootstrap_means,
    check_class_retention,
    check_identity_retention,
    check_information,
    check_memorising_denoiser,
    check_two_scales,
)
from .lesson4 import (
    check_affine_guess,
    check_best_line,
    check_g_start,
    check_heun,
    check_unexplained,
    check_verdict,
)

__all__ = [
    "check_add_noise",
    "check_affine_guess",
    "check_best_line",
    "check_bootstrap_means",
    "check_class_retention",
    "check_correlations",
    "check_exact_turn",
    "check_g_start",
    "check_gaussian_correlation",
    "check_gaussian_denoiser",
    "check_heun",
    "check_identity_ratio",
    "check_identity_retention",
    "check_information",
    "check_memorising_denoiser",
    "check_mixture_denoiser",
    "check_score",
    "check_sde_sampler",
    "check_spreads",
    "check_turn_kernel",
    "check_two_scales",
    "check_u_turn",
    "check_unexplained",
    "check_verdict",
]
