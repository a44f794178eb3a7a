"""Predictions of T_s and T_m from means, covariances and the number of samples alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from ..noise import vp_time_to_sigma
from ..support import checks
from .estimate import Estimate, interval, resampled_sums


def checked_eigenvalues(values: Tensor) -> Tensor:
    """``values`` (D,) as float64, rounding errors below zero set to 0.

    Raises ``ValueError`` unless they are a row of finite numbers >= 0.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    row = values.ndim == 1 and len(values) > 0 and bool(torch.isfinite(values).all())
    if not row or values.min() < -1e-6 * values.max().abs():
        raise ValueError(
            f"eigenvalues has shape {tuple(values.shape)}; a row of finite numbers >= 0 is needed"
        )
    return values.clamp(min=0)


def speciation_from_spectrum(eigenvalues: Tensor) -> float:
    """Speciation scale from the largest covariance eigenvalue Lambda: ``sigma^2 = Lambda - 1``.

    VP time ``t_s = log(Lambda) / 2`` in our units. Source: Biroli, Bonnaire, de Bortoli, Mezard
    (2024); an estimate for Lambda >> 1, images in [-1, 1]. Raises ``ValueError`` for Lambda <= 1.
    """
    top = float(checked_eigenvalues(eigenvalues).max())
    if top <= 1:
        raise ValueError(
            f"the largest eigenvalue is {top:g}; the estimate log(Lambda) / 2 needs more than 1"
        )
    return float(vp_time_to_sigma(np.log(top) / 2))


def between_class_covariance(images: Tensor, labels: Tensor) -> Tensor:
    """Covariance (D, D), float64, of the class means, classes weighted by their size.

    ``images`` (N, *sample), ``labels`` (N,).
    """
    labels = torch.as_tensor(labels)
    labels = checks.labels(labels, len(images), int(labels.max()) + 1)
    flat, present = images.double().flatten(1), labels.unique()
    counts = labels.bincount()[present].double()
    means = torch.stack([flat[labels == k].mean(0) for k in present])
    centred = means - counts @ means / counts.sum()
    return (centred * (counts / counts.sum())[:, None]).T @ centred


def speciation_from_classes(images: Tensor, labels: Tensor) -> float:
    """Speciation scale from the variance between classes: ``sigma_s^2 = lambda_max(B)``.

    B is :func:`between_class_covariance`. Noise of that size along the direction that tells classes
    apart hides the class (order of magnitude; Biroli et al. 2024 for two classes).
    """
    values = torch.linalg.eigvalsh(between_class_covariance(images, labels))
    return float(values[-1].clamp(min=0).sqrt())


def collapse_scale(eigenvalues: Tensor, count: int) -> float:
    """Collapse: the level below which the empirical score of ``count`` samples finds a single one.

    A noisy state tells ``exp(I)`` samples apart, with ``I = sum_k log(1 + lambda_k / sigma^2) / 2``
    nats for Gaussian data; the collapse is where ``I = log count``. The counting argument is that
    of Biroli et al. (2024), the Gaussian closed form is ours. Raises ``ValueError`` for count < 2
    or data without variance.
    """
    count = checks.positive_int("count", count, minimum=2)
    values = checked_eigenvalues(eigenvalues).numpy()
    if not values.max() > 0:
        raise ValueError("eigenvalues are all zero: the data have no variance")

    def excess(log_sigma: float) -> float:
        return 0.5 * float(np.log1p(values * np.exp(-2 * log_sigma)).sum()) - np.log(count)

    top = 0.5 * np.log(values.sum())  # I <= trace / (2 sigma^2)
    return float(np.exp(brentq(excess, top - 40, top + 1)))


def resampled_spectra(
    images: Tensor, mean: Tensor, eigenvectors: Tensor, seed: int = 0, resamples: int = 200
) -> np.ndarray:
    """Eigenvalues (R, D) of the covariance of bootstrap resamples of ``images`` (N, *sample).

    To first order: ``lambda_k = E (v_k . (x - mu))^2`` with the ``eigenvectors`` v_k of all images,
    columns (D, D), kept fixed, since an eigenvalue does not move with its own eigenvector.
    """
    centred = (images.double() - mean.double()).flatten(1)
    squares = (centred @ eigenvectors.to(centred)).square()
    return resampled_sums(squares, seed, resamples) / len(images)


def class_scale(images: Tensor, labels: Tensor, seed: int = 0) -> Estimate:
    """:func:`speciation_from_classes` with its 95 % interval, by bootstrap over the images.

    To first order: the direction that tells most classes apart is that of all images.
    """
    _, vectors = torch.linalg.eigh(between_class_covariance(images, labels))
    own = torch.nn.functional.one_hot(torch.as_tensor(labels)).double()
    along = own * (images.double().flatten(1) @ vectors[:, -1:])
    sums = resampled_sums(torch.stack([own, along], 2), seed)  # (R, classes, 2)
    counts, totals = sums[..., 0], sums[..., 1]
    share, means = counts / len(images), totals / counts.clip(min=1)
    spread = (share * (means - (share * means).sum(1, keepdims=True)) ** 2).sum(1)
    return Estimate(speciation_from_classes(images, labels), *interval(np.sqrt(spread)))
