"""Reverse processes, one step at a time.

``reverse`` is a generator: it yields the state at every noise level of the grid, together with the denoiser's answer
there, so that whatever one wants to know of a path (norms, correlations, tests of Gaussianity) is read off on the way.

======  ==========================================================================================  ==================
method  what                                                                                        calls for n steps
======  ==========================================================================================  ==================
sde     time reversal ``dx = -2 t score dt + sqrt(2 t) dW``, exponential two-step scheme            n
ode     probability flow ``dx/dt = (x - D) / t``, Heun (Karras et al. 2022, Algorithm 1)            2 n - 1
edm     Karras et al. (2022), Algorithm 2: noise is added (churn), then one Heun step is taken      2 n - 1
======  ==========================================================================================  ==================

The state is float64 whatever the network's precision.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoisers import Denoiser, sigma_range
from .noise import SIGMA_MIN, reverse_sde_sigmas, turn_sigmas
from .seeding import NoiseStream
from .support import checks

METHODS = ("sde", "ode", "edm")


@dataclass(frozen=True)
class Step:
    """State ``x`` (B, *sample, float64) at noise level ``sigma``, and ``denoised`` = D(x, sigma).

    ``index`` counts from 0 (sigma_max) to n (sigma = 0, where ``denoised`` is ``x`` itself). Where "edm" adds churn,
    ``denoised`` is taken just after the noise was added, at the level raised by it: the only call the sampler makes there.
    ``asked_x`` and ``asked_sigma`` are what the denoiser was given; without churn they are ``x`` and ``sigma``.
    """

    index: int
    sigma: float
    x: Tensor
    denoised: Tensor
    asked_x: Tensor = None
    asked_sigma: float = None

    def __post_init__(self) -> None:
        if self.asked_x is None:
            object.__setattr__(self, "asked_x", self.x)
            object.__setattr__(self, "asked_sigma", self.sigma)


@dataclass(frozen=True)
class Churn:
    """Parameters of the stochastic sampler of Karras et al. (2022), Table 5; the defaults are the authors' of the paper."""

    s_churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003

    def gamma(self, sigma: float, steps: int) -> float:
        """Relative increase of the noise level before a step: ``min(S_churn / N, sqrt(2) - 1)`` inside [S_min, S_max]."""
        inside = self.s_min <= sigma <= self.s_max
        return min(self.s_churn / steps, math.sqrt(2) - 1) if inside else 0.0

    def raised(self, sigmas: Tensor) -> Tensor:
        """The levels ``t_i (1 + gamma_i)`` (n,) from which the steps of the grid ``sigmas`` (n + 1,) are taken."""
        steps = len(sigmas) - 1
        return torch.tensor([float(t) * (1 + self.gamma(float(t), steps)) for t in sigmas[:-1]], dtype=torch.float64)


def reverse(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    method: str = "sde",
    seeds: Sequence[int] | None = None,
    labels: Tensor | None = None,
    churn: Churn | None = None,
) -> Iterator[Step]:
    """Run the reverse process from ``x`` at ``sigmas[0]`` down to ``sigmas[-1]`` = 0 and yield every :class:`Step`.

    Parameters
    ----------
    x: (B, *sample), the state at sigmas[0].
    sigmas: (n + 1,), decreasing, ending at 0 (see ``noise.karras_sigmas``).
    method: "sde", "ode" or "edm" (see the module's table).
    seeds: one int per sample; needed by "sde" and "edm".
    labels: (B,) classes, or None.
    churn: parameters of "edm" only.

    Raises ``ValueError`` for a bad method, grid, seeds, or noise level outside the denoiser's range (at once, not at the
    first step), ``FloatingPointError`` when the denoiser returns NaN or infinity.
    """
    checks.one_of("method", method, METHODS)
    checks.samples("x", x, getattr(denoiser, "sample_shape", None))
    grid = check_grid(sigmas)
    if method != "ode" and (seeds is None or len(seeds) != len(x)):
        found = "none" if seeds is None else len(seeds)
        raise ValueError(f"seeds: {found} given for {len(x)} samples; method {method!r} needs one int per sample")
    if churn is not None and method != "edm":
        raise ValueError(f"churn is for method 'edm' only, not {method!r}")
    low, high = sigma_range(denoiser)
    checks.noise_level("sigmas[0]", grid[0], highest=high)
    checks.noise_level("sigmas[-2]", grid[-2], lowest=low)
    noise = NoiseStream(seeds, x.shape[1:], x.device).normal if method != "ode" else None
    call = guarded(denoiser, labels)
    x = x.double()
    if method == "sde":
        return _sde(call, x, grid, noise)
    return _heun(call, x, grid, noise, (churn or Churn()) if method == "edm" else None, high)


