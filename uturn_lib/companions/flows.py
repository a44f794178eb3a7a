"""Deterministic generations by the probability flow, from the same starts: what the studies of dynamics and geometry share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..experiments.engine import Arrays, Plan, block_ranges, experiment, planned
from ..experiments.study import Workbench
from ..methods import METHODS, network_calls
from ..sampling import reverse, sampling_grid
from ..seeding import starting_noise
from ..support import checks


@dataclass(frozen=True)
class Flow:
    """N generations: ``y0`` (N, *sample); ``denoised`` (n, N, *sample), D at each of the n levels ``sigmas`` above 0, or None where only ends were kept."""

    sigmas: tuple[float, ...]
    y0: Tensor = field(repr=False)
    denoised: Tensor | None = field(repr=False)


@experiment(
    "sigmas",
    "y0",
    "denoised",
    calls=lambda count, steps, method: count * network_calls(method, steps),
)
def flow(
    bench: Workbench,
    method: str,
    steps: int,
    sigma_max: float,
    seed: int,
    path: bool,
    first: int,
    count: int,
) -> Arrays:
    """Generations ``first``, ``first`` + 1, ...: the grid, their ends, and D along the way where ``path`` asks for it (else an empty array)."""
    x = starting_noise(
        bench.denoiser.sample_shape, range(first, first + count), sigma_max, seed
    ).to(bench.device)
    grid = sampling_grid(bench.denoiser, steps, sigma_max)
    kept = []
    for step in reverse(bench.denoiser, x, grid, method):
        if path and step.sigma > 0:
            kept.append(step.denoised.float().cpu().numpy())
    return {"sigmas": grid.numpy(), "y0": step.x.float().cpu().numpy(), "denoised": np.array(kept)}


@planned
def run(
    bench: Workbench,
    count: int,
    steps: int,
    method: str = "euler",
    sigma_max: float = 80.0,
    seed: int = 0,
    denoiser=None,
    path: bool = False,
    chunk: int = 80,
) -> Plan[Flow]:
    """``count`` generations by the probability flow in ``steps`` steps of ``method`` (a deterministic one of ``methods.METHODS``), without labels.

    ``denoiser``: another one than the bench's, with a fingerprint (a shortcut through its network). ``path``: keep D along the way as well.
    """
    checks.one_of(
        "method", method, [name for name, entry in METHODS.items() if not entry.draws_noise]
    )
    bench = around_another(bench.bench, denoiser)
    rows = [
        {"first": block.start, "count": len(block)}
        for block in block_ranges(checks.positive_int("count", count), chunk)
    ]
    settings = {
        "method": method,
        "steps": steps,
        "sigma_max": sigma_max,
        "seed": seed,
        "path": path,
    }

    def gather(results: list[Arrays]) -> Flow:
        y0 = torch.from_numpy(np.concatenate([result["y0"] for result in results]))
        denoised = (
            np.concatenate([result["denoised"] for result in results], axis=1) if path else None
        )
        sigmas = tuple(results[0]["sigmas"][:-1].tolist())
        return Flow(sigmas, y0, torch.from_numpy(denoised) if path else None)

    return Plan(
        flow.chunks(rows, bench=bench, **settings), f"generations ({method}, {steps} steps)", gather
    )


def around_another(bench: Workbench, denoiser=None) -> Workbench:
    """``bench``, or one like it around another ``denoiser``; its own network has one name, at hand or not."""
    if denoiser is None or denoiser is vars(bench).get("denoiser"):
        return bench
    return Workbench.around(denoiser, device=bench.device, batch_size=bench.batch_size)
