"""The reverse processes: how each method gets from noise level s to the next lower level t. One function each, its formula first.

Letters: x and D = D(x, s) are state and denoised state at level s, d = (x - D) / s is the slope of the probability flow
``dx/dsigma = (x - D) / sigma``, xi is a fresh draw of N(0, 1), "before" marks the step before. Since sigma(t) = t, levels are times.

To add a method, write its function below :func:`register`; nothing else has to change. The step into level 0 returns D
(Euler's step), unless the method is registered with ``into_zero=True``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .noise import reverse_sde_sigmas, turn_sigmas
from .support import checks


@dataclass(frozen=True)
class Churn:
    """Noise added by "edm" (Karras et al. 2022, Table 5); the defaults are those of the U-Turn paper's authors."""

    s_churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003

    def __post_init__(self) -> None:
        if not (self.s_churn >= 0 and 0 <= self.s_min <= self.s_max and self.s_noise >= 0):
            raise ValueError(f"{self} needs s_churn >= 0, 0 <= s_min <= s_max and s_noise >= 0")

    def gamma(self, sigma: float, steps: int) -> float:
        """Relative increase of the noise level before a step: ``min(S_churn / N, sqrt(2) - 1)`` inside [S_min, S_max], else 0."""
        inside = self.s_min <= sigma <= self.s_max
        return min(self.s_churn / steps, math.sqrt(2) - 1) if inside else 0.0

    def raised(self, sigmas: Tensor) -> Tensor:
        """The levels ``s_i (1 + gamma_i)`` (n,) from which the steps of the grid ``sigmas`` (n + 1,) are taken."""
        steps = len(sigmas) - 1
        return torch.tensor(
            [float(s) * (1 + self.gamma(float(s), steps)) for s in sigmas[:-1]], dtype=torch.float64
        )


@dataclass(frozen=True)
class Step:
    """State ``x`` (B, *sample, float64) at noise level ``sigma``, and ``denoised`` = D(x, sigma).

    ``index`` counts from 0 (the start) to n (sigma = 0, where ``denoised`` is ``x``). "edm" adds noise before it calls the
    denoiser: ``denoised`` belongs to ``asked_x`` at the level ``asked_sigma``; for all others these are ``x`` and ``sigma``.
    """

    index: int
    sigma: float
    x: Tensor = field(repr=False)
    denoised: Tensor = field(repr=False)
    asked_x: Tensor = field(repr=False)
    asked_sigma: float

    @property
    def slope(self) -> Tensor:
        """d = (x - D) / sigma where the denoiser was asked, (B, *sample); sigma must be above 0."""
        return (self.asked_x - self.denoised) / self.asked_sigma


def no_noise() -> Tensor:
    """Stands in for the noise of deterministic methods."""
    raise RuntimeError("the method draws noise, but was not registered with draws_noise=True")


@dataclass(frozen=True)
class Leg:
    """What all steps of a reverse process share: the denoiser ``D(x, sigma)``, the grid, ``noise()`` = the next xi (B, *sample).

    ``churn``: of "edm", none by default. ``highest``: the largest level that the denoiser knows.
    """

    D: Callable[[Tensor, float], Tensor]
    sigmas: list[float]
    noise: Callable[[], Tensor] = no_noise
    churn: Churn = Churn(s_churn=0.0)
    highest: float = math.inf


Update = Callable[[Leg, Step, "Step | None", float], Tensor]


@dataclass(frozen=True)
class Method:
    """An entry of the registry ``METHODS``.

    ``update(leg, now, before, t)`` returns the state at level t from the steps ``now`` and ``before`` (None in the first step).
    ``order``: of convergence (weak order where noise is drawn). ``calls``: of the denoiser per step; the step into 0 takes one.
    ``grid(steps, sigma_start, sigma_min)``: its levels. ``perturb(leg, x, s)``: state and level at which D is asked, for "edm".
    """

    name: str
    update: Update = field(repr=False)
    order: int
    calls: int
    paper: str
    draws_noise: bool = False
    into_zero: bool = False
    grid: Callable[[int, float, float], Tensor] = field(default=turn_sigmas, repr=False)
    perturb: Callable[[Leg, Tensor, float], tuple[Tensor, float]] | None = field(
        default=None, repr=False
    )

    def calls_in(self, steps: int) -> int:
        """Denoiser calls of ``steps`` steps."""
        return self.calls * (checks.positive_int("steps", steps) - 1) + 1


METHODS: dict[str, Method] = {}


def network_calls(method: str, steps: int) -> int:
    """Denoiser calls of ``steps`` steps of ``method``."""
    return METHODS[method].calls_in(steps)


def register(*names: str, **properties: Any) -> Callable[[Update], Update]:
    """Decorator: enter an update function under ``names`` with the ``properties`` of a :class:`Method`. ``ValueError`` for a name in use."""

    def enter(update: Update) -> Update:
        for name in names:
            if name in METHODS:
                raise ValueError(f"name = {name!r} is in use: {METHODS[name]}")
            METHODS[name] = Method(name, update, **properties)
        return update

    return enter


# ------------------------------------------------------------------------------------------- stochastic: the reverse SDE


def correction_weight(r: float, s: float, t: float, sigma_u: float) -> float:
    """The weight c of :func:`sde` in the step from s to t, after a step from r to s, of a grid that begins at ``sigma_u``:

        c = e/2 [1 - e (1 - 5 s r^3 / sigma_u^4) / 6],    e = 1 - (s/r)^2;    c = 1 in the step into 0.

    Weak order 2 demands e/2. The second term (ours) is chosen on Gaussian data, where the output's variance is known mode by
    mode: 1/6 cancels the next order of its error for modes well below sigma_u, the rest does so for modes of about sigma_u.
    The step into 0 leaves the posterior variance out; c = 1 makes up for most of it.
    """
    if t == 0:
        return 1.0
    e = 1 - (s / r) ** 2
    return e / 2 * (1 - e * (1 - 5 * s * r**3 / sigma_u**4) / 6)


