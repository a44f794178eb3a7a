"""Solvers of the probability-flow ODE, each in two forms: by slopes, as it is usually written, and by differences of the denoiser.

With ``x' = (x - D) / sigma`` an Euler step is a convex combination of state and denoiser (Chen et al. 2023, arXiv 2305.19947),
``x_t = (t/s) x_s + (1 - t/s) D_s`` from level s down to t, and since ``D' = -sigma x''`` every second-order solver adds to it a difference of two D: the curvature of the
sampling trajectory is the speed of the denoising trajectory. That both forms agree is tested to 1e-10.

========  =====  =============================================================================================================
euler     1      DDIM (Song et al. 2021)
heun      2      second slope at t (Karras et al. 2022): two calls per step
dpm2      2      slope at sqrt(s t), DPM-Solver-2 (Lu et al. 2022): two calls per step
pndm      2      Adams-Bashforth with the weights 3/2, -1/2 of equal steps (Liu et al. 2022), whatever the steps are: order 1 where they change abruptly
deis      2      Adams-Bashforth with the weights of the actual steps: DEIS with a slope linear in sigma (Zhang and Chen 2023)
dpmpp     2      D linear in log sigma, DPM-Solver++(2M) (Lu et al. 2022)
========  =====  =============================================================================================================

The second column is the order of convergence. The step into sigma = 0 is Euler's, which returns D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..sampling import Step, check_grid, guarded
from ..seeding import NoiseStream, sample_seeds
from ..support import checks

ORDERS = {"euler": 1, "heun": 2, "dpm2": 2, "pndm": 2, "deis": 2, "dpmpp": 2}
CALLS = {"euler": 1, "heun": 2, "dpm2": 2, "pndm": 1, "deis": 1, "dpmpp": 1}  # per step
FORMS = ("slopes", "differences")


def euler_step(x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
    """From level s to t < s: the convex combination ``(t/s) x + (1 - t/s) D``."""
    return (t / s) * x + (1 - t / s) * denoised


def network_calls(method: str, steps: int) -> int:
    """Calls of the denoiser in ``steps`` steps: the last one, into 0, takes one."""
    return CALLS[method] * (steps - 1) + 1


def starts(shape: tuple[int, ...], indices: range, sigma_max: float, seed: int) -> Tensor:
    """Noise at ``sigma_max`` for samples ``indices``, float64: the same for every solver and denoiser."""
    return sigma_max * NoiseStream(sample_seeds(seed, indices, "start"), shape).normal()


def solve(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    method: str = "euler",
    labels: Tensor | None = None,
    form: str = "slopes",
) -> Iterator[Step]:
    """Run the probability flow from ``x`` (B, *sample) at ``sigmas[0]`` down to ``sigmas[-1]`` = 0; yields every ``sampling.Step``, states in float64.

    ``form``: "slopes" or "differences", the same numbers up to rounding. Raises ``ValueError`` for an unknown method or form, or a grid that does not
    decrease to 0; ``FloatingPointError`` when the denoiser returns NaN or infinity.
    """
    checks.one_of("method", method, ORDERS)
    checks.one_of("form", form, FORMS)
    checks.samples("x", x, getattr(denoiser, "sample_shape", None))
    grid = check_grid(sigmas)
    call = guarded(denoiser, labels)
    return _run(call, x.double(), grid, {"slopes": _by_slopes, "differences": _by_differences}[form](method, call))


def _run(call: Callable, x: Tensor, grid: list[float], advance: Callable) -> Iterator[Step]:
    for index, (s, t) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        denoised = call(x, s)
        yield Step(index, s, x, denoised)
        x = denoised if t == 0 else advance(x, denoised, s, t)
    yield Step(len(grid) - 1, 0.0, x, x)


def _by_slopes(method: str, call: Callable) -> Callable:
    """A function (x, D, s, t) -> x_t that remembers the step before, in the form of the papers."""
    before: dict[str, object] = {}

    def advance(x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
        slope = (x - denoised) / s
        if method == "heun":
            ahead = x + (t - s) * slope
            return x + (t - s) * (slope + (ahead - call(ahead, t)) / t) / 2
        if method == "dpm2":
            middle = math.sqrt(s * t)
            there = x + (middle - s) * slope
            return x + (t - s) * (there - call(there, middle)) / middle
        last, before["slope"] = before.get("slope"), slope
        last_denoised, before["denoised"] = before.get("denoised"), denoised
        last_s, before["s"] = before.get("s"), s
        if method == "euler" or last is None:
            return x + (t - s) * slope
        if method == "dpmpp":
            step, last_step = math.log(s / t), math.log(last_s / s)
            weight = step / (2 * last_step)
            return (t / s) * x - math.expm1(-step) * ((1 + weight) * denoised - weight * last_denoised)
        weight = adams_weight(method, s, t, last_s)
        return x + (t - s) * ((1 + weight) * slope - weight * last)

    return advance


def _by_differences(method: str, call: Callable) -> Callable:
    """The same, written with D alone: Euler's step and a multiple of a difference of two D."""
    before: dict[str, object] = {}

    def advance(x: Tensor, denoised: Tensor, s: float, t: float) -> Tensor:
        euler = euler_step(x, denoised, s, t)
        if method == "heun":
            return euler + (s - t) / (2 * t) * (call(euler, t) - denoised)
        if method == "dpm2":
            middle = math.sqrt(s * t)
            return euler + (s - t) / middle * (call(euler_step(x, denoised, s, middle), middle) - denoised)
        last, before["denoised"] = before.get("denoised"), denoised
        last_s, before["s"] = before.get("s"), s
        if method == "euler" or last is None:
            before["change"], before["weight"] = torch.zeros_like(x), 0.0
            return euler
        if method == "dpmpp":
            return euler + (1 - t / s) * math.log(s / t) / (2 * math.log(last_s / s)) * (denoised - last)
        # The change of the slope over the last step, by recursion: that step was Euler's plus its own multiple of such a change.
        change = (last - denoised + (s - last_s) * before["weight"] * before["change"]) / s
        weight = adams_weight(method, s, t, last_s)
        before["change"], before["weight"] = change, weight
        return euler + (t - s) * weight * change

    return advance


def adams_weight(method: str, s: float, t: float, last_s: float) -> float:
    """How far the last change of the slope is continued on the way from s to t, after a step from ``last_s`` to s."""
    return 0.5 if method == "pndm" else (s - t) / (2 * (last_s - s))
