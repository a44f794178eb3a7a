"""How far must a denoiser look? The gap between a score and its best local version.

The error x_0 - D of an exact denoiser is orthogonal to every function of x. So for any other guess
f(x), such as the best one from a patch around each pixel (Pythagoras),

    E |D - f|^2 = E |x_0 - f|^2 - E |x_0 - D|^2,

the denoising error that is paid for not looking further. For Gaussian data the best guess from a
patch is linear and all three are known. (Our derivation.
"Locality gap" after arXiv 2605.04830; our reading.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import Estimate, interval, resample_rows


def patch_indices(size: Sequence[int], patch: int, pixel: tuple[int, int]) -> Tensor:
    """Flat indices of the pixels of (C, H, W) in the ``patch`` x ``patch`` square around ``pixel``.

    Of all channels; the square is cut at the border. Raises ``ValueError`` for an even patch.
    """
    if checks.positive_int("patch", patch) % 2 == 0:
        raise ValueError(f"patch = {patch} must be odd: its middle is a pixel")
    channels, height, width = size
    half, (row, column) = patch // 2, pixel
    rows = torch.arange(max(0, row - half), min(height, row + half + 1))
    columns = torch.arange(max(0, column - half), min(width, column + half + 1))
    plane = (rows[:, None] * width + columns).flatten()
    return (torch.arange(channels)[:, None] * height * width + plane).flatten()


def gaussian_local_rows(
    covariance: Tensor, size: Sequence[int], sigma: float, patch: int, pixel: tuple[int, int]
) -> Tensor:
    """Rows (C, P) of the best local denoiser of Gaussian data, for the channels of one pixel.

    ``D_local - mu = A (x - mu)`` with ``A = Sigma_iP (Sigma_PP + sigma^2)^-1`` on the patch and 0
    elsewhere. ``covariance`` (P, P) of images of ``size`` (C, H, W), P = C H W; ``sigma`` > 0.
    """
    channels, height, width = size
    if covariance.shape != (channels * height * width,) * 2:
        raise ValueError(
            f"covariance has shape {tuple(covariance.shape)}; {channels * height * width} rows and "
            f"columns belong to images of {tuple(size)}"
        )
    inside = patch_indices(size, patch, pixel)
    own = torch.arange(channels) * height * width + pixel[0] * width + pixel[1]
    noisy = covariance[inside][:, inside].double()
    noisy.diagonal().add_(sigma**2)
    rows = torch.zeros(channels, len(covariance), dtype=torch.float64)
    root = torch.linalg.cholesky(noisy)
    rows[:, inside] = torch.cholesky_solve(covariance[inside][:, own].double(), root).T
    return rows


def gaussian_locality_gap(
    covariance: Tensor, size: Sequence[int], sigma: float, patch: int, every: int = 1
) -> float:
    """``E |D - D_local|^2`` per pixel and channel for Gaussian data, exactly.

    By the identity above it is the difference of two posterior variances,
    ``Sigma_ii - A Sigma_i`` with the patch minus the same with the whole image. ``every``: only
    every so many-th pixel of each direction is averaged over. Errors as
    :func:`gaussian_local_rows`.
    """
    checks.positive_int("every", every)
    channels, height, width = size
    gaps = []
    values, vectors = torch.linalg.eigh(covariance.double())
    shrink = values.clamp(min=0) ** 2 / (values.clamp(min=0) + sigma**2)
    explained = (vectors**2 * shrink).sum(1)  # diagonal of Sigma (Sigma + sigma^2)^-1 Sigma
    for row in range(every // 2, height, every):
        for column in range(every // 2, width, every):
            own = torch.arange(channels) * height * width + row * width + column
            rows = gaussian_local_rows(covariance, size, sigma, patch, (row, column))
            gaps.append(explained[own] - (rows * covariance[own].double()).sum(1))
    return float(torch.cat(gaps).mean().clamp(min=0))


def squared_correlation(a: Tensor, b: Tensor) -> Tensor:
    """r^2 (N,): squared correlation over the pixels of paired images ``a``, ``b`` (N, *sample)."""
    if a.shape != b.shape:
        raise ValueError(f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}; they must be paired")
    a, b = (value.double().flatten(1) for value in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    product = (a * b).sum(1).square()
    return product / (a.square().sum(1) * b.square().sum(1)).clamp(min=1e-300)


def log_peaks(
    sigmas: Sequence[float] | np.ndarray, curves: Tensor | np.ndarray, seed: int = 0
) -> np.ndarray:
    """Log noise levels (1 + R,) at which the mean of ``curves`` (S, N) is largest: of the data,
    then of bootstrap resamples of the N samples.

    The top of the parabola through the largest mean and its two neighbours in log sigma; at an end
    of the grid the end itself. Raises ``ValueError`` for another shape or values not finite.
    """
    x, values = np.log(np.asarray(sigmas, dtype=float)), np.asarray(curves, dtype=float)
    if values.ndim != 2 or len(values) != len(x) or not np.isfinite(values).all():
        raise ValueError(f"curves has shape {values.shape}; finite values ({len(x)}, N) are needed")
    drawn = [values[:, rows].mean(2).T for rows in resample_rows(values.shape[1], seed)]
    return np.array([_top(x, row) for row in np.concatenate([values.mean(1)[None], *drawn])])


def _top(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through the largest of ``y`` and its neighbours has its top."""
    k = int(y.argmax())
    if k in (0, len(x) - 1):
        return float(x[k])
    bend, tilt, _ = np.polyfit(x[k - 1 : k + 2] - x[k], y[k - 1 : k + 2], 2)
    return float(x[k] if bend >= 0 else x[k] - tilt / (2 * bend))


def peak(sigmas: Sequence[float] | np.ndarray, log_levels: np.ndarray) -> Estimate:
    """The noise level of the peak with its interval, from :func:`log_peaks`."""
    levels = np.exp(log_levels).clip(sigmas[0], sigmas[-1])
    return Estimate(float(levels[0]), *interval(levels[1:]))
