"""How long must the diffusion be?

The terms of the bound of Franzese et al. (2023, arXiv 2206.05173), with sigma as time.

``E log p_model >= E log p_data - G(T) - KL[p_T | start]``: the **score gap** G grows with T, the
divergence of p_T from the start distribution falls. With g^2 = 2 sigma and
score = (D - x) / sigma^2, ``G(T) = int_0^T E|D_model - D*|^2 sigma^-3 d sigma`` (our form of their
1/2 int g^2 E|s - s*|^2 dt).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...measures.estimate import Estimate, interval, resample_rows
from ...support import checks


def cumulative_gap(sigmas: Sequence[float], squares: Tensor | np.ndarray) -> np.ndarray:
    """G at each level, per sample (S, N), from squared distances |D_model - D*|^2 (S, N).

    ``squares`` are not negative; ``sigmas`` (S,) increase. Integrates ``squares / sigma^2`` over
    log sigma; what lies below the first level is left out. Rescales each interval so that the
    sample mean follows a power law in sigma, as such errors nearly do; the result is linear in the
    samples and never falls. Raises ``ValueError`` unless the levels increase and the squares are
    finite and not negative.
    """
    levels = np.asarray([checks.noise_level("sigmas", s, allow_zero=False) for s in sigmas])
    squares = np.asarray(squares, dtype=float)
    if (
        squares.ndim != 2
        or len(squares) != len(levels)
        or len(levels) < 2
        or not (np.diff(levels) > 0).all()
    ):
        raise ValueError(
            f"squares has shape {squares.shape}; (S, N) at S >= 2 increasing levels is needed"
        )
    if not np.isfinite(squares).all() or squares.min() < 0:
        raise ValueError(
            "squares holds NaN, infinite or negative values; for a difference subtract two gaps"
        )
    integrand = squares / levels[:, None] ** 2
    mean = integrand.mean(1)
    trapezia = np.diff(np.log(levels))[:, None] * (integrand[1:] + integrand[:-1]) / 2
    plain = np.maximum((mean[:-1] + mean[1:]) / 2, 1e-300)
    pieces = trapezia * (logarithmic_mean(mean[:-1], mean[1:]) / plain)[:, None]
    return np.concatenate([np.zeros((1, squares.shape[1])), pieces.cumsum(0)])


def kl_by_integral(sigmas: Sequence[float], squares: np.ndarray, last: float = 0.0) -> np.ndarray:
    """KL[p_T | q_T] at every level (S, N per sample) from ``|D_p - D_q|^2`` (S, N).

    The integral from T up to the last level, plus ``last``, the KL there. For two distributions
    with the same noise added, ``d KL / d sigma = -E|D_p - D_q|^2 / sigma^3`` (ours, from the heat
    equation). Integrated as :func:`cumulative_gap`, and with its errors.
    """
    below = cumulative_gap(sigmas, squares)
    return below[-1] - below + last


def logarithmic_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(b - a) / log(b / a)``: the mean of an exponential between its ends.

    The arithmetic mean where an end is 0 or both are nearly equal.
    """
    safe_a, safe_b = np.maximum(a, 1e-300), np.maximum(b, 1e-300)
    ratio = np.log(safe_b / safe_a)
    plain = (np.abs(ratio) < 1e-6) | (a <= 0) | (b <= 0)
    return np.where(plain, (a + b) / 2, (b - a) / np.where(plain, 1.0, ratio))


def gaussian_gap(
    eigenvalues: Tensor, believed: Tensor, sigma_low: float, sigma_high: float
) -> float:
    """G between two levels for Gaussian data and a Gaussian model, in closed form by mode.

    Data N(mu, lambda), model N(mu, ``believed``), same axes.
    ``E|D - D*|^2 = sum (K' - K)^2 (lambda + sigma^2)``, K = lambda / (lambda + sigma^2); the
    integral is done in v = sigma^2.
    """
    a, b = (torch.as_tensor(values, dtype=torch.float64) for values in (believed, eigenvalues))
    low, high = sigma_low**2, sigma_high**2
    # (K' - K)^2 (b + v) / v^2 = (a - b)^2 / ((a + v)^2 (b + v)),
    # and d sigma / sigma^3 = dv / (2 v^2)
    difference = a - b
    equal = difference.abs() < 1e-12 * b.clamp(min=1e-300)
    safe = torch.where(equal, torch.ones_like(difference), difference)

    def antiderivative(v: float) -> Tensor:
        return 0.5 * ((((b + v) / (a + v)).log()) + safe / (a + v))

    value = torch.where(
        equal, torch.zeros_like(difference), antiderivative(high) - antiderivative(low)
    )
    return float(value.sum())


def gaussian_kl_to_noise(eigenvalues: Tensor, sigma: float, mean_norm2: float = 0.0) -> float:
    """KL[N(mu, Sigma + sigma^2) | N(0, sigma^2)] in nats.

    ``1/2 sum (r - log(1 + r)) + |mu|^2 / (2 sigma^2)``, r = lambda / sigma^2. For large sigma it is
    ``sum lambda^2 / (4 sigma^4) + |mu|^2 / (2 sigma^2)``.
    """
    sigma = checks.noise_level("sigma", sigma, allow_zero=False)
    ratio = torch.as_tensor(eigenvalues, dtype=torch.float64) / sigma**2
    return float(0.5 * (ratio - torch.log1p(ratio)).sum() + mean_norm2 / (2 * sigma**2))


def monte_carlo_kl(log_p: Tensor, log_q: Tensor) -> Estimate:
    """KL[p | q] from log densities of the same N samples of p, with a 95 % bootstrap interval."""
    differences = (torch.as_tensor(log_p) - torch.as_tensor(log_q)).double().numpy()
    if differences.ndim != 1 or len(differences) < 2:
        raise ValueError(
            f"log_p and log_q have shape {differences.shape}; (N,) with N >= 2 is needed"
        )
    means = np.concatenate([differences[rows].mean(1) for rows in resample_rows(len(differences))])
    return Estimate(float(differences.mean()), *interval(means))


def optimal_time(
    sigmas: Sequence[float], gap: np.ndarray, kl: np.ndarray, seed: int = 0
) -> Estimate:
    """The level that minimises ``mean gap + kl``, with a 95 % bootstrap interval.

    ``gap`` (S, N) from :func:`cumulative_gap`; ``kl`` (S,) known, (S, N) of the same samples
    (resampled together), or (S, M) of M others. On a grid the answer is one of its levels.
    """
    levels, gap = np.asarray(sigmas, dtype=float), np.asarray(gap, dtype=float)
    kl = np.asarray(kl, dtype=float)
    kl = kl[:, None] if kl.ndim == 1 else kl
    if len(gap) != len(levels) or len(kl) != len(levels):
        raise ValueError(f"gap has {len(gap)} and kl {len(kl)} levels; {len(levels)} are needed")
    random, count, many = np.random.default_rng(seed), gap.shape[1], kl.shape[1]
    found = []
    for _ in range(500):
        rows = random.integers(count, size=count)
        others = rows if many == count else random.integers(many, size=many)
        a, b = gap[:, rows].mean(1), kl[:, others].mean(1)
        found.append(levels[int((a + b).argmin())])
    best = levels[int((gap.mean(1) + kl.mean(1)).argmin())]
    return Estimate(float(best), *interval(np.array(found)))
