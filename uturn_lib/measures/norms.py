"""Norms of score and denoiser along a reverse process."""

from __future__ import annotations

from torch import Tensor

from ..support import checks
from .estimate import Estimate, bootstrap_ratio
from .theory import checked_eigenvalues


def normalised_norm(norms: Tensor, reference: Tensor, seed: int = 0) -> Estimate:
    """``N(i) = sum_j |V_i^j| / sum_j |V_ref^j|`` over samples j, with its bootstrap interval.

    ``norms``, ``reference`` (B,): 2-norms of V = sigma * score, or of D, at step i and at the
    reference step, paired. Source: the authors' published scripts. Raises ``ValueError`` for
    different shapes or a reference of zero.
    """
    if norms.shape != reference.shape or norms.ndim != 1:
        raise ValueError(
            f"norms {tuple(norms.shape)} and reference {tuple(reference.shape)} must both be (B,)"
        )
    if not float(reference.sum()) > 0:
        raise ValueError("reference has no length: choose a step where V is not zero")
    return bootstrap_ratio(norms, reference, seed)


def gaussian_score_norm(eigenvalues: Tensor, sigma: float) -> float:
    """Root mean square of |sigma score| for Gaussian data (our derivation):

    ``(sum_k sigma^2 / (lambda_k + sigma^2))^(1/2)``, ``eigenvalues`` (D,) of the data covariance.
    At large sigma it tends to sqrt(D), the length of the noise; a direction in which the data have
    no variance adds 1 at every sigma > 0.
    """
    sigma = checks.noise_level("sigma", sigma)
    values = checked_eigenvalues(eigenvalues)
    share = sigma**2 / (values + sigma**2).clamp(min=1e-300)  # 0 where both are 0
    return float(share.sum().sqrt())
