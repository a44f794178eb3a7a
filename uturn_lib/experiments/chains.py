"""Chains of U-Turns: every output is the ground truth of the next turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..measures import retention
from ..measures.estimate import CONFIDENCE, Estimate, bootstrap_mean
from ..measures.relaxation import excess_agreement, relaxation, sampling_gain
from ..noise import proportional_steps
from ..support import checks
from ..uturn import u_turn
from .engine import Arrays, Plan, block_ranges, experiment, planned
from .study import Study, Workbench
from .sweeps import Sweep

# Principal components, from the strongest: smooth shapes with half of the variance of the digits,
# and fine detail with a seventh of it.
BANDS = {"low": (1, 10), "high": (41, 120)}


@experiment("states", calls=lambda images, turns, steps: len(images) * turns * steps)
def chain(
    bench: Workbench,
    images: Tensor,
    sigma_u: float,
    steps: int,
    turns: int,
    seed: int,
    first: int,
    total: int,
) -> Arrays:
    """States (``turns``, B, *sample) of chains that start at ``images`` (B, *sample).

    Chains ``first``, ``first`` + 1, ... of ``total``; every turn has noise of its own.
    """
    states, x = [], images
    for turn in range(turns):
        own = range(first + turn * total, first + turn * total + len(images))
        x = u_turn(
            bench.denoiser,
            x,
            sigma_u,
            steps=steps,
            seed=seed,
            indices=own,
            batch_size=bench.batch_size,
        ).y0
        states.append(x.float())
    return {"states": torch.stack(states).numpy()}


@dataclass(frozen=True)
class Chains:
    """N chains of U-Turns at each of S levels.

    ``states`` (S, 1 + turns, N, *sample): the ground truths, then the outputs. ``steps`` (S,):
    network calls of one turn at each level.
    """

    sigmas: tuple[float, ...]
    steps: tuple[int, ...]
    states: Tensor = field(repr=False)


@planned
def chains(
    study: Study, sigmas: Sequence[float], count: int, turns: int, seed: int = 0
) -> Plan[Chains]:
    """``count`` chains of ``turns`` U-Turns without labels at each level, from held-out images.

    The first turns are those of ``sweeps.multi_class``: same images, noise and steps. Raises
    ``ValueError`` for a number of turns below 1.
    """
    turns, starts = checks.positive_int("turns", turns), study.test.take(count)
    profile, levels = study.profile, tuple(float(sigma) for sigma in sigmas)
    steps = tuple(proportional_steps(s, profile.steps, profile.sigma_max) for s in levels)
    blocks = block_ranges(count, profile.chunk)
    rows = [
        {
            "sigma_u": sigma,
            "steps": number,
            "images": starts.images[block.start : block.stop],
            "first": block.start,
        }
        for sigma, number in zip(levels, steps, strict=True)
        for block in blocks
    ]
    made = chain.chunks(rows, bench=study.bench, turns=turns, seed=seed, total=count)

    def gather(results: list[Arrays]) -> Chains:
        parts = [torch.from_numpy(found["states"]) for found in results]
        size = len(blocks)
        outputs = [torch.cat(parts[k : k + size], 1) for k in range(0, len(parts), size)]
        begin = starts.images[None]
        return Chains(levels, steps, torch.stack([torch.cat([begin, y]) for y in outputs]))

    return Plan(made, "chains of U-Turns", gather)


def band(study: Study, images: Tensor, name: str) -> Tensor:
    """Coordinates (..., F) of centred ``images`` (..., C, H, W) on the components of a band.

    ``name``: one of :data:`BANDS`.
    """
    checks.one_of("band", name, BANDS)
    first, last = BANDS[name]
    vectors = study.gaussian.eigenvectors.flip(1)[:, first - 1 : last]
    return (images.double() - study.gaussian.mean).flatten(-3) @ vectors


def band_variances(study: Study, name: str) -> Tensor:
    """Variances (F,) of the training images along the components of a band."""
    checks.one_of("band", name, BANDS)
    first, last = BANDS[name]
    return study.gaussian.eigenvalues.flip(0)[first - 1 : last]


def sampling_gains(study: Study, sweep: Sweep, seed: int = 0) -> dict[str, list[Estimate]]:
    """Effective samples per call of a chain over those of free generation, at each level.

    For the slow parts of an image: its "low" frequencies, and its "class". From one U-Turn
    (``measures.relaxation.sampling_gain``); intervals corrected for the number of levels.
    """
    profile, sure = study.profile, 1 - (1 - CONFIDENCE) / len(sweep.sigmas)
    classes = len(study.test.class_names)
    calls = [proportional_steps(s, profile.steps, profile.sigma_max) for s in sweep.sigmas]
    same = retention.class_retained(study.predict(sweep.y0), sweep.labels)
    start, gains = band(study, sweep.x0, "low"), {}
    rho = {
        "low": [
            relaxation(torch.stack([start, band(study, y0, "low")]), seed, sure)[1]
            for y0 in sweep.y0
        ],
        "class": [
            excess_agreement(bootstrap_mean(rows.double(), seed, sure), classes) for rows in same
        ],
    }
    for name, values in rho.items():
        pairs = zip(values, calls, strict=True)
        gains[name] = [sampling_gain(value, number, profile.steps) for value, number in pairs]
    return gains
