"""Likelihood through the probability-flow ODE.

Song et al. 2021, Section 4.3; Chen et al. 2018 for the change of variables. Along
``x' = (x - D) / sigma`` the density of the noisy data changes by
``d log p / d sigma = -div x' = -(dim - tr dD/dx) / sigma``. So log p of an image is that of the
noise it flows to, plus the integral of the divergence; its trace is estimated with random signs
(Hutchinson), or computed row by row in few dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ...denoisers import Denoiser, sigma_range
from ...noise import SIGMA_MIN, karras_sigmas
from ...seeding import NoiseStream, sample_seeds
from ...support import checks

TRACES = ("hutchinson", "exact")


class Prior(Protocol):
    """A distribution with a density at every noise level, such as the exact denoisers."""

    def log_prob(self, x: Tensor, sigma: float) -> Tensor: ...


@dataclass(frozen=True)
class Likelihood:
    """``log_prob`` (B,) in nats, of the density at ``sigma_min``.

    ``divergence`` (B,): the integral; ``latent`` (B, *sample): the state at ``sigma_max``.
    """

    log_prob: Tensor
    divergence: Tensor
    latent: Tensor = field(repr=False)


def flow_log_prob(
    denoiser: Denoiser,
    x: Tensor,
    steps: int = 64,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = 80.0,
    prior: Prior | None = None,
    trace: str = "hutchinson",
    seed: int = 0,
    labels: Tensor | None = None,
) -> Likelihood:
    """log p(x; sigma_min) of ``x`` (B, *sample) under the flow of ``denoiser``.

    By Heun's method on a Karras grid of ``steps`` levels. ``prior``: has the density at
    ``sigma_max``; by default N(0, sigma_max^2). ``trace``: "hutchinson" (one random probe per
    image, unbiased up to the solver's error) or "exact" (one derivative per coordinate). Raises
    ``ValueError`` for levels outside the denoiser's range, a bad trace or shape.
    """
    low, high = sigma_range(denoiser)
    sigma_max = checks.noise_level("sigma_max", sigma_max, highest=high, allow_zero=False)
    sigma_min = checks.noise_level(
        "sigma_min", sigma_min, highest=sigma_max, allow_zero=False, lowest=low
    )
    steps = checks.positive_int("steps", steps, minimum=2)
    levels = karras_sigmas(steps, sigma_max, sigma_min)[:-1].flip(0).tolist()
    *_, (state, total) = ascend(denoiser, x, levels, trace, seed, labels)
    return Likelihood(prior_log_prob(state, sigma_max, prior) + total, total, state)


def ascend(
    denoiser: Denoiser,
    x: Tensor,
    levels: Sequence[float],
    trace: str = "hutchinson",
    seed: int = 0,
    labels: Tensor | None = None,
    indices: Sequence[int] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The flow from ``x`` (B, *sample) at ``levels[0]`` up through increasing ``levels``.

    Yields at each level the state (B, *sample), float64, and the integral (B,) of the divergence.
    One flow gives the likelihood for every length of the diffusion: log p(x) = log p(state; level)
    + integral. ``indices``: numbers of the samples, which decide their probes; by default 0, 1, ...
    Raises ``ValueError`` for levels that do not increase, or outside the denoiser's range; else as
    :func:`flow_log_prob`.
    """
    checks.one_of("trace", trace, TRACES)
    checks.samples("x", x, getattr(denoiser, "sample_shape", None))
    low, high = sigma_range(denoiser)
    levels = [
        checks.noise_level("levels", level, highest=high, allow_zero=False, lowest=low)
        for level in levels
    ]
    if len(levels) < 2 or any(a >= b for a, b in zip(levels, levels[1:], strict=False)):
        raise ValueError(f"levels must increase strictly, two at least, got {levels[:3]} ...")
    numbers = range(len(x)) if indices is None else indices
    if len(numbers) != len(x):
        raise ValueError(f"indices: {len(numbers)} given for {len(x)} samples")
    return _ascend(denoiser, x, levels, trace, sample_seeds(seed, numbers, "probe"), labels)


def _ascend(
    denoiser, x: Tensor, levels: list[float], trace: str, seeds: list[int], labels: Tensor | None
):
    probe = None
    if trace == "hutchinson":
        probe = NoiseStream(seeds, x.shape[1:], x.device).normal().sign()
    state, total = x.double(), torch.zeros(len(x), dtype=torch.float64, device=x.device)
    yield state, total
    slope, divergence = _flow(denoiser, state, levels[0], probe, labels)
    for s, t in zip(levels, levels[1:], strict=False):
        ahead, ahead_divergence = _flow(denoiser, state + (t - s) * slope, t, probe, labels)
        state = state + (t - s) * (slope + ahead) / 2
        # In log sigma, where the integrand runs from 0 to the dimension: in sigma itself it falls
        # like 1 / sigma, which a trapezium overestimates.
        total = total + math.log(t / s) * (s * divergence + t * ahead_divergence) / 2
        yield state, total
        if t < levels[-1]:
            slope, divergence = _flow(denoiser, state, t, probe, labels)


def _flow(
    denoiser: Denoiser, x: Tensor, sigma: float, probe: Tensor | None, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Slope (x - D) / sigma and its divergence (B,)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        denoised = denoiser(x, sigma, labels)
        if probe is not None:
            pulled = torch.autograd.grad((denoised * probe).sum(), x)[0]
            trace = (pulled * probe).flatten(1).sum(1)
        else:
            flat = denoised.flatten(1)
            trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for k in range(flat.shape[1]):
                row = torch.autograd.grad(flat[:, k].sum(), x, retain_graph=True)[0]
                trace += row.flatten(1)[:, k]
    dimension = x[0].numel()
    return ((x - denoised) / sigma).detach(), ((dimension - trace) / sigma).detach()


def prior_log_prob(x: Tensor, sigma: float, prior: Prior | None = None) -> Tensor:
    """log density (B,) of ``x`` (B, *sample) at ``sigma``: of N(0, sigma^2), or of ``prior``."""
    if prior is not None:
        return prior.log_prob(x, sigma)
    flat = x.flatten(1)
    return -0.5 * (
        flat.square().sum(1) / sigma**2 + flat.shape[1] * math.log(2 * math.pi * sigma**2)
    )


def bits_per_dimension(log_prob: Tensor, dimension: int, levels: int = 256) -> Tensor:
    """Nats of a density of images in [-1, 1] -> bits per dimension.

    ``-log2 p / dim + log2(levels / 2)`` for images of ``levels`` grey values. A bound for discrete
    images where noise has been added to them (here that of sigma_min); 8 for uniform noise over the
    range.
    """
    dimension = checks.positive_int("dimension", dimension)
    return -log_prob / (dimension * math.log(2)) + math.log2(levels / 2)
