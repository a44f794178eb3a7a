"""Deterministic generations by the probability flow, from the same starts: what the studies of dynamics and geometry share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..experiments.engine import Arrays, Chunk, block_ranges, run_chunks
from ..experiments.study import Workbench
from ..methods import METHODS
from ..noise import GRID
from ..sampling import reverse, sampling_grid
from ..seeding import NoiseStream, sample_seeds
from ..support import checks


@dataclass(frozen=True)
class Flow:
    """N generations: ``y0`` (N, *sample); ``denoised`` (n, N, *sample), D at each of the n levels ``sigmas`` above 0, or None where only ends were kept."""

    sigmas: tuple[float, ...]
    y0: Tensor = field(repr=False)
    denoised: Tensor | None = field(repr=False)


def starts(shape: tuple[int, ...], indices: range, sigma_max: float, seed: int) -> Tensor:
    """Noise at ``sigma_max`` for samples ``indices``, float64: the same for every solver and denoiser."""
    return sigma_max * NoiseStream(sample_seeds(seed, indices, "start"), shape).normal()


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
) -> Flow:
    """``count`` generations by the probability flow in ``steps`` steps of ``method`` (a deterministic one of ``methods.METHODS``), without labels.

    ``denoiser``: another one than the bench's, with a fingerprint (a shortcut through its network). ``path``: keep D along the way as well.
    """
    checks.one_of("method", method, [name for name, entry in METHODS.items() if not entry.draws_noise])
    fingerprint = bench.fingerprint if denoiser is None else denoiser.fingerprint
    if fingerprint is None:
        raise ValueError("denoiser has no fingerprint: cached results could not be told apart from another denoiser's")
    common = {"denoiser": fingerprint, "grid": GRID, "method": method, "steps": steps, "sigma_max": sigma_max}
    common |= {"seed": seed, "path": path}
    chunks = [
        Chunk("flow", common | {"first": block.start, "count": len(block)})
        for block in block_ranges(checks.positive_int("count", count), chunk)
    ]

    @torch.no_grad()
    def compute(piece: Chunk) -> Arrays:
        asked = bench.denoiser if denoiser is None else denoiser
        first, number = piece.inputs["first"], piece.inputs["count"]
        x = starts(asked.sample_shape, range(first, first + number), sigma_max, seed).to(bench.device)
        grid = sampling_grid(asked, steps, sigma_max)
        kept = []
        for step in reverse(asked, x, grid, method):
            if path and step.sigma > 0:
                kept.append(step.denoised.float().cpu().numpy())
        found = {"y0": step.x.float().cpu().numpy(), "sigmas": grid.numpy()}
        return found | ({"denoised": np.stack(kept)} if path else {})

    results = run_chunks(compute, chunks, f"generations ({method}, {steps} steps)")
    y0 = torch.from_numpy(np.concatenate([result["y0"] for result in results]))
    denoised = torch.from_numpy(np.concatenate([result["denoised"] for result in results], axis=1)) if path else None
    return Flow(tuple(results[0]["sigmas"][:-1].tolist()), y0, denoised)
