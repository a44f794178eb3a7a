"""Noise levels. Ours is sigma: x = x_0 + sigma eps, images in [-1, 1].

Since sigma(t) = t (Karras et al. 2022), sigma is also the time of the reverse process. Other time
variables are converted here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .support import checks

SIGMA_MIN = 0.002
RHO = 7.0

# noise dominates images in [-1, 1] above this level: the grid of the reverse SDE is sparse there
SIGMA_DROWNED = 80.0
LAST_LEVEL = 0.32  # times 1 / steps: the last level above 0 of the reverse SDE with few steps


def karras_sigmas(
    steps: int, sigma_max: float, sigma_min: float = SIGMA_MIN, rho: float = RHO
) -> Tensor:
    """Noise levels of a reverse process with ``steps`` steps, float64, decreasing, of length
    ``steps + 1``.

    ``sigma_i = (sigma_max^(1/rho) + i/(steps-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho`` for
    i < steps, then 0 (Karras et al. 2022, Eq. 5). The first is exactly ``sigma_max``; with one step
    the grid is [sigma_max, 0]. Raises ``ValueError`` unless steps >= 1 and 0 < sigma_min <
    sigma_max and rho > 0.
    """
    steps = checks.positive_int("steps", steps)
    sigma_max = checks.noise_level("sigma_max", sigma_max, allow_zero=False)
    sigma_min = checks.noise_level("sigma_min", sigma_min, allow_zero=False)
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min = {sigma_min:g} must be below sigma_max = {sigma_max:g}")
    if not rho > 0:
        raise ValueError(f"rho = {rho} must be positive")
    ramp = (
        torch.linspace(0, 1, steps, dtype=torch.float64)
        if steps > 1
        else torch.zeros(1, dtype=torch.float64)
    )
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])
    sigmas[0] = sigma_max  # the power and its root do not cancel to the last bit
    return sigmas


def turn_sigmas(
    steps: int, sigma_u: float, sigma_min: float = SIGMA_MIN, rho: float = RHO
) -> Tensor:
    """Grid of a reverse leg from ``sigma_u``; [sigma_u, 0] for sigma_u <= sigma_min."""
    if sigma_u <= sigma_min:
        return karras_sigmas(1, sigma_u, sigma_min=sigma_u / 2)
    return karras_sigmas(steps, sigma_u, sigma_min, rho)


def proportional_steps(
    sigma_u: float,
    full_steps: int,
    sigma_max: float = 80.0,
    sigma_min: float = SIGMA_MIN,
    rho: float = RHO,
    least: int = 6,
) -> int:
    """Number of steps from ``sigma_u`` at the density of ``full_steps`` from ``sigma_max``.

    The Karras grid is uniform in sigma^(1/rho), so the number is proportional to sigma_u^(1/rho) -
    sigma_min^(1/rho); at least ``least``.
    """
    checks.positive_int("full_steps", full_steps)
    sigma_u = checks.noise_level("sigma_u", sigma_u, highest=sigma_max)
    way, whole = (max(0.0, s ** (1 / rho) - sigma_min ** (1 / rho)) for s in (sigma_u, sigma_max))
    return max(min(least, full_steps), math.ceil(full_steps * way / whole - 1e-9))


def reverse_sde_sigmas(
    steps: int,
    sigma_u: float,
    sigma_min: float = SIGMA_MIN,
    rho: float = RHO,
    sigma_drowned: float = SIGMA_DROWNED,
) -> Tensor:
    """Grid of the reverse SDE from ``sigma_u`` to 0: :func:`turn_sigmas` with two changes (ours).

    The last level above 0 is ``max(sigma_min, min(LAST_LEVEL, sigma_u / 2) / steps)``: with few
    steps, smaller levels are not worth their calls. The spacing is that of a Karras grid in ``sigma
    / (1 + sigma / sigma_drowned)``: steps are long where noise dominates the data.
    """
    lowest = max(sigma_min, min(LAST_LEVEL, sigma_u / 2) / checks.positive_int("steps", steps))
    if steps == 1 or sigma_u <= lowest:
        return turn_sigmas(1, sigma_u, sigma_min)
    highest, last = (sigma / (1 + sigma / sigma_drowned) for sigma in (sigma_u, lowest))
    spaced = karras_sigmas(steps, highest, last, rho)
    sigmas = spaced / (1 - spaced / sigma_drowned)
    sigmas[0] = sigma_u
    return sigmas


def vp_time_to_sigma(time):
    """Variance-preserving time t to sigma = sqrt(e^2t - 1); arrays allowed.

    The process is x = e^-t x_0 + sqrt(1 - e^-2t) eps.
    """
    return np.sqrt(np.expm1(2 * np.asarray(time, dtype=float)))


def sigma_to_vp_time(sigma):
    """Inverse of :func:`vp_time_to_sigma`: t = log(1 + sigma^2) / 2."""
    return np.log1p(np.asarray(sigma, dtype=float) ** 2) / 2


def ddpm_sigmas(steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02) -> np.ndarray:
    """sigma = sqrt((1 - abar) / abar) of DDPM steps 1 .. ``steps``, linear schedule (Ho et al.
    2020)."""
    steps = checks.positive_int("steps", steps)
    log_alpha_bar = np.cumsum(np.log1p(-np.linspace(beta_first, beta_last, steps)))
    return np.sqrt(np.expm1(-log_alpha_bar))


def ddpm_step_to_sigma(step, **schedule):
    """DDPM step (real, 0 .. 1000; 0 is clean data) to sigma, linear in log(1 + sigma^2)."""
    sigmas = np.concatenate([[0.0], ddpm_sigmas(**schedule)])
    return vp_time_to_sigma(np.interp(step, np.arange(len(sigmas)), sigma_to_vp_time(sigmas)))


def sigma_to_ddpm_step(sigma, **schedule):
    """Inverse of :func:`ddpm_step_to_sigma`."""
    sigmas = np.concatenate([[0.0], ddpm_sigmas(**schedule)])
    return np.interp(sigma_to_vp_time(sigma), sigma_to_vp_time(sigmas), np.arange(len(sigmas)))
