"""Distances between two sets of images in a feature space. Small sets bias both, so show the train-against-test floor."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` of features ``a`` (N, F), ``b`` (M, F) (Heusel et al. 2017).

    It is called FID only with the Inception features that the name stands for. Finite sets bias it upwards.
    Raises ``ValueError`` for other shapes, fewer than 2 rows, or NaN.
    """
    a, b = _features(a, b)
    mean_a, mean_b = a.mean(0), b.mean(0)
    root = _square_root(torch.cov(a.T))
    # tr (S_a S_b)^(1/2) = tr (S_a^(1/2) S_b S_a^(1/2))^(1/2), and the latter is symmetric: no complex square root.
    cross = torch.linalg.eigvalsh(root @ torch.cov(b.T) @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with kernel ``(x.y / F + 1)^3`` (Binkowski et al. 2018); may be negative.

    ``a`` (N, F), ``b`` (M, F). It is called KID only with Inception features. Errors as :func:`frechet_distance`.
    """
    a, b = _features(a, b)
    kernel_aa, kernel_bb, kernel_ab = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    n, m = len(a), len(b)
    within_a = (kernel_aa.sum() - kernel_aa.trace()) / (n * (n - 1))
    within_b = (kernel_bb.sum() - kernel_bb.trace()) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel_ab.mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    for name, value in (("a", a), ("b", b)):
        if value.ndim != 2 or len(value) < 2:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; features (N, F) with N >= 2 are needed")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a has {a.shape[1]} features, b has {b.shape[1]}; both must come from the same feature map")
    return a.double(), b.double()
