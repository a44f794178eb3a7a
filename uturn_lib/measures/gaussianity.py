"""Kolmogorov-Smirnov test of each coordinate against a fitted normal distribution."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..support import checks

AUTHORS_THRESHOLD = 0.06


def ks_statistic(samples: Tensor) -> Tensor:
    """Kolmogorov-Smirnov distance of each coordinate to the normal of its own mean and standard
    deviation.

    ``samples`` (N, ...) -> (...), float64, in [0, 1]. ``sup_x |F_N(x) - Phi((x - mean) / std)|``
    with std over N (the maximum likelihood fit, as in the authors' scripts). A constant coordinate
    has no fitted normal; its statistic is 1. Raises ``ValueError`` for fewer than 3 samples or NaN.
    """
    checks.samples("samples", samples)
    count = len(samples)
    if count < 3:
        raise ValueError(f"samples has {count} rows; at least 3 are needed to fit a normal")
    if not torch.isfinite(samples).all():
        raise ValueError("samples holds NaN or infinite values")
    # (D, N): the values of a coordinate are contiguous
    rows = samples.detach().flatten(1).T.cpu().contiguous()
    # NumPy sorts short rows with vector instructions
    values = torch.from_numpy(np.sort(rows.numpy(), axis=1))
    eps = torch.finfo(samples.dtype).eps
    distances = [_ks_of_sorted(block.double(), eps) for block in values.split(1024)]
    return torch.cat(distances).reshape(samples.shape[1:]).to(samples.device)


def _ks_of_sorted(ordered: Tensor, rounding: float) -> Tensor:
    """Statistic (D,) of sorted rows (D, N); blocks of rows fit the processor's cache."""
    count = ordered.shape[1]
    centred = ordered - ordered.mean(1, keepdim=True)
    std = centred.square().mean(1, keepdim=True).sqrt()
    # Values that differ by rounding only are a constant.
    constant = std[:, 0] <= 4 * rounding * ordered[:, (0, -1)].abs().amax(1)
    fitted = centred.div_(std.clamp(min=1e-300) * math.sqrt(2)).erf_().add_(1).div_(2)
    below = torch.arange(count, dtype=torch.float64) / count
    distance = torch.maximum((below + 1 / count - fitted).amax(1), (fitted - below).amax(1))
    return distance.where(~constant, torch.ones_like(distance))


def ks_fraction(samples: Tensor, threshold: float = AUTHORS_THRESHOLD) -> float:
    """Fraction of coordinates of ``samples`` (N, ...) whose KS statistic exceeds ``threshold``
    (0.06: the authors' rule at N = 256).

    A threshold means something only together with N: 0.06 at N = 256 is exceeded by 2.6 % of truly
    Gaussian coordinates. For a rule with a stated rate use ``lilliefors_threshold(N, level)``.
    """
    return float((ks_statistic(samples) > threshold).double().mean())


@lru_cache(maxsize=32)
def lilliefors_threshold(
    count: int, level: float = 0.05, draws: int = 40_000, seed: int = 0
) -> float:
    """KS threshold exceeded by a fraction ``level`` of Gaussian coordinates (mean and std fitted).

    Simulated with ``draws`` coordinates of ``count`` samples (Lilliefors 1967); the error of the
    level is sqrt(level (1 - level) / draws), 0.1 % at 5 %.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level} must lie between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    statistics = ks_statistic(torch.randn(count, draws, generator=generator))
    return float(statistics.quantile(1 - level))
