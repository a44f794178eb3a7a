"""Test of detailed balance: is (x_0, y_0) distributed as (y_0, x_0)?"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor


def exchangeability_p_value(x0: Tensor, y0: Tensor, features: int = 4) -> float:
    """p-value of the hypothesis that the pairs (x_0, y_0) are exchangeable, from N independent
    pairs (N, *sample).

    Every antisymmetric function ``phi_i(x) phi_j(y) - phi_j(x) phi_i(y)`` then has mean zero; their
    sample means are tested together (Hotelling's T^2 in its chi-square limit). The phi are 1, the
    leading ``features`` principal coordinates of the pooled samples, and their products in pairs.
    The means of x_0 and y_0, their covariances and the cross moments are all compared. Our
    construction. Raises ``ValueError`` for different shapes or fewer than 100 pairs.
    """
    if x0.shape != y0.shape or len(x0) < 100:
        raise ValueError(
            f"x0 {tuple(x0.shape)}, y0 {tuple(y0.shape)}: at least 100 pairs of one shape needed"
        )
    pooled = torch.cat([x0, y0]).double().flatten(1)
    centred = pooled - pooled.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:features]
    coordinates = centred @ directions.T
    coordinates = coordinates / coordinates.std(0).clamp(min=1e-12)
    phi = _with_products(coordinates)
    before, after = phi[: len(x0)], phi[len(x0) :]
    i, j = np.triu_indices(phi.shape[1], k=1)
    values = before[:, i] * after[:, j] - before[:, j] * after[:, i]  # (N, pairs)
    mean, covariance = values.mean(0), torch.cov(values.T)
    spread, axes = torch.linalg.eigh(covariance)
    kept = spread > 1e-9 * spread.max()  # functions that depend linearly on the others add nothing
    statistic = len(values) * ((mean @ axes[:, kept]) ** 2 / spread[kept]).sum()
    return float(chi2.sf(float(statistic), int(kept.sum())))


def _with_products(coordinates: Tensor) -> Tensor:
    i, j = np.triu_indices(coordinates.shape[1])
    ones = torch.ones_like(coordinates[:, :1])
    return torch.cat([ones, coordinates, coordinates[:, i] * coordinates[:, j]], dim=1)
