"""Samples that start without a ground truth: artificial starts, G-Turns, full runs from other laws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..claims.verdicts import margin
from ..noise import GRID, proportional_steps
from ..sampling import final, reverse, sampling_grid
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..uturn import INITIAL_LAWS, artificial_start, g_turn, initial_state
from .engine import Arrays, Chunk, block_ranges, stack_levels
from .study import Study, register, run_sweep


def start_sweep(
    study: Study,
    kind: str,
    sigmas: Sequence[float] | None = None,
    labels: Tensor | None = None,
    count: int | None = None,
    seed: int = 0,
    steps: Sequence[int] | None = None,
) -> Tensor:
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
    chunks = []
    for sigma, number in zip(sigmas, steps, strict=True):
        for block in blocks:
            inputs = {
                "denoiser": study.fingerprint,
                "grid": GRID,
                "gaussian": study.gaussian.fingerprint if kind == "gaussian" else None,
                "sigma_u": float(sigma),
                "steps": number,
                "seed": seed,
                "labels": None if labels is None else labels[block.start : block.stop].tolist(),
                "first": block.start,
                "count": len(block),
            }
            chunks.append(Chunk("from_start", inputs))
    what = "class-conditional" if labels is not None else "multi-class"
    results = run_sweep(
        study, _compute_from_start, chunks, f"{'G-Turns' if kind == 'gaussian' else 'artificial starts'} ({what})"
    )
    return stack_levels(results, len(blocks), ("y0",))["y0"]


def _compute_from_start(
    study: Study,
    gaussian: str | None,
    sigma_u: float,
    steps: int,
    seed: int,
    labels: list[int] | None,
    first: int,
    count: int,
    **_only_in_the_key: object,
) -> Arrays:
    options = {
        "steps": steps,
        "seed": seed,
        "labels": None if labels is None else torch.tensor(labels),
        "indices": range(first, first + count),
        "batch_size": study.batch_size,
    }
    if gaussian is None:
        turned = artificial_start(study.denoiser, count, sigma_u, **options)
    else:
        turned = g_turn(study.denoiser, study.gaussian, count, sigma_u, **options)
    return {"y0": turned.y0.cpu().numpy()}


def shortened_runs(study: Study, steps: Sequence[int], labels: Tensor | None = None, seed: int = 0) -> Tensor:
    """Full runs from sigma_max with fewer steps, (len(steps), N, *sample): what the same number of calls gives without a late start."""
    levels = [study.profile.sigma_max] * len(steps)
    return start_sweep(study, "artificial", levels, labels, seed=seed, steps=list(steps))


def late_levels(study: Study, t_m: float, count: int = 3) -> dict[float, int]:
    """The levels at which a late start is judged, with its network calls: the ``count`` smallest quality levels from 2 T_m on that take at most 1/1.2 of
    the full run's calls.

    Lower ones give copies of the ground truths, higher ones save less. Raises ``ValueError`` where no quality level is cheap enough.
    """
    profile = study.profile
    calls = {float(s): proportional_steps(s, profile.steps, profile.sigma_max) for s in sorted(profile.quality_sigmas)}
    cheap = {s: n for s, n in calls.items() if n * margin("fewer calls") <= profile.steps}
    if not cheap:
        raise ValueError(f"profile {profile.name}: no quality level takes 1/{margin('fewer calls'):g} of the calls")
    beyond = {s: n for s, n in cheap.items() if s >= 2 * t_m} or dict([max(cheap.items())])
    return dict(list(beyond.items())[:count])


def initial_laws(study: Study, laws: Sequence[str], method: str = "sde", seed: int = 0) -> Tensor:
    """Full runs from sigma_max that differ in the law of their start only: outputs (laws, N, *sample), paired by their seeds.

    ``laws``: names of ``uturn.INITIAL_LAWS``; "data" uses training images. N is the profile's number of ground truths.
    """
    profile, starts = study.profile, study.train.take(study.profile.ground_truths)
    images, labels = starts.images, starts.labels if profile.labels == "always" else None
    for law in laws:
        checks.one_of("law", law, INITIAL_LAWS)
    name, blocks = register(study, images), block_ranges(len(images), profile.chunk)
    others = [law for law in laws if law != "noise" or method != "sde"]
    chunks = [
        Chunk(
            "initial_laws",
            {
                "denoiser": study.fingerprint,
                "grid": GRID,
                "law": law,
                "gaussian": study.gaussian.fingerprint,
                "images": name,
                "sigma_max": profile.sigma_max,
                "steps": profile.steps,
                "method": method,
                "seed": seed,
                "first": block.start,
                "count": len(block),
            }
            | ({} if labels is None else {"labels": labels[block.start : block.stop].tolist()}),
        )
        for law in others
        for block in blocks
    ]
    results = run_sweep(study, _compute_initial_laws, chunks, f"full runs from {len(laws)} laws ({method})")
    outputs = dict(zip(others, stack_levels(results, len(blocks), ("y0",))["y0"], strict=True)) if others else {}
    if len(others) < len(laws):  # the usual start is the full run that other figures show as well
        outputs["noise"] = start_sweep(study, "artificial", [profile.sigma_max], labels, len(images), seed)[0]
    return torch.stack([outputs[law] for law in laws])


def _compute_initial_laws(
    study: Study,
    law: str,
    images: str,
    sigma_max: float,
    steps: int,
    method: str,
    seed: int,
    first: int,
    count: int,
    labels: list[int] | None = None,
    **_only_in_the_key: object,
) -> Arrays:
    indices = range(first, first + count)
    classes = None if labels is None else torch.tensor(labels, device=study.device)
    x0 = study.sources[images][0][first : first + count]
    eps = NoiseStream(sample_seeds(seed, indices, "start"), x0.shape[1:]).normal()
    start = initial_state(law, eps, sigma_max, study.gaussian, x0).to(study.device)
    path = reverse(
        study.denoiser,
        start,
        sampling_grid(study.denoiser, steps, sigma_max, method),
        method,
        sample_seeds(seed, indices),
        classes,
    )
    return {"y0": final(path).float().cpu().numpy()}
