"""P3: the geometry of trajectories (after Chen et al. 2023, arXiv 2305.19947).

Their shape for exact scores and the network, errors of solvers, mean shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...denoisers import Denoiser
from ...experiments.engine import Arrays, Plan, experiment, planned
from ...experiments.study import Workbench
from ...methods import network_calls
from ...noise import karras_sigmas
from ...sampling import final, reverse, sampling_grid
from ...seeding import starting_noise
from ...support import checks
from . import trajectory
from .solvers import CALLS


@dataclass(frozen=True)
class Shapes:
    """Shape of N sampling trajectories x and denoising trajectories r.

    At n levels ``sigmas``, decreasing, above 0. Distances in pixel units (images in [-1, 1]).
    ``deviation_*`` from the chord, ``distance_*`` to the end, ``norm_*``: (n, N); ``cosine`` (n,
    N): between the noise estimate x - D and x - x_0; ``length_*`` (N,); ``explained_*`` (3, N):
    share of 1, 2, 3 principal components of a path.
    """

    sigmas: np.ndarray
    deviation_x: np.ndarray
    deviation_r: np.ndarray
    distance_x: np.ndarray
    distance_r: np.ndarray
    norm_x: np.ndarray
    norm_r: np.ndarray
    cosine: np.ndarray
    length_x: np.ndarray
    length_r: np.ndarray
    explained_x: np.ndarray
    explained_r: np.ndarray


@experiment(
    *(item.name for item in fields(Shapes)),
    calls=lambda count, steps, method: count * network_calls(method, steps),
)
def shape(
    bench: Workbench, count: int, steps: int, method: str, sigma_max: float, seed: int
) -> Arrays:
    """The arrays of :class:`Shapes`."""
    x = starting_noise(bench.denoiser.sample_shape, range(count), sigma_max, seed).to(bench.device)
    walked = list(
        reverse(bench.denoiser, x, sampling_grid(bench.denoiser, steps, sigma_max), method)
    )
    return measured(
        [step.sigma for step in walked[:-1]],
        torch.stack([step.x.cpu() for step in walked]),
        torch.stack([step.denoised.double().cpu() for step in walked[:-1]]),
    )


@planned
def shapes(
    bench: Workbench,
    count: int,
    steps: int = 20,
    method: str = "euler",
    sigma_max: float = 80.0,
    seed: int = 0,
) -> Plan[Shapes]:
    """Follow ``count`` generations by the probability flow.

    Euler's method in 20 steps by default, as published.
    """
    count = checks.positive_int("count", count)
    steps = checks.positive_int("steps", steps, minimum=3)
    settings = {"count": count, "steps": steps, "method": method}
    chunks = shape.chunks([settings], bench=bench.bench, sigma_max=sigma_max, seed=seed)
    return Plan(chunks, "shapes of trajectories", lambda results: Shapes(**results[0]))


def measured(sigmas: Sequence[float], x: Tensor, r: Tensor) -> Arrays:
    """The fields of :class:`Shapes`.

    From states ``x`` (n + 1, N, ...), the last one the end, and ``r`` (n, N, ...).
    """
    found = {
        "sigmas": torch.tensor(sigmas),
        "deviation_x": trajectory.chord_deviation(x)[:-1],
        "deviation_r": trajectory.chord_deviation(r),
        "distance_x": trajectory.distance_to_end(x)[:-1],
        "distance_r": (r - x[-1]).flatten(2).norm(dim=2),
        "norm_x": x[:-1].flatten(2).norm(dim=2),
        "norm_r": r.flatten(2).norm(dim=2),
        "cosine": trajectory.cosine(x[:-1] - r, x[:-1] - x[-1]),
        "length_x": trajectory.path_length(x),
        "length_r": trajectory.path_length(r),
        "explained_x": trajectory.explained_variance(x),
        "explained_r": trajectory.explained_variance(r),
    }
    return {name: value.double().numpy() for name, value in found.items()}


def steps_for(method: str, calls: int) -> int:
    """Steps of ``method`` that need at most ``calls`` calls (the last step, into 0, needs one)."""
    checks.one_of("method", method, CALLS)
    return (checks.positive_int("calls", calls) - 1) // CALLS[method] + 1


def budgeted_calls(
    methods: Sequence[str], budgets: Sequence[int], count: int, reference_steps: int
) -> int:
    """Calls of all runs of :func:`solver_errors`."""
    runs = [
        network_calls(method, steps_for(method, calls)) for method in methods for calls in budgets
    ]
    return count * (network_calls("heun", reference_steps) + sum(runs))


@experiment("errors", calls=budgeted_calls)
def errors_of_solvers(
    bench: Workbench,
    methods: Sequence[str],
    budgets: Sequence[int],
    count: int,
    sigma_max: float,
    seed: int,
    reference_steps: int,
) -> Arrays:
    """Distances (methods, budgets, N) of the ends from the reference's."""
    denoiser = bench.denoiser
    x = starting_noise(denoiser.sample_shape, range(count), sigma_max, seed).to(bench.device)

    def end(method: str, steps: int) -> Tensor:
        return final(reverse(denoiser, x, sampling_grid(denoiser, steps, sigma_max), method))

    exact = end("heun", reference_steps)
    errors = [
        [
            (end(method, steps_for(method, calls)) - exact).flatten(1).norm(dim=1).cpu().numpy()
            for calls in budgets
        ]
        for method in methods
    ]
    return {"errors": np.array(errors)}


