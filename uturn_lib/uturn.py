"""The U-Turn and its relatives, which differ only in the start of the reverse process.

================  ============================================  ===================================
u_turn            x_u = x_0 + sigma_u eps, x_0 a ground truth   Algorithm 1 of the paper
g_turn            x_u ~ N(mu, Sigma + sigma_u^2 I)              Algorithm 2 (our reading)
artificial_start  x_u ~ N(0, sigma_u^2 I)                       the baseline that ignores the data
================  ============================================  ===================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .denoisers import Denoiser, GaussianDenoiser, sigma_range
from .empirical import EmpiricalDenoiser
from .methods import Churn
from .sampling import Sampler, guarded, reverse, sampling_grid
from .seeding import NoiseStream, sample_seeds, starting_noise
from .support import checks


@dataclass(frozen=True)
class UTurn:
    """Input, turning point and output: (B, *sample), in the dtype and on the device of x0.

    ``x0``: ground truth (None for starts without one); ``x_u``: the state at noise level
    ``sigma_u``; ``denoised``: D(x_u, sigma_u), the first call of the reverse leg ("edm": one call
    more); ``y0``: the output.
    """

    x0: Tensor | None = field(repr=False)
    x_u: Tensor = field(repr=False)
    denoised: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)
    sigma_u: float


def u_turn(
    denoiser: Denoiser,
    x0: Tensor,  # (B, *sample), images in [-1, 1]
    sigma_u: float,  # from 0 (returns x0) to the denoiser's largest level
    sampler: Sampler
    | None = None,  # or its settings one by one, as below; what is left out is Sampler's default
    *,
    steps: int | None = None,
    method: str | None = None,
    batch_size: int | None = None,
    churn: Churn | None = None,
    seed: int = 0,
    labels: Tensor | None = None,  # (B,) classes
    indices: Sequence[int] | None = None,  # global index of each sample; 0 .. B - 1 by default
) -> UTurn:
    """Forward to ``x_u = x0 + sigma_u eps``, turn, reverse to 0 (Behjoo & Chertkov, Algorithm 1).

    The noise of a sample depends on (seed, its index) only; the same seed gives the same eps at
    every sigma_u. Raises ``ValueError`` or ``TypeError`` for arguments that cannot be used, and for
    a ``sampler`` together with its settings.
    """
    sampler = Sampler.of(sampler, method=method, steps=steps, batch_size=batch_size, churn=churn)
    sigma_u, indices = (
        _turn_level(denoiser, sigma_u),
        _check_indices(indices, _count_ground_truth(denoiser, x0)),
    )
    eps = NoiseStream(sample_seeds(seed, indices, "forward"), x0.shape[1:], x0.device).normal()
    x_u = x0.double() + sigma_u * eps
    denoised, y0 = _reverse_leg(
        denoiser, x_u, sigma_u, sampler, sample_seeds(seed, indices), labels
    )
    return UTurn(x0, x_u.to(x0.dtype), denoised.to(x0.dtype), y0.to(x0.dtype), sigma_u)


def g_turn(
    denoiser: Denoiser,
    gaussian: GaussianDenoiser,
    count: int,
    sigma_u: float,
    sampler: Sampler | None = None,
    *,
    steps: int | None = None,
    method: str | None = None,
    batch_size: int | None = None,
    churn: Churn | None = None,
    seed: int = 0,
    labels: Tensor | None = None,
    indices: Sequence[int] | None = None,
) -> UTurn:
    """Start at ``sigma_u`` from N(mu, Sigma + sigma_u^2 I) (Algorithm 2).

    This is the Gaussian approximation of the noisy data. ``gaussian`` is fitted to the data: its
    affine score is used above sigma_u (in one exact draw), the denoiser below. Returns ``count``
    samples, float32; other parameters as in :func:`u_turn`.
    """
    sampler = Sampler.of(sampler, method=method, steps=steps, batch_size=batch_size, churn=churn)
    sigma_u, indices = (
        _turn_level(denoiser, sigma_u),
        _check_indices(indices, checks.positive_int("count", count)),
    )
    if not callable(getattr(gaussian, "sample", None)):
        raise TypeError(f"gaussian must be a GaussianDenoiser, got {type(gaussian).__name__}")
    x_u = gaussian.sample(sample_seeds(seed, indices, "start"), sigma_u)
    denoised, y0 = _reverse_leg(
        denoiser, x_u, sigma_u, sampler, sample_seeds(seed, indices), labels
    )
    return UTurn(None, x_u.float(), denoised.float(), y0.float(), sigma_u)


def artificial_start(
    denoiser: Denoiser,
    count: int,
    sigma_u: float,
    sampler: Sampler | None = None,
    *,
    steps: int | None = None,
    method: str | None = None,
    batch_size: int | None = None,
    churn: Churn | None = None,
    seed: int = 0,
    labels: Tensor | None = None,
    indices: Sequence[int] | None = None,
    sample_shape: Sequence[int] | None = None,
) -> UTurn:
    """Start at ``sigma_u`` from N(0, sigma_u^2 I).

    At the largest sigma this is the ordinary generation of samples.

    ``sample_shape`` is needed only when the denoiser does not know its own. Other parameters as in
    :func:`g_turn`.
    """
    sampler = Sampler.of(sampler, method=method, steps=steps, batch_size=batch_size, churn=churn)
    sigma_u, indices = (
        _turn_level(denoiser, sigma_u),
        _check_indices(indices, checks.positive_int("count", count)),
    )
    shape = sample_shape or getattr(denoiser, "sample_shape", None)
    if shape is None:
        raise ValueError(
            "sample_shape is needed: the denoiser does not know the shape of its samples"
        )
    x_u = starting_noise(shape, indices, sigma_u, seed)
    denoised, y0 = _reverse_leg(
        denoiser, x_u, sigma_u, sampler, sample_seeds(seed, indices), labels
    )
    return UTurn(None, x_u.float(), denoised.float(), y0.float(), sigma_u)


def _reverse_leg(
    denoiser, x_u: Tensor, sigma_u: float, sampler: Sampler, seeds: list[int], labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reverse ``x_u`` to 0 in batches.

    Returns D(x_u, sigma_u) and the outputs, float64, on the device of ``x_u``.
    """
    if hasattr(
        denoiser, "num_classes"
    ):  # before the first call: a wrong label must not cost half a batch
        labels = checks.labels(
            labels, len(x_u), denoiser.num_classes, getattr(denoiser, "needs_labels", False)
        )
    if sigma_u == 0 or len(x_u) == 0:
        return x_u, x_u
    sigmas = sampling_grid(denoiser, sampler.steps, sigma_u, sampler.method)
    device = device_of(denoiser) or x_u.device
    denoised, y0 = torch.empty_like(x_u), torch.empty_like(x_u)
    for start in range(0, len(x_u), sampler.batch_size):
        part = slice(start, start + sampler.batch_size)
        classes = None if labels is None else labels[part].to(device)
        for step in reverse(
            denoiser,
            x_u[part].to(device),
            sigmas,
            sampler.method,
            seeds[part],
            classes,
            sampler.churn,
        ):
            if step.index == 0:
                at_turn = (
                    step.asked_sigma == step.sigma
                )  # not after the churn of "edm", which asks at a higher level
                denoised[part] = (
                    step.denoised if at_turn else guarded(denoiser, classes)(step.x, step.sigma)
                )
        y0[part] = step.x
    return denoised, y0


