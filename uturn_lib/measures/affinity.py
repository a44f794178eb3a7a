"""How affine is a denoiser? Held-out regression of D(x, sigma) on x at one noise level (claim C4).

For data of mean mu and covariance Sigma the best affine predictor of D from x = x_0 + sigma eps
follows without a fit: D is the conditional mean of x_0, so Cov(D, x) = Cov(x_0, x) = Sigma and

    A = Cov(D, x) Cov(x)^-1 = Sigma (Sigma + sigma^2)^-1,

the affine denoiser of the fitted Gaussian, for any data (our derivation). It is diagonal in the
principal components of the data. Three predictors, from fixed to flexible:

* gaussian: D_G of the fitted Gaussian, no regression;
* components: slope and offset per principal component by least squares, no regularisation;
* ridge: a full matrix from the leading components to D, penalty by leave-one-out (scikit-learn).
  It finds linear couplings between components: an exact D has none, a network may.

The part of D that no affine function explains is the excess of the U-Turn correlation over its
Gaussian value: for an exact denoiser ``1 - R^2 = (C - C_Gauss) / C``, C centred. So the two halves
of claim C4 are one measurement (our derivation).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, Estimate, bootstrap_ratio

BASES = ("gaussian", "components", "ridge")
PENALTIES = np.logspace(-2, 7, 10)  # relative to the mean variance of x along a component


class Spectrum(Protocol):
    """Principal components of the data, as a fitted Gaussian has them: ``mean`` (*sample),
    ``eigenvalues`` (P,) ascending, ``eigenvectors`` (P, P) in columns."""

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor


def affine_residuals(
    x: Tensor,
    denoised: Tensor,
    x_test: Tensor,
    denoised_test: Tensor,
    gaussian: Spectrum,
    sigma: float,
    ridge_components: int = 200,
) -> dict[str, np.ndarray]:
    """Squared residuals of D on held-out samples after each of the three affine guesses.

    ``x``, ``denoised`` (N, *sample) are fitted on, ``x_test``, ``denoised_test`` (M, *sample)
    judged on; the principal components are those of ``gaussian``. Returns per held-out sample (M,)
    "gaussian", "components", "ridge" and "total" (squared distance of D from its mean over the
    held-out samples), and the "slopes" (P,) of the components. 1 - R^2 is sum(residual) /
    sum(total). Raises ``ValueError`` for fewer than 3 samples or shapes that do not match.
    """
    if (
        x.shape != denoised.shape
        or x_test.shape != denoised_test.shape
        or x.shape[1:] != x_test.shape[1:]
    ):
        raise ValueError(
            f"x {tuple(x.shape)}, denoised {tuple(denoised.shape)}, x_test {tuple(x_test.shape)} "
            f"and denoised_test {tuple(denoised_test.shape)} do not belong together"
        )
    checks.noise_level("sigma", sigma)
    checks.positive_int("ridge_components", ridge_components)
    if not all(torch.isfinite(value).all() for value in (x, denoised, x_test, denoised_test)):
        raise ValueError("x or denoised holds NaN or infinite values")
    if len(x) < 3 or len(x_test) < 3:
        raise ValueError(
            f"{len(x)} samples to fit and {len(x_test)} to judge; at least 3 each are needed"
        )
    from sklearn.linear_model import RidgeCV

    # Components in descending order; float32 is enough, and rotations keep squared lengths.
    turn, mean = gaussian.eigenvectors.flip(1).float(), gaussian.mean.float()
    a, b, a_test, b_test = (
        ((value.float() - mean).flatten(1) @ turn).double().numpy()
        for value in (x, denoised, x_test, denoised_test)
    )
    slopes, offsets = component_regression(a, b)
    variances = gaussian.eigenvalues.flip(0)
    shrink = (variances / (variances + sigma**2).clamp(min=1e-300)).numpy()
    leading = min(ridge_components, a.shape[1])
    ridge = RidgeCV(alphas=PENALTIES * a[:, :leading].var(0).mean()).fit(a[:, :leading], b)
    guesses = {
        "gaussian": shrink * a_test,
        "components": slopes * a_test + offsets,
        # one target comes back flat
        "ridge": ridge.predict(a_test[:, :leading]).reshape(b_test.shape),
    }
    residuals = {name: ((b_test - guess) ** 2).sum(1) for name, guess in guesses.items()}
    residuals["total"] = ((b_test - b_test.mean(0)) ** 2).sum(1)
    return residuals | {"slopes": slopes[::-1].copy()}


def component_regression(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of each column of ``b`` (N, P) on the same column of ``a`` (N, P): slopes and
    offsets (P,)."""
    centred = a - a.mean(0)
    slopes = (centred * b).sum(0) / (centred**2).sum(0).clip(min=1e-300)
    return slopes, b.mean(0) - slopes * a.mean(0)


def unexplained(
    residual: np.ndarray, total: np.ndarray, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """Held-out ``1 - R^2 = sum residual / sum total`` (each (M,)), with its bootstrap interval."""
    return bootstrap_ratio(residual, total, seed, confidence)
