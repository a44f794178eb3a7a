"""Correlations: of a U-Turn's output with its ground truth, and along one reverse path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import Estimate, bootstrap_ratio


def uturn_correlation(x0: Tensor, y0: Tensor, mean: Tensor | None = None) -> float:
    """``C = sum <x_0, y_0> / sum |x_0|^2`` over the batch, centred if ``mean`` is given.

    ``x0``, ``y0``: (B, *sample); ``mean``: (*sample) or (B, *sample). Raises ``ValueError`` when
    shapes differ. Definition: ours (the paper's section title is "auto-correlation"; its formula
    was not available).
    """
    numerator, denominator = correlation_terms(x0, y0, mean)
    return float(numerator.sum() / denominator.sum())


def correlation_terms(x0: Tensor, y0: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Per sample <x_0, y_0> and |x_0|^2, each (B,), float64, ``mean`` subtracted."""
    checks.tensors(x0=x0, y0=y0, **({} if mean is None else {"mean": mean}))
    if x0.shape != y0.shape:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}, y0 {tuple(y0.shape)}; not equal")
    shift = 0.0 if mean is None else mean.double()
    a, b = (x0.double() - shift).flatten(1), (y0.double() - shift).flatten(1)
    return (a * b).sum(1), (a * a).sum(1)


def uturn_correlation_estimate(
    x0: Tensor, y0: Tensor, mean: Tensor | None = None, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """:func:`uturn_correlation` with its bootstrap interval over the ground-truth samples."""
    return bootstrap_ratio(*correlation_terms(x0, y0, mean), seed, confidence)


def identity_correlation_estimate(
    x0: Tensor, denoised: Tensor, mean: Tensor | None = None, seed: int = 0
) -> Estimate:
    """``sum |D(x_u, sigma_u)|^2 / sum |x_0|^2`` with its interval: C from one denoiser call.

    Under the exact reverse SDE x_0 and y_0 are independent draws from p(x_0 | x_u), so
    ``E<x_0, y_0> = E|D|^2`` (our derivation).
    """
    numerator, _ = correlation_terms(denoised, denoised, mean)
    _, denominator = correlation_terms(x0, x0, mean)
    return bootstrap_ratio(numerator, denominator, seed=seed)


def identity_gap_estimate(
    x0: Tensor,
    denoised: Tensor,
    y0: Tensor,
    mean: Tensor | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """``(sum <x_0, y_0> - sum |D|^2) / sum |x_0|^2``, paired; 0 for an exact score and sampler."""
    numerator, denominator = correlation_terms(x0, y0, mean)
    predicted, _ = correlation_terms(denoised, denoised, mean)
    return bootstrap_ratio(numerator - predicted, denominator, seed, confidence)


def steady_identity_gap(
    x0: Tensor,
    denoised: Tensor,
    y0: Tensor,
    mean: Tensor | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """:func:`identity_gap_estimate` with a control variate (our derivation):

    ``sum <D, x_0 + y_0 - 2 D> / sum |x_0|^2``. The control variate ``<x_0 - D, y_0 - D>`` carries
    most of the variance. Given x_u, x_0 and y_0 are independent, so its mean is the product of the
    errors E[x_0 | x_u] - D and E[y_0 | x_u] - D: 0 for an exact score, of second order otherwise.
    Where D is nothing but error (large sigma_u, centred) the result is up to twice as far from 0 as
    the plain gap: on the safe side.
    """
    with_truth, denominator = correlation_terms(x0, denoised, mean)
    with_output, belief = correlation_terms(denoised, y0, mean)
    return bootstrap_ratio(with_truth + with_output - 2 * belief, denominator, seed, confidence)


def gaussian_correlation(
    eigenvalues: Tensor, sigma: float, mean_norm2: float = 0.0, method: str = "sde"
) -> float:
    """U-Turn correlation of Gaussian data, ``K = lambda / (lambda + sigma^2)`` (our derivation).

    "sde": ``(|mu|^2 + sum lambda K) / (|mu|^2 + sum lambda)``; "ode": sqrt(K) in place of K.
    ``eigenvalues`` (D,) of the data covariance; ``mean_norm2`` = |mu|^2 for the raw correlation, 0
    for the centred one. For "edm": :func:`churned_gaussian_correlation`.
    """
    checks.one_of("method", method, ("sde", "ode"))
    sigma = checks.noise_level("sigma", sigma)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    kept = values.clamp(min=0) / (values + sigma**2).clamp(min=1e-300)
    kept = kept.sqrt() if method == "ode" else kept
    return float((mean_norm2 + (values * kept).sum()) / (mean_norm2 + values.sum()))


def gaussian_spread(eigenvalues: Tensor, sigma: float) -> float:
    """Mean squared distance between two "sde" U-Turns of one ground truth, Gaussian data.

    Over that between unrelated samples: ``sum lambda (1 - K^2) / sum lambda``, since given x_0 mode
    k of y_0 has variance lambda (1 - K^2) (our derivation). ``eigenvalues`` (D,) of the data.
    """
    sigma = checks.noise_level("sigma", sigma)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    kept = values / (values + sigma**2).clamp(min=1e-300)
    return float((values * (1 - kept**2)).sum() / values.sum())


def excess_estimate(
    x0: Tensor,
    y0: Tensor,
    gaussian: float,
    mean: Tensor | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """``(C - C_Gauss) / C`` with its bootstrap interval: for an exact score the share 1 - R^2 of D
    that no affine function explains (our derivation, see ``measures.affinity``). ``gaussian`` is
    C_Gauss at the same level; C is centred when ``mean`` is given."""
    numerator, denominator = correlation_terms(x0, y0, mean)
    ratio = bootstrap_ratio(gaussian * denominator, numerator, seed, confidence)
    return Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)


def churned_gaussian_correlation(
    eigenvalues: Tensor, sigmas: Tensor, raised: Tensor, mean_norm2: float = 0.0
) -> float:
    """:func:`gaussian_correlation` of "edm" on the grid ``sigmas`` (n + 1,), for exact ODE steps.

    Per mode ``prod_i sqrt((lambda + t_{i+1}^2) / (lambda + that_i^2))`` (our derivation), with
    ``raised`` (n,) the levels that_i = t_i (1 + gamma_i) to which the churn lifts each step
    (``methods.Churn.raised``).
    """
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)[:, None]
    sigmas, raised = torch.as_tensor(sigmas).double(), torch.as_tensor(raised).double()
    kept = ((values + sigmas[1:] ** 2) / (values + raised**2)).sqrt().prod(dim=1)
    values = values[:, 0]
    return float((mean_norm2 + (values * kept).sum()) / (mean_norm2 + values.sum()))


def schedule_correlation(sigmas: Tensor, raised: Tensor | None = None) -> np.ndarray:
    """Correlation (n + 1,) of a path with its first state: ``prod_j t_{j+1} / that_j``.

    ``raised`` (n,): the levels that, as above; without churn ``sigmas[:-1]``. While |D| is small
    beside the noise a step only rescales the state, and fresh noise is independent of the first
    state (our derivation): no network is involved.
    """
    sigmas = torch.as_tensor(sigmas).double()
    factors = sigmas[1:] / (sigmas[:-1] if raised is None else torch.as_tensor(raised).double())
    return np.concatenate([[1.0], factors.cumprod(0).numpy()])
