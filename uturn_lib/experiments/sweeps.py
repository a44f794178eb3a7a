"""U-Turns of the same ground truths at every noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..data.sets import ImageSet
from ..methods import network_calls
from ..noise import proportional_steps
from ..uturn import u_turn
from .engine import Arrays, Plan, block_ranges, experiment, planned, stack_levels
from .study import Study, Workbench


@experiment(
    "denoised", "y0", calls=lambda images, steps, method: len(images) * network_calls(method, steps)
)
def u_turns(
    bench: Workbench,
    images: Tensor,
    labels: Tensor | None,
    sigma_u: float,
    steps: int,
    method: str,
    seed: int,
    first: int,
) -> Arrays:
    """U-Turns of a block of ``images`` (B, *sample), the samples ``first``, ``first`` + 1, ...: D(x_u, sigma_u) and y_0."""
    turn = u_turn(
        bench.denoiser,
        images,
        sigma_u,
        steps=steps,
        method=method,
        seed=seed,
        labels=labels,
        indices=range(first, first + len(images)),
        batch_size=bench.batch_size,
    )
    return {"denoised": turn.denoised.float().numpy(), "y0": turn.y0.float().numpy()}


@dataclass(frozen=True)
class Sweep:
    """U-Turns of the same N ground truths at S noise levels.

    ``sigmas`` (S,); ``x0`` (N, *sample); ``labels`` (N,); ``denoised``, ``y0`` (S, N, *sample), float32.
    """

    sigmas: tuple[float, ...]
    x0: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    denoised: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)


@planned
def u_turn_sweep(
    bench: Workbench,
    starts: ImageSet,
    sigmas: Sequence[float],
    steps: int,
    method: str = "sde",
    seed: int = 0,
    conditional: bool = False,
    sigma_max: float = 80.0,
    chunk: int = 50,
    independent: bool = False,
) -> Plan[Sweep]:
    """U-Turn every image of ``starts`` at every level of ``sigmas``.

    ``steps`` are those of a full run from ``sigma_max``; a leg from sigma_u takes proportionally fewer
    (``noise.proportional_steps``). ``conditional`` passes the images' labels to the denoiser. A ground truth meets the same noise
    at every level, which makes curves smooth; with ``independent`` every level has noise of its own, as statistics over
    levels need it.
    """
    sigmas = tuple(float(sigma) for sigma in sigmas)
    blocks = []
    for block in block_ranges(len(starts), chunk):
        part = slice(block.start, block.stop)
        blocks.append(
            (block.start, starts.images[part], starts.labels[part] if conditional else None)
        )
    rows = [
        {
            "sigma_u": sigma,
            "steps": proportional_steps(sigma, steps, sigma_max),
            "images": images,
            "labels": labels,
            "first": first + (level * len(starts) if independent else 0),
        }
        for level, sigma in enumerate(sigmas)
        for first, images, labels in blocks
    ]
    return Plan(
        u_turns.chunks(rows, bench=bench.bench, method=method, seed=seed),
        f"U-Turns ({method}{', class-conditional' if conditional else ''})",
        lambda results: Sweep(
            sigmas,
            starts.images,
            starts.labels,
            **stack_levels(results, len(blocks), ("denoised", "y0")),
        ),
    )


@planned
def profile_sweep(
    study: Study,
    starts: ImageSet | None = None,
    sigmas: Sequence[float] | None = None,
    **options: Any,
) -> Plan[Sweep]:
    """:func:`u_turn_sweep` at the profile's scale; by default over its ground truths and levels."""
    profile = study.profile
    options = {
        "steps": profile.steps,
        "sigma_max": profile.sigma_max,
        "chunk": profile.chunk,
    } | options
    sigmas = profile.sigmas if sigmas is None else sigmas
    return u_turn_sweep.plan(study, starts or study.ground_truths, sigmas, **options)


@planned
def multi_class(study: Study, seed: int = 0) -> Plan[Sweep]:
    """The profile's ground truths through the single score of all classes (no labels given; given to a network that knows no other way)."""
    return profile_sweep.plan(study, seed=seed, conditional=study.profile.labels == "always")


@planned
def conditional(study: Study, seed: int = 0) -> Plan[Sweep]:
    """The profile's ground truths, each with its label given to the class-conditional score."""
    return profile_sweep.plan(study, seed=seed, conditional=True)


@planned
def deterministic(
    study: Study,
    seed: int = 0,
    sigmas: Sequence[float] | None = None,
    count: int | None = None,
    steps: int | None = None,
) -> Plan[Sweep]:
    """Ground truths through the probability-flow ODE, single score of all classes; by default the profile's ``ode_ground_truths`` and
    ``ode_steps`` at all its levels."""
    starts = study.test.take(count or study.profile.ode_ground_truths)
    return profile_sweep.plan(
        study, starts, sigmas, steps=steps or study.profile.ode_steps, method="ode", seed=seed
    )


def fresh_u_turn(
    bench: Workbench, x0: Tensor, sigma_u: float, steps: int, method: str, seed: int = 0
) -> Tensor:
    """Outputs of U-Turns that are computed now, not read: to ask whether a run can be repeated."""
    return u_turn(
        bench.denoiser,
        x0,
        sigma_u,
        steps=steps,
        method=method,
        seed=seed,
        batch_size=bench.batch_size,
    ).y0


@dataclass(frozen=True)
class Repeats:
    """R independent U-Turns of each of N ground truths at S levels; ``y0`` (S, N, R, *sample)."""

    sigmas: tuple[float, ...]
    x0: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)


@planned
def repeated(
    study: Study,
    seed: int = 0,
    conditional: bool = False,
    sigmas: Sequence[float] | None = None,
    count: int | None = None,
    repeats: int | None = None,
) -> Plan[Repeats]:
    """Many U-Turns of a few ground truths, independent at every level.

    By default the profile's ``repeated`` ground truths, ``repeats`` and ``repeat_sigmas``.
    """
    profile = study.profile
    few, repeats = study.test.take(count or profile.repeated), repeats or profile.repeats
    many = replace(
        few,
        images=few.images.repeat_interleave(repeats, 0),
        labels=few.labels.repeat_interleave(repeats),
    )
    levels = tuple(sigmas or profile.repeat_sigmas)
    plan = profile_sweep.plan(
        study, many, levels, seed=seed, conditional=conditional, independent=True
    )
    shape = (len(levels), len(few), repeats, *few.sample_shape)
    return Plan(
        plan.chunks,
        plan.description,
        lambda results: Repeats(
            levels, few.images, few.labels, plan.gather(results).y0.reshape(shape)
        ),
    )
