"""What U-Turns keep of their ground truths: identity, class, and the times T_m and T_s at which they are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..claims.verdicts import Gate, class_gate_of
from ..measures import retention
from ..measures.estimate import Estimate
from .engine import Arrays, experiment
from .study import Judge, Study
from .sweeps import Sweep, multi_class, profile_sweep


@experiment("identity", "predicted", "identity_centres", "class_centres")
def retained(
    judge: Judge,
    y0: Tensor,
    x0: Tensor,
    labels: Tensor,
    reference: Tensor,
    sigmas: Sequence[float],
    level: float,
) -> Arrays:
    """Of outputs ``y0`` (S, N, *sample) of the ground truths ``x0``: which are themselves among ``reference``, their classes, and bootstrapped centres of both curves."""
    own = retention.nearest_index(x0, reference)  # where each ground truth stands in the reference
    identity = torch.stack([retention.identity_retained(rows, reference, own) for rows in y0])
    predicted = torch.stack([judge.network.predict(rows) for rows in y0])
    same = retention.class_retained(predicted, labels)
    return {
        "identity": identity.numpy(),
        "predicted": predicted.numpy(),
        "identity_centres": retention.bootstrap_centres(sigmas, identity, 0.5),
        "class_centres": retention.bootstrap_centres(sigmas, same, level),
    }


@dataclass(frozen=True)
class Transitions:
    """T_m and T_s of a profile with everything they were read from.

    ``identity``, ``same_class`` (S, N) booleans; ``predicted`` (S, N) classes of the outputs.
    """

    sweep: Sweep = field(repr=False)
    identity: Tensor = field(repr=False)
    same_class: Tensor = field(repr=False)
    predicted: Tensor = field(repr=False)
    identity_curve: list[Estimate]
    class_curve: list[Estimate]
    t_m: Estimate
    t_s: Estimate
    log_gap: Estimate


def transitions(study: Study, seed: int = 0, sweep: Sweep | None = None) -> Transitions:
    """Identity and class retention of a sweep's outputs, T_m and T_s; by default of the unconditional sweep of the profile.

    Identity is sought among all images of the data set; the class is the profile's classifier's (definitions: ``measures.retention``).
    """
    sweep = multi_class(study, seed) if sweep is None else sweep
    level = retention.chance_level(len(study.test.class_names))
    stored = retained(
        study.judge, sweep.y0, sweep.x0, sweep.labels, study.reference, sweep.sigmas, level
    )
    identity, predicted = (
        torch.from_numpy(stored["identity"]),
        torch.from_numpy(stored["predicted"]),
    )
    same_class = retention.class_retained(predicted, sweep.labels)
    centres_m, centres_s = stored["identity_centres"], stored["class_centres"]
    return Transitions(
        sweep,
        identity,
        same_class,
        predicted,
        retention.retention_curve(identity),
        retention.retention_curve(same_class),
        retention.crossing(sweep.sigmas, centres_m),
        retention.crossing(sweep.sigmas, centres_s),
        retention.gap(sweep.sigmas, centres_m, centres_s),
    )


def class_gate(study: Study, seed: int = 0) -> Gate:
    """May T_s of the multi-class sweep be read? From class-conditional U-Turns at the levels between T_m and T_s (``verdicts.class_gate_of``)."""
    if study.profile.labels == "never":
        return Gate(
            "the network takes no labels: whether it would paint the class it is told cannot be seen"
        )
    times = transitions(study, seed)
    levels = told_levels(times.sweep.sigmas, times.t_m, times.t_s)
    told = profile_sweep(study, sigmas=levels, seed=seed, conditional=True)
    kept = transitions(study, seed, told).class_curve
    return class_gate_of(levels, kept, retention.chance_level(len(study.test.class_names)))


def told_levels(sigmas: tuple[float, ...], t_m: Estimate, t_s: Estimate) -> tuple[float, ...]:
    """The levels of ``sigmas`` beyond T_m up to the end of T_s's interval, two at least: those of :func:`class_gate`."""
    start, end = min(t_m.value, t_s.value), max(t_m.value, t_s.high)
    first = next((k for k, s in enumerate(sigmas[:-2]) if s > start), len(sigmas) - 2)
    last = next((k for k, s in enumerate(sigmas) if s >= end), len(sigmas) - 1)
    return sigmas[first : max(first + 1, last) + 1]
