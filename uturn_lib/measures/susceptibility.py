"""What changes together in a U-Turn: the susceptibility of the change x_0 -> y_0, and its range.

Let a_i = |y_0 - x_0|_i^2 be the change at site i: a pixel (summed over its colours), a token, a
feature. Over ground truths and noise

    chi = Var(sum_i a_i) / sum_i Var(a_i) = sum_ij Cov(a_i, a_j) / sum_i Var(a_i)

is the number of sites that change together: 1 if they change independently, their number if all
change by the same amount. That changes come in correlated blocks, whose size and susceptibility
peak where the class is lost, is how we read Sclocchi, Favero, Levi and Wyart (2024, arXiv
2410.13770): our reading; the definitions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, RESAMPLES, Estimate, interval, resampled_sums
from .peaks import peak_of_curves


def change(x0: Tensor, y0: Tensor) -> np.ndarray:
    """a (N, *sites) of ``x0``, ``y0`` (N, C, *sites): the squared change, summed over channels."""
    if x0.shape != y0.shape or x0.ndim < 3:
        raise ValueError(
            f"x0 has shape {tuple(x0.shape)}, y0 {tuple(y0.shape)}; two equal ones (N, C, *sites) "
            "are needed"
        )
    return (y0.double() - x0.double()).square().sum(1).numpy()


def susceptibility_of_moments(
    total: np.ndarray, squares: np.ndarray, sites: np.ndarray
) -> np.ndarray:
    """chi from means over samples: of (sum a)^2, of sum a^2 (both (R,)), and of each a (R, P).

    1 where nothing varies (a resample in which nothing changed).
    """
    together, alone = total - sites.sum(1) ** 2, squares - (sites**2).sum(1)
    return np.divide(together, alone, out=np.ones_like(alone), where=alone > 1e-12 * squares)


def moment_rows(changes: np.ndarray) -> np.ndarray:
    """(sum a)^2, sum a^2 and every a of each sample, (N, 2 + P), of ``changes`` (N, *sites).

    Raises ``ValueError`` where nothing varies.
    """
    flat = np.asarray(changes, dtype=float).reshape(len(changes), -1)
    if not (flat.var(0) > 0).any():
        raise ValueError("changes: no site varies over the samples, so that chi is 0 / 0")
    return np.column_stack([flat.sum(1) ** 2, (flat**2).sum(1), flat])


def chi(changes: np.ndarray) -> float:
    """chi of ``changes`` (N, *sites), without an interval."""
    means = moment_rows(changes).mean(0)[None]
    return float(susceptibility_of_moments(means[:, 0], means[:, 1], means[:, 2:])[0])


def susceptibilities(changes: np.ndarray, seed: int = 0) -> np.ndarray:
    """chi (1 + R,) of ``changes`` (N, *sites): of the data, then of bootstrap resamples of the N.

    Raises ``ValueError`` where nothing varies.
    """
    rows = moment_rows(changes)
    means = np.concatenate([rows.sum(0)[None], resampled_sums(rows, seed)]) / len(rows)
    return susceptibility_of_moments(means[:, 0], means[:, 1], means[:, 2:])


def gaussian_susceptibility(
    eigenvalues: Tensor, eigenvectors: Tensor, sigma: float, channels: int = 1
) -> float:
    """chi of Gaussian data, ``tr P^2 / sum_i |P_ii|^2`` (our derivation).

    Given x_u, x_0 and y_0 are independent draws of one Gaussian, so that y_0 - x_0 is Gaussian with
    covariance 2 P, ``P = sum_k p_k v_k v_k^T``, ``p_k = lambda_k sigma^2 / (lambda_k + sigma^2)``;
    and Cov(d_i^2, d_j^2) = 2 Cov(d_i, d_j)^2. P_ii is the block of site i, between its
    ``channels``. chi rises from 1 to that of the data: no peak. ``eigenvalues`` (D,),
    ``eigenvectors`` (D, D), in columns, of the data covariance; D = channels x sites.
    """
    sigma = checks.noise_level("sigma", sigma)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64).clamp(min=0)
    kept = values * sigma**2 / (values + sigma**2).clamp(min=1e-300)
    vectors = eigenvectors.double().reshape(channels, -1, len(values))
    own = torch.einsum("cik,dik->icd", vectors * kept, vectors)
    return float((kept**2).sum() / (own**2).sum())


@dataclass(frozen=True)
class Susceptibility:
    """chi at S levels, ``resamples`` (1 + R, S): of the data, then of bootstrap resamples."""

    sigmas: tuple[float, ...]
    resamples: np.ndarray = field(repr=False)

    @cached_property
    def curve(self) -> list[Estimate]:
        """chi at each level, with its interval over ground truths."""
        return [Estimate(float(row[0]), *interval(row[1:])) for row in self.resamples.T]

    @cached_property
    def peak(self) -> Estimate:
        """The noise level at which most changes together."""
        return peak_of_curves(self.sigmas, self.resamples)

    @cached_property
    def over_last(self) -> list[Estimate]:
        """ln chi at each level but the last, minus that at the last, where all is forgotten.

        Paired over ground truths, with intervals corrected for the number of levels.
        """
        logs = np.log(self.resamples)
        rows = (logs[:, :-1] - logs[:, -1:]).T
        confidence = 1 - (1 - CONFIDENCE) / len(rows)
        return [Estimate(float(row[0]), *interval(row[1:], confidence)) for row in rows]


def susceptibility(
    sigmas: Sequence[float], x0: Tensor, y0: Tensor, seed: int = 0
) -> Susceptibility:
    """:class:`Susceptibility` of U-Turns ``y0`` (S, N, C, *sites) of ``x0`` (N, C, *sites)."""
    if len(y0) != len(sigmas):
        raise ValueError(f"y0 has {len(y0)} levels for {len(sigmas)} sigmas")
    found = [susceptibilities(change(x0, outputs), seed) for outputs in y0]
    return Susceptibility(tuple(float(s) for s in sigmas), np.stack(found, axis=1))


# --- range


def distance_bins(height: int, width: int) -> np.ndarray:
    """Distance between two pixels, rounded, for each shift of :func:`autocorrelation`."""
    rows, columns = (np.fft.fftfreq(2 * n, 1 / (2 * n)) for n in (height, width))
    return np.hypot(rows[:, None], columns).round().astype(int)


def pair_sums(maps: np.ndarray) -> np.ndarray:
    """Sums of m_i m_j over all pairs of pixels at each rounded distance, (N, R), of ``maps``
    (N, H, W); distances up to half the shorter side."""
    height, width = maps.shape[1:]
    spectrum = np.fft.rfft2(maps, (2 * height, 2 * width))
    shifted = np.fft.irfft2(np.abs(spectrum) ** 2, (2 * height, 2 * width))
    bins, most = distance_bins(height, width), min(height, width) // 2
    return np.stack([shifted[:, bins == r].sum(1) for r in range(most + 1)], axis=1)


def correlation_by_distance(changes: np.ndarray) -> np.ndarray:
    """Correlation of the changes of two pixels at each distance 0, 1, ... (R,).

    ``sum C_ij / sum sqrt(C_ii C_jj)`` over all pairs at that distance, of ``changes`` (N, H, W): 1
    at distance 0. Pixels that never change do not count.
    """
    centred = changes - changes.mean(0)
    together = pair_sums(centred).mean(0)
    return together / pair_sums(centred.std(0)[None])[0]


def correlation_length(correlation: np.ndarray, level: float = np.exp(-1)) -> float:
    """The distance at which ``correlation`` (R,) first falls through ``level``; inf if it never
    does."""
    below = np.flatnonzero(np.asarray(correlation) < level)
    if not len(below):
        return float("inf")
    k = int(below[0])
    part = (correlation[k - 1] - level) / (correlation[k - 1] - correlation[k])
    return float(k - 1 + part)


def correlation_length_estimate(
    changes: np.ndarray, seed: int = 0, resamples: int = RESAMPLES // 5
) -> Estimate:
    """:func:`correlation_length` of ``changes`` (N, H, W), with a bootstrap interval over the N."""
    changes = np.asarray(changes, dtype=float)
    count, shape = len(changes), changes.shape[1:]
    sums = resampled_sums(np.stack([changes, changes**2], axis=1), seed, resamples)
    means = np.concatenate([np.stack([changes, changes**2], 1).sum(0)[None], sums]) / count
    pairs = pair_sums(changes)
    products = np.concatenate([pairs.sum(0)[None], resampled_sums(pairs, seed, resamples)]) / count
    spread = np.sqrt((means[:, 1] - means[:, 0] ** 2).clip(0)).reshape(-1, *shape)
    together = products - pair_sums(means[:, 0])
    found = np.array([correlation_length(row) for row in together / pair_sums(spread)])
    return Estimate(float(found[0]), *interval(found[1:]))