def sampling_grid(denoiser: Denoiser, steps: int, sigma_start: float, method: str = "ode") -> Tensor:
    """The grid of ``steps`` steps from ``sigma_start`` to 0 that suits ``method``, above the lowest level that the denoiser was made for.

    The Karras grid, down to ``noise.SIGMA_MIN``, for "ode", "edm" and the solvers of ``companions.solvers``; ``noise.reverse_sde_sigmas`` for "sde".
    """
    lowest = max(SIGMA_MIN, sigma_range(denoiser)[0])
    return (reverse_sde_sigmas if method == "sde" else turn_sigmas)(steps, sigma_start, lowest)


def final(steps: Iterator[Step]) -> Tensor:
    """Exhaust a reverse process and return its last state, (B, *sample) float64."""
    return deque(steps, maxlen=1).pop().x


def check_grid(sigmas: Tensor) -> list[float]:
    grid = torch.as_tensor(sigmas, dtype=torch.float64).tolist()
    decreasing = all(a > b for a, b in zip(grid, grid[1:], strict=False))
    if len(grid) < 2 or grid[-1] != 0 or not decreasing:
        raise ValueError(f"sigmas must decrease strictly and end at 0, got {grid[:3]} ... {grid[-2:]}")
    return grid


def guarded(denoiser: Denoiser, labels: Tensor | None) -> Callable[[Tensor, float], Tensor]:
    """The denoiser without gradients, stopped at the first NaN: a bad number must not travel into a result."""

    def call(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            denoised = denoiser(x, sigma, labels)
        if not torch.isfinite(denoised).all():
            bad = int((~torch.isfinite(denoised.flatten(1)).all(1)).sum())
            raise FloatingPointError(
                f"the denoiser returned NaN or infinity at sigma = {sigma:g} for {bad} of {len(x)} samples"
            )
        return denoised

    return call


def _sde(call, x: Tensor, grid: list[float], noise: Callable[[], Tensor]) -> Iterator[Step]:
    """Time reversal, one call per step, weak order 2:

        x_u = r x_t + (1 - r) D_t + c (D_t - D_prev) + u sqrt(1 - r) xi,    r = (u / t)^2

    The ancestral step (c = 0, weak order 1) is exact for a frozen D. Along the exact reverse SDE D is a martingale, so it cannot be
    extrapolated; but the noise of a step also moves D within that step. Its mean effect is added in the next step, when the
    change D_t - D_prev is known (Lu et al. 2022, SDE-DPM-Solver++ 2M, with other weights): see :func:`correction_weights`.
    For affine D, E[y_0 | x_u] is exact at any number of steps, whatever the weights.
    """
    previous = None
    for i, (t, u, c) in enumerate(zip(grid[:-1], grid[1:], correction_weights(grid), strict=True)):
        denoised = call(x, t)
        yield Step(i, t, x, denoised)
        r = (u / t) ** 2
        x = r * x + (1 - r) * denoised
        if i > 0:
            x = x + c * (denoised - previous)
        if u > 0:
            x = x + u * math.sqrt(1 - r) * noise()
        previous = denoised
    yield Step(len(grid) - 1, 0.0, x, x)


def correction_weights(grid: Sequence[float]) -> list[float]:
    """The weights c of :func:`_sde`, one per step of ``grid`` (n + 1,): 0 in the first step, 1 in the last, in between

        c = e/2 [1 - e (1 - 5 u t^3 / sigma_u^4) / 6],    e = 1 - (u/t)^2 of the step before, from t to u; sigma_u = grid[0].

    e/2 is what weak order 2 demands. The second term (ours) is chosen on Gaussian data, where the output's variance is known mode
    by mode: 1/6 cancels the next order of its error for modes well below sigma_u, the rest does so for modes of about sigma_u.
    The last step returns D and leaves the posterior variance out; c = 1 makes up for most of it.
    """
    levels = [float(level) for level in grid]
    weights = [0.0]
    for t, u in zip(levels[:-2], levels[1:-1], strict=True):
        e = 1 - (u / t) ** 2
        weights.append(e / 2 * (1 - e * (1 - 5 * u * t**3 / levels[0] ** 4) / 6))
    if len(weights) > 1:
        weights[-1] = 1.0
    return weights


def _heun(
    call, x: Tensor, grid: list[float], noise: Callable[[], Tensor] | None, churn: Churn | None, highest: float
) -> Iterator[Step]:
    """Heun steps of the probability flow; with ``churn``, each preceded by a little fresh noise. Order 2; Euler into 0."""
    for i, (t, u) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        gamma = churn.gamma(t, len(grid) - 1) if churn else 0.0
        denoised = call(x, t) if gamma == 0 else None
        state, start = x, min(t * (1 + gamma), highest)
        if start > t:
            state = x + math.sqrt(start**2 - t**2) * churn.s_noise * noise()
        at_start = call(state, start) if denoised is None else denoised
        yield Step(i, t, x, at_start, state, start)
        slope = (state - at_start) / start
        x = state + (u - start) * slope
        if u > 0:
            x = state + (u - start) * (slope + (x - call(x, u)) / u) / 2
    yield Step(len(grid) - 1, 0.0, x, x)