@register(
    "sde",
    order=2,
    calls=1,
    draws_noise=True,
    into_zero=True,
    grid=reverse_sde_sigmas,
    paper="ours; c = 0: Ho et al. 2020; other c: Lu et al. 2022 (SDE-DPM-Solver++ 2M)",
)
def sde(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = r x + (1 - r) D + c (D - D_before) + t sqrt(1 - r) xi,    r = (t / s)^2

    Time reversal ``dx = -2 t score dt + sqrt(2 t) dW``. The ancestral step (c = 0, weak order 1) is exact for a frozen D. Along the
    exact reverse SDE D is a martingale and cannot be extrapolated; but the noise of a step also moves D within that step. The
    next step, which knows the change D - D_before, adds the mean effect: :func:`correction_weight`. For affine D,
    E[y_0 | x_u] is exact at any number of steps, whatever c.
    """
    x, D, s = now.x, now.denoised, now.sigma
    r = (t / s) ** 2
    x_t = r * x + (1 - r) * D
    if before is not None:
        c = correction_weight(before.sigma, s, t, leg.sigmas[0])
        x_t = x_t + c * (D - before.denoised)
    if t > 0:
        x_t = x_t + t * math.sqrt(1 - r) * leg.noise()
    return x_t


# ------------------------------------------------------------------------------- deterministic: the probability-flow ODE


@register("euler", order=1, calls=1, paper="Song et al. 2021 (DDIM)")
def euler(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = x + (t - s) d = (t/s) x + (1 - t/s) D"""
    return now.x + (t - now.sigma) * now.slope


@register("ode", "heun", order=2, calls=2, paper="Karras et al. 2022, Algorithm 1")
def heun(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = x + (t - s) (d + d') / 2,    d' = (x' - D(x', t)) / t,    x' = x + (t - s) d"""
    x, s, d = now.asked_x, now.asked_sigma, now.slope
    x_ahead = x + (t - s) * d
    d_ahead = (x_ahead - leg.D(x_ahead, t)) / t
    return x + (t - s) * (d + d_ahead) / 2


@register("dpm2", order=2, calls=2, paper="Lu et al. 2022 (DPM-Solver-2)")
def dpm2(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = x + (t - s) (u - D(u, m)) / m,    u = x + (m - s) d,    m = sqrt(s t)"""
    x, s = now.x, now.sigma
    m = math.sqrt(s * t)
    u = x + (m - s) * now.slope
    return x + (t - s) * (u - leg.D(u, m)) / m


def adams_bashforth(now: Step, before: Step | None, t: float, w: float) -> Tensor:
    """x_t = x + (t - s) [(1 + w) d - w d_before]; Euler's step where there is no step before."""
    d = now.slope if before is None else (1 + w) * now.slope - w * before.slope
    return now.x + (t - now.sigma) * d


@register("pndm", order=2, calls=1, paper="Liu et al. 2022 (PNDM)")
def pndm(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = x + (t - s) (3 d - d_before) / 2

    The weights of equal steps, whatever the steps are: order 1 on grids whose steps change abruptly.
    """
    return adams_bashforth(now, before, t, 0.5)


def deis_weight(r: float, s: float, t: float) -> float:
    """w = (s - t) / (2 (r - s)): Adams-Bashforth for a step from s to t after one from r to s."""
    return (s - t) / (2 * (r - s))


@register("deis", order=2, calls=1, paper="Zhang and Chen 2023 (DEIS), slope linear in sigma")
def deis(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = x + (t - s) [(1 + w) d - w d_before],    w = (s - t) / (2 (s_before - s))"""
    w = 0.0 if before is None else deis_weight(before.sigma, now.sigma, t)
    return adams_bashforth(now, before, t, w)


@register("dpmpp", order=2, calls=1, paper="Lu et al. 2022 (DPM-Solver++ 2M)")
def dpmpp(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = (t/s) x - (e^-h - 1) [(1 + 1/(2r)) D - D_before / (2r)],    h = log(s/t),    r = h_before / h"""
    if before is None:
        return euler(leg, now, before, t)
    x, D, s = now.x, now.denoised, now.sigma
    h, h_before = math.log(s / t), math.log(before.sigma / s)
    w = h / (2 * h_before)  # 1 / (2r)
    return (t / s) * x - math.expm1(-h) * ((1 + w) * D - w * before.denoised)


# ---------------------------------------------------------------------------- stochastic: noise added to the flow (churn)


def add_churn(leg: Leg, x: Tensor, s: float) -> tuple[Tensor, float]:
    """x_hat = x + sqrt(s_hat^2 - s^2) S_noise xi at level s_hat = s (1 + gamma), not above the denoiser's largest."""
    s_hat = min(s * (1 + leg.churn.gamma(s, len(leg.sigmas) - 1)), leg.highest)
    if s_hat <= s:
        return x, s
    return x + math.sqrt(s_hat**2 - s**2) * leg.churn.s_noise * leg.noise(), s_hat


@register(
    "edm",
    order=2,
    calls=2,
    draws_noise=True,
    perturb=add_churn,
    paper="Karras et al. 2022, Algorithm 2",
)
def edm(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_hat = x + sqrt(s_hat^2 - s^2) S_noise xi,    s_hat = s (1 + gamma);    then Heun's step from (x_hat, s_hat) to t

    The noise is added by :func:`add_churn` before D is asked. With S_noise = 1 neither part changes the distribution at its level.
    """
    return heun(leg, now, before, t)
