"""Norms of score and denoiser along a reverse process."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support import checks
from .estimate import Estimate, bootstrap_ratio
from .theory import checked_eigenvalues


def normalised_norm(norms: Tensor, reference: Tensor, seed: int = 0) -> Estimate:
    """``N(i) = sum_j |V_i^j| / sum_j |V_ref^j|`` over samples j, with its 95 % bootstrap interval
    over them.

    ``norms``, ``reference`` (B,): 2-norms of V at step i and at the reference step, paired; V =
    sigma * score, or D. Source: the authors' published scripts. Raises ``ValueError`` for different
    shapes or a reference of zero.
    """
    if norms.shape != reference.shape or norms.ndim != 1:
        raise ValueError(
            f"norms {tuple(norms.shape)} and reference {tuple(reference.shape)} must both be (B,)"
        )
    if not float(reference.sum()) > 0:
        raise ValueError("reference has no length: choose a step where V is not zero")
    return bootstrap_ratio(norms, reference, seed)


def gaussian_score_norm(eigenvalues: Tensor, sigma: float) -> float:
    """Root mean square of |sigma score| for Gaussian data: ``(sum_k sigma^2 / (lambda_k +
    sigma^2))^(1/2)`` (our derivation).

    ``eigenvalues`` (D,) of the data covariance. At large sigma it tends to sqrt(D), the length of
    the noise; directions in which the data have no variance keep their unit share at every sigma >
    0.
    """
    sigma = checks.noise_level("sigma", sigma)
    values = checked_eigenvalues(eigenvalues)
    share = torch.where(
        values + sigma**2 > 0,
        sigma**2 / (values + sigma**2).clamp(min=1e-300),
        torch.zeros_like(values),
    )
    return float(share.sum().sqrt())
