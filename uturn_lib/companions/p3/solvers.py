"""Solvers of the probability flow written with differences of the denoiser alone.

Their usual form by slopes: ``uturn_lib.methods``. With ``x' = (x - D) / sigma`` an Euler step is a
convex combination of state and denoiser (Chen et al. 2023, arXiv 2305.19947),
``x_t = (t/s) x + (1 - t/s) D`` from level s down to t, and since ``D' = -sigma x''`` every
second-order solver adds to it a multiple of a difference of two D: the curvature of the sampling
trajectory is the speed of the denoising trajectory. That both forms agree is tested to 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ...denoisers import Denoiser
from ...methods import METHODS, Leg, Step, Update, deis_weight
from ...sampling import reverse
from ...support import checks

FORMS = ("slopes", "differences")


def solve(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    method: str = "euler",
    labels: Tensor | None = None,
    form: str = "slopes",
) -> Iterator[Step]:
    """``sampling.reverse`` for the solvers of ``ORDERS``, in one of two forms.

    ``form``: "slopes" (the same function) or "differences": the same numbers up to rounding. Raises
    ``ValueError`` for an unknown method or form, otherwise as ``reverse`` does.
    """
    checks.one_of("method", method, ORDERS)
    checks.one_of("form", form, FORMS)
    solver = METHODS[method]
    if form == "differences":
        solver = replace(solver, update=DIFFERENCES[method]())
    return reverse(denoiser, x, sigmas, solver, labels=labels)


def euler_step(x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
    """From level s to t < s: the convex combination ``(t/s) x + (1 - t/s) D``."""
    return (t / s) * x + (1 - t / s) * denoised


def euler(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = (t/s) x + (1 - t/s) D"""
    return euler_step(now.x, now.denoised, now.sigma, t)


def heun(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = euler + (s - t) / (2 t) [D(euler, t) - D]"""
    x_euler = euler(leg, now, before, t)
    return x_euler + (now.sigma - t) / (2 * t) * (leg.D(x_euler, t) - now.denoised)


def dpm2(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = euler + (s - t) / m [D(u, m) - D],    u = Euler's step to m = sqrt(s t)"""
    m = math.sqrt(now.sigma * t)
    u = euler_step(now.x, now.denoised, now.sigma, m)
    return euler(leg, now, before, t) + (now.sigma - t) / m * (leg.D(u, m) - now.denoised)


def dpmpp(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
    """x_t = euler + (1 - t/s) h / (2 h_before) (D - D_before),    h = log(s/t)"""
    x_euler = euler(leg, now, before, t)
    if before is None:
        return x_euler
    h, h_before = math.log(now.sigma / t), math.log(before.sigma / now.sigma)
    return x_euler + (1 - t / now.sigma) * h / (2 * h_before) * (now.denoised - before.denoised)


def adams_bashforth(weight: Callable[[float, float, float], float]) -> Update:
    """x_t = euler + (t - s) w delta

    with delta = d - d_before = [D_before - D + (s - r) w_before delta_before] / s, r the level
    before s.

    The change delta of the slope needs no x: the step from r to s was Euler's plus its own multiple
    of such a change. ``weight(r, s, t)`` is w.
    """
    w, delta = 0.0, torch.zeros(())

    def update(leg: Leg, now: Step, before: Step | None, t: float) -> Tensor:
        nonlocal w, delta
        if before is None:
            w, delta = 0.0, torch.zeros_like(now.x)
            return euler(leg, now, before, t)
        r, s = before.sigma, now.sigma
        delta = (before.denoised - now.denoised + (s - r) * w * delta) / s
        w = weight(r, s, t)
        return euler(leg, now, before, t) + (t - s) * w * delta

    return update


# Makers of an update function: that of Adams and Bashforth remembers its run.
DIFFERENCES: dict[str, Callable[[], Update]] = {
    "euler": lambda: euler,
    "heun": lambda: heun,
    "dpm2": lambda: dpm2,
    "pndm": lambda: adams_bashforth(lambda r, s, t: 0.5),
    "deis": lambda: adams_bashforth(deis_weight),
    "dpmpp": lambda: dpmpp,
}
ORDERS = {name: METHODS[name].order for name in DIFFERENCES}
CALLS = {name: METHODS[name].calls for name in DIFFERENCES}  # per step
