"""How a chain of U-Turns forgets where it began: correlations over turns, and what they are worth.

For Gaussian data mode k of the output is ``y = K x + sqrt(lambda (1 - K^2)) xi`` with ``K = lambda
/ (lambda + sigma_u^2)``: a chain is an autoregression of order one, AR(1), with coefficient K
(U-Turn chains, arXiv 2605.27006, our reading).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, Estimate, bootstrap_ratio


def gaussian_relaxation(eigenvalues: Tensor, sigma: float, turns: int) -> np.ndarray:
    """``sum lambda K^k / sum lambda`` (1 + turns,): the correlation after k U-Turns, Gaussian data.

    ``eigenvalues`` (D,) of the modes looked at. Errors of ``checks`` for a negative sigma or a
    number of turns below 1.
    """
    sigma, turns = checks.noise_level("sigma", sigma), checks.positive_int("turns", turns)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    kept = values / (values + sigma**2).clamp(min=1e-300)
    powers = kept ** torch.arange(turns + 1)[:, None]
    return ((values * powers).sum(1) / values.sum()).numpy()


def equivalent_level(variance: float, sigma: float, turns: int) -> float:
    """The level of the one U-Turn that does to a mode what ``turns`` of them at ``sigma`` do.

    From ``K(sigma')= K(sigma)^n``: ``sigma'^2 = lambda ((1 + sigma^2 / lambda)^n - 1)``, which is n
    sigma^2 for a strong mode (Brownian motion) and far more for a weak one. Our derivation.
    """
    turns = checks.positive_int("turns", turns)
    if not variance > 0:
        raise ValueError(f"variance = {variance} must be positive")
    ratio = checks.noise_level("sigma", sigma) ** 2 / variance
    return float(np.sqrt(variance * np.expm1(turns * np.log1p(ratio))))


def relaxation(
    coordinates: Tensor, seed: int = 0, confidence: float = CONFIDENCE
) -> list[Estimate]:
    """Correlation after 0, 1, ... turns of ``coordinates`` (1 + turns, N, F), centred, of N chains.

    ``sum <a_0, a_k> / sum |a_0|^2``, with a bootstrap interval over chains.
    """
    a = torch.as_tensor(coordinates).double()
    if a.ndim != 3 or a.shape[1] < 2:
        raise ValueError(
            f"coordinates has shape {tuple(a.shape)}; (1 + turns, chains, coordinates) with at "
            "least 2 chains is needed"
        )
    own = (a[0] ** 2).sum(1)
    return [bootstrap_ratio((a[0] * state).sum(1), own, seed, confidence) for state in a]


def drift(coordinates: Tensor, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """``log sum |a_k|^2 / sum |a_0|^2``, k the second half of the turns: 0 for a stationary chain.

    ``coordinates`` as in :func:`relaxation`.
    """
    squares = (torch.as_tensor(coordinates).double() ** 2).sum(2)  # (1 + turns, N)
    later = squares[(len(squares) + 1) // 2 :].mean(0)
    ratio = bootstrap_ratio(later, squares[0], seed, confidence)
    return Estimate(*(float(np.log(v)) for v in (ratio.value, ratio.low, ratio.high)))


def sampling_gain(correlation: Estimate, calls: float, free_calls: float) -> Estimate:
    """Effective samples per network call of a chain, over those of free generation.

    ``(free_calls / calls) (1 - rho) / (1 + rho)``: a chain whose correlation falls like ``rho^k``
    is worth ``(1 - rho) / (1 + rho)`` independent samples a turn (the integrated autocorrelation
    time of an AR(1)). ``correlation``: rho after one turn; ``calls`` of one turn.
    """
    if not (calls > 0 and free_calls > 0):
        raise ValueError(f"calls = {calls}, free_calls = {free_calls}: both must be positive")

    def gain(rho: float) -> float:
        rho = min(max(rho, -0.999), 1.0)
        return free_calls / calls * (1 - rho) / (1 + rho)

    return Estimate(gain(correlation.value), gain(correlation.high), gain(correlation.low))


def excess_agreement(kept: Estimate, classes: int) -> Estimate:
    """The correlation of the class from its retention c: ``(c - 1/K) / (1 - 1/K)``, K classes."""
    chance = 1 / checks.positive_int("classes", classes, minimum=2)
    values = ((c - chance) / (1 - chance) for c in (kept.value, kept.low, kept.high))
    return Estimate(*values)