@planned
def solver_errors(
    bench: Workbench,
    methods: Sequence[str],
    budgets: Sequence[int],
    count: int,
    sigma_max: float = 80.0,
    seed: int = 0,
    reference_steps: int = 96,
) -> Plan[np.ndarray]:
    """Distance (methods, budgets, N) of generations from a reference, at equal numbers of calls.

    The reference is Heun's method in ``reference_steps``.
    """
    for method in methods:
        checks.one_of("methods", method, CALLS)
    runs = {"methods": list(methods), "budgets": list(budgets), "count": count}
    settings = {"sigma_max": sigma_max, "seed": seed, "reference_steps": reference_steps}
    chunks = errors_of_solvers.chunks([runs], bench=bench.bench, **settings)
    return Plan(chunks, "errors of solvers", lambda results: results[0]["errors"])


def convergence(
    denoiser: Denoiser,
    x: Tensor,
    methods: Sequence[str],
    steps: Sequence[int],
    sigma_max: float,
    stop: float,
) -> dict[str, np.ndarray]:
    """Root-mean-square error (len(steps),) of each method's state at ``stop`` > 0.

    From ``x`` (B, *sample) at ``sigma_max``, against Heun's method with eight times the most steps.
    For exact denoisers in few dimensions: it computes at once, in float64.
    """

    def state(method: str, number: int) -> Tensor:
        *_, last, _ = reverse(denoiser, x, karras_sigmas(number, sigma_max, stop), method)
        return last.x

    exact = state("heun", 8 * max(steps))

    def error(method: str, number: int) -> float:
        return float((state(method, number) - exact).pow(2).mean().sqrt())

    return {method: np.array([error(method, n) for n in steps]) for method in methods}


def fixed_points(
    images: Tensor,
    x: Tensor,
    bandwidths: Sequence[float],
    rounds: int = 200,
    tolerance: float = 1e-3,
) -> list[int]:
    """Number of fixed points of mean shift over ``images`` (N, *sample), for each bandwidth.

    Counted from ``x`` (B, *sample), the bandwidth held fixed. Iterated until no start moves by more
    than ``tolerance``, at most ``rounds`` times; ends nearer to each other than a hundred
    tolerances count as the same.
    """
    from ...empirical import EmpiricalDenoiser

    shift, found = EmpiricalDenoiser(images.double()), []
    for bandwidth in bandwidths:
        state = x.double()
        for _ in range(checks.positive_int("rounds", rounds)):
            moved = shift(state, bandwidth)
            still = float((moved - state).flatten(1).norm(dim=1).max()) < tolerance
            state = moved
            if still:
                break
        ends = state.flatten(1)
        near = torch.cdist(ends, ends) < 100 * tolerance
        found.append(len({int(row.nonzero()[0]) for row in near}))
    return found
