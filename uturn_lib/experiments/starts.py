"""Samples that start without a ground truth: artificial starts, G-Turns, full runs from other laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..claims.verdicts import margin
from ..denoisers import GaussianDenoiser
from ..methods import network_calls
from ..noise import proportional_steps
from ..sampling import final, reverse, sampling_grid
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..uturn import INITIAL_LAWS, artificial_start, g_turn, initial_state
from .engine import Arrays, Plan, block_ranges, experiment, planned, stack_levels
from .study import Study, Workbench


@experiment("y0", calls=lambda count, steps: count * steps)
def from_start(
    bench: Workbench,
    gaussian: GaussianDenoiser | None,
    labels: Any,  # Tensor or None; Any: the options below go to two functions
    sigma_u: float,
    steps: int,
    seed: int,
    first: int,
    count: int,
) -> Arrays:
    """Samples ``first``, ``first`` + 1, ... begun at ``sigma_u``: G-Turns of the ``gaussian``, or artificial starts without one."""
    options = {
        "steps": steps,
        "seed": seed,
        "labels": labels,
        "indices": range(first, first + count),
        "batch_size": bench.batch_size,
    }
    if gaussian is None:
        turned = artificial_start(bench.denoiser, count, sigma_u, **options)
    else:
        turned = g_turn(bench.denoiser, gaussian, count, sigma_u, **options)
    return {"y0": turned.y0.cpu().numpy()}


@planned
def start_sweep(
    study: Study,
    kind: str,
    sigmas: Sequence[float] | None = None,
    labels: Tensor | None = None,
    count: int | None = None,
    seed: int = 0,
    steps: Sequence[int] | None = None,
) -> Plan[Tensor]:
    """Outputs (S, N, *sample) of ``kind`` "artificial" (N(0, sigma_u^2)) or "gaussian" (G-Turn) starts at every level.

    ``labels`` (N,) for class-conditional samples. By default as many as there are ground truths, at ``profile.quality_sigmas``, with
    steps as dense as those of the full run; ``steps`` (S,) sets them otherwise.
    """
    checks.one_of("kind", kind, ("artificial", "gaussian"))
    profile = study.profile
    count = profile.ground_truths if count is None else checks.positive_int("count", count)
    sigmas = [float(s) for s in (profile.quality_sigmas if sigmas is None else sigmas)]
    if labels is not None:
        labels = checks.labels(torch.as_tensor(labels), count, len(study.train.class_names))
    blocks = block_ranges(count, profile.chunk)
    if steps is None:
        steps = [proportional_steps(sigma, profile.steps, profile.sigma_max) for sigma in sigmas]
    steps = [checks.positive_int("steps", number) for number in steps]
    if not sigmas or len(steps) != len(sigmas):
        raise ValueError(
            f"steps: {len(steps)} numbers for {len(sigmas)} noise levels; at least one, and one of each, is needed"
        )
    rows = [
        {
            "sigma_u": sigma,
            "steps": number,
            "labels": None if labels is None else labels[block.start : block.stop],
            "first": block.start,
            "count": len(block),
        }
        for sigma, number in zip(sigmas, steps, strict=True)
        for block in blocks
    ]
    chunks = from_start.chunks(
        rows, bench=study.bench, gaussian=study.gaussian if kind == "gaussian" else None, seed=seed
    )
    what = "class-conditional" if labels is not None else "multi-class"
    return Plan(
        chunks,
        f"{'G-Turns' if kind == 'gaussian' else 'artificial starts'} ({what})",
        lambda results: stack_levels(results, len(blocks), ("y0",))["y0"],
    )


@planned
def shortened_runs(
    study: Study, steps: Sequence[int], labels: Tensor | None = None, seed: int = 0
) -> Plan[Tensor]:
    """Full runs from sigma_max with fewer steps, (len(steps), N, *sample): what the same number of calls gives without a late start."""
    levels = [study.profile.sigma_max] * len(steps)
    return start_sweep.plan(study, "artificial", levels, labels, seed=seed, steps=list(steps))


def late_levels(study: Study, t_m: float, count: int = 3) -> dict[float, int]:
    """The levels at which a late start is judged, with its network calls: the ``count`` smallest quality levels from 2 T_m on that take at most 1/1.2 of
    the full run's calls.

    Lower ones give copies of the ground truths, higher ones save less. Raises ``ValueError`` where no quality level is cheap enough.
    """
    profile = study.profile
    calls = {
        float(s): proportional_steps(s, profile.steps, profile.sigma_max)
        for s in sorted(profile.quality_sigmas)
    }
    cheap = {s: n for s, n in calls.items() if n * margin("fewer calls") <= profile.steps}
    if not cheap:
        raise ValueError(
            f"profile {profile.name}: no quality level takes 1/{margin('fewer calls'):g} of the calls"
        )
    beyond = {s: n for s, n in cheap.items() if s >= 2 * t_m} or dict([max(cheap.items())])
    return dict(list(beyond.items())[:count])


@experiment("y0", calls=lambda images, steps, method: len(images) * network_calls(method, steps))
def from_law(
    bench: Workbench,
    gaussian: GaussianDenoiser,
    images: Tensor,
    labels: Tensor | None,
    law: str,
    sigma_max: float,
    steps: int,
    method: str,
    seed: int,
    first: int,
) -> Arrays:
    """Full runs of the samples ``first``, ``first`` + 1, ... from one of ``uturn.INITIAL_LAWS``; ``images`` are those of the law "data"."""
    indices = range(first, first + len(images))
    eps = NoiseStream(sample_seeds(seed, indices, "start"), images.shape[1:]).normal()
    path = reverse(
        bench.denoiser,
        initial_state(law, eps, sigma_max, gaussian, images).to(bench.device),
        sampling_grid(bench.denoiser, steps, sigma_max, method),
        method,
        sample_seeds(seed, indices),
        None if labels is None else labels.to(bench.device),
    )
    return {"y0": final(path).float().cpu().numpy()}


@planned
def initial_laws(
    study: Study, laws: Sequence[str], method: str = "sde", seed: int = 0
) -> Plan[Tensor]:
    """Full runs from sigma_max that differ in the law of their start only: outputs (laws, N, *sample), paired by their seeds.

    ``laws``: names of ``uturn.INITIAL_LAWS``; "data" uses training images. N is the profile's number of ground truths.
    """
    profile, starts = study.profile, study.train.take(study.profile.ground_truths)
    labels = starts.labels if profile.labels == "always" else None
    for law in laws:
        checks.one_of("law", law, INITIAL_LAWS)
    blocks = block_ranges(len(starts), profile.chunk)
    # The usual start by the usual sampler is the full run that other figures show as well.
    usual = start_sweep.plan(
        study, "artificial", [profile.sigma_max], labels, len(starts), seed
    ).chunks
    shared = {"bench": study.bench, "gaussian": study.gaussian, "method": method, "seed": seed}
    shared |= {"sigma_max": profile.sigma_max, "steps": profile.steps}
    chunks = []
    for law in laws:
        rows = [
            {
                "law": law,
                "images": starts.images[block.start : block.stop],
                "labels": None if labels is None else labels[block.start : block.stop],
                "first": block.start,
            }
            for block in blocks
        ]
        chunks += usual if law == "noise" and method == "sde" else from_law.chunks(rows, **shared)
    return Plan(
        chunks,
        f"full runs from {len(laws)} laws ({method})",
        lambda results: stack_levels(results, len(blocks), ("y0",))["y0"],
    )
