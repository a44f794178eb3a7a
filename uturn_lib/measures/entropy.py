"""The entropy of the class given a noisy image, H(k | x), in nats, by two instruments.

Let k be the class of x_0, x = x_0 + sigma eps, and gamma = 1 / sigma^2. In a Gaussian channel

    d I(x_0; x) / d gamma = E|x_0 - D|^2 / 2        (Guo, Shamai and Verdu 2005, "I-MMSE"),

and the same holds within a class, with the denoiser D_k that is told it. Since k acts on x only
through x_0, I(k; x) = I(x_0; x) - I(x_0; x | k), and H(k | x) = H(k) - I(k; x). With d gamma =
-2 gamma d ln sigma:

    d H(k | x) / d ln sigma = (E|x_0 - D|^2 - E|x_0 - D_k|^2) / sigma^2.

The class entropy along the noise is the subject of Handke et al. (2025, arXiv 2506.10433) and of
Handke et al. (2026, arXiv 2602.09651), our reading; the formula in errors is our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..support import checks


def entropy_rate(plain: np.ndarray, told: np.ndarray, sigma: float) -> np.ndarray:
    """``(|x_0 - D|^2 - |x_0 - D_k|^2) / sigma^2`` (N,); its mean is d H(k | x) / d ln sigma.

    ``plain``, ``told`` (N,): squared errors of the denoiser without and with the class, on the same
    noisy images. For exact denoisers the mean is also that of ``|D - D_k|^2 / sigma^2``. Raises
    ``ValueError`` unless ``sigma`` is positive and the errors are paired.
    """
    plain, told = np.asarray(plain, dtype=float), np.asarray(told, dtype=float)
    if plain.shape != told.shape:
        raise ValueError(f"plain has shape {plain.shape}, told {told.shape}; not paired")
    if not sigma > 0:
        raise ValueError(f"sigma = {sigma} must be positive")
    return (plain - told) / sigma**2


def entropy_from_rates(sigmas: Sequence[float] | np.ndarray, rates: np.ndarray) -> np.ndarray:
    """``int rate d ln sigma`` from the lowest level to each, (S, N), of ``rates`` (S, N).

    By the trapezium rule, sample by sample: means and intervals are over samples as everywhere.
    This is H(k | x) where the lowest of ``sigmas`` (S,), increasing, hides nothing of the class.
    """
    steps = np.diff(np.log(np.asarray(sigmas, dtype=float)))
    if rates.ndim != 2 or len(rates) != len(steps) + 1 or not (steps > 0).all():
        raise ValueError(
            f"rates has shape {rates.shape}; ({len(steps) + 1}, N) at increasing sigmas is needed"
        )
    areas = steps[:, None] * (rates[1:] + rates[:-1]) / 2
    return np.concatenate([np.zeros((1, rates.shape[1])), areas.cumsum(0)])


def surprise(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``-ln q_y`` (B,), float64; its mean is at least H(k | x) for *every* classifier q (Gibbs).

    ``probabilities`` (B, K): q of noisy images, ``labels`` (B,): the classes of their ground
    truths. Equality holds if and only if q = p(k | x). The images must not have been used to train
    or calibrate q.
    """
    labels = checks.labels(labels, len(probabilities), probabilities.shape[1], needed=True)
    own = probabilities.double().gather(1, labels[:, None].to(probabilities.device))[:, 0]
    return -own.clamp(min=torch.finfo(torch.float32).tiny).log()


def shannon(probabilities: Tensor) -> Tensor:
    """``-sum_k p_k ln p_k`` (B,), in nats, of ``probabilities`` (B, K)."""
    return torch.special.entr(probabilities.double()).sum(1)