def _turn_level(denoiser, sigma_u: float) -> float:
    """``sigma_u`` if the denoiser can be asked there; 0 is always possible."""
    low, high = sigma_range(denoiser)
    return checks.noise_level("sigma_u", sigma_u, highest=high, lowest=low)


def _count_ground_truth(denoiser, x0: Tensor) -> int:
    """B, after a check that ``x0`` (B, *sample) is what the denoiser was made for."""
    value_range = getattr(denoiser, "value_range", (float("-inf"), float("inf")))
    checks.ground_truth("x0", x0, getattr(denoiser, "sample_shape", None), value_range)
    return len(x0)


def _check_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    indices = list(range(count)) if indices is None else [int(index) for index in indices]
    if len(indices) != count or any(index < 0 for index in indices):
        raise ValueError(
            f"indices: {len(indices)} given for {count} samples; one number >= 0 per sample is "
            "needed"
        )
    return indices


def device_of(denoiser: Denoiser) -> torch.device | None:
    """Where a network's weights are; None for a denoiser that follows its input."""
    parameters = getattr(denoiser, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return None if first is None else first.device


# ------------------------------------------------- exact outputs, other starts, the forward path


def posterior_draws(
    denoiser: GaussianDenoiser | EmpiricalDenoiser,
    x0: Tensor,
    sigma_u: float,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> Tensor:
    """Exact U-Turns without a sampler: y_0 drawn from p(. | x_u).

    x_u is that of :func:`u_turn` with the same ``seed``. For an empirical score the output is
    training image i with its weight; for a Gaussian one, mode k of y_0 is Gaussian around D(x_u)
    with variance ``lambda sigma_u^2 / (lambda + sigma_u^2)``. ``x0`` (B, *sample), result alike.
    """
    if not isinstance(denoiser, (GaussianDenoiser, EmpiricalDenoiser)):
        raise TypeError(
            f"denoiser is a {type(denoiser).__name__}; exact draws are known for Gaussian and "
            "Empirical ones"
        )
    sigma_u, indices = (
        checks.noise_level("sigma_u", sigma_u),
        _check_indices(indices, _count_ground_truth(denoiser, x0)),
    )
    if len(x0) == 0:
        return x0
    eps = NoiseStream(
        sample_seeds(seed, indices, "forward"), x0.shape[1:], x0.device, x0.dtype
    ).normal()
    x_u, seeds = x0 + sigma_u * eps, sample_seeds(seed, indices, "posterior")
    if isinstance(denoiser, EmpiricalDenoiser):
        return denoiser.images[denoiser.posterior_index(x_u, sigma_u, seeds)].to(x0.dtype)
    values = denoiser.eigenvalues
    spread = sigma_u * (values / (values + sigma_u**2).clamp(min=1e-300)).sqrt()
    # the symmetric root: it does not depend on the signs of the eigenvectors
    modes = NoiseStream(seeds, (len(values),)).normal() @ denoiser.eigenvectors * spread
    return (
        denoiser(x_u, sigma_u).double() + (modes @ denoiser.eigenvectors.T).reshape(x0.shape)
    ).to(x0.dtype)


INITIAL_LAWS = {
    "noise": "N(0, sigma^2), the usual start",
    "mean": "N(mu, sigma^2), centred on the data",
    "gaussian": "N(mu, Sigma + sigma^2), the Gaussian of the noisy data",
    "data": "x_0 + sigma eps, the noisy data themselves",
    "uniform": "uniform pixels of variance sigma^2, not Gaussian at all",
}


def initial_state(
    law: str, eps: Tensor, sigma: float, gaussian: GaussianDenoiser, x0: Tensor | None = None
) -> Tensor:
    """A start at ``sigma`` of one of the ``INITIAL_LAWS``, from standard normal ``eps``.

    With the same ``eps`` (B, *sample), starts of different laws are paired. ``gaussian`` holds mu
    and Sigma; ``x0`` (B, *sample) is needed by "data". Float64. Our construction, for claim C5.
    """
    checks.one_of("law", law, INITIAL_LAWS)
    checks.samples("eps", eps, gaussian.sample_shape)
    sigma, eps = checks.noise_level("sigma", sigma), eps.double()
    if law == "data":
        if x0 is None or x0.shape != eps.shape:
            raise ValueError("x0: law 'data' needs one image per sample")
        checks.ground_truth("x0", x0, gaussian.sample_shape, (float("-inf"), float("inf")))
        return x0.double() + sigma * eps
    if law == "uniform":  # the same ranks: F^-1(Phi(eps))
        return sigma * 12**0.5 * (torch.special.ndtr(eps) - 0.5)
    if law == "gaussian":
        modes = eps.flatten(1) @ gaussian.eigenvectors * (gaussian.eigenvalues + sigma**2).sqrt()
        return gaussian.mean + (modes @ gaussian.eigenvectors.T).reshape(eps.shape)
    return sigma * eps + (gaussian.mean if law == "mean" else 0.0)


def forward_path(
    x0: Tensor, sigmas: Sequence[float], seed: int = 0, indices: Sequence[int] | None = None
) -> Tensor:
    """States (S, B, *sample) of the forward process at increasing ``sigmas``, float64.

    Brownian motion on the clock sigma^2. Only its end matters to a U-Turn; the path is for figures.
    Raises ``ValueError`` unless ``sigmas`` increase from 0 or above.
    """
    sigmas = [checks.noise_level("sigmas", sigma) for sigma in sigmas]
    if any(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"sigmas must increase, got {sigmas}")
    noise = NoiseStream(
        sample_seeds(seed, _check_indices(indices, len(x0)), "forward"), x0.shape[1:], x0.device
    )
    states, x, before = [], x0.double(), 0.0
    for sigma in sigmas:
        x = x + (sigma**2 - before**2) ** 0.5 * noise.normal()
        states.append(x)
        before = sigma
    return torch.stack(states)
