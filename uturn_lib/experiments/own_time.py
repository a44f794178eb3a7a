"""Every image's own T_m, and its traits: what makes one image last longer than another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..measures import individuals, retention, traits
from ..measures.estimate import Estimate
from ..measures.individuals import Heterogeneity
from ..measures.regression import Attribution, attribute
from .engine import Arrays, Plan, experiment, planned
from .study import Judge, Study
from .sweeps import Repeats, multi_class, repeated

NEIGHBOURS = 20  # of the local dimension
MOST = 1000  # images that are turned repeatedly
AROUND = 2.3  # levels within this factor of T_m
COVERAGE = ("distance", "dimension")  # how sparsely the data lie around the image
LOOKS = ("norm", "edges", "margin")  # what it looks like
TRAITS = COVERAGE + LOOKS
GROUPS = {"coverage": COVERAGE, "looks": LOOKS}


@experiment(*TRAITS)
def traits_of(judge: Judge, images: Tensor, reference: Tensor) -> Arrays:
    """Traits (N,) of ``images`` (N, C, H, W), part of ``reference``.

    Logarithms of: distance to the nearest other image, local dimension, norm after the mean is
    subtracted, edge energy; and the classifier's margin.
    """
    near = traits.stranger_distances(images, reference, NEIGHBOURS)
    near = near.clamp(min=1e-3)  # photographs may occur twice
    network = judge.network
    device = next(network.parameters()).device
    with torch.no_grad():
        logits = torch.cat([network(part.to(device)).cpu() for part in images.split(500)])
    found = {
        "distance": near[:, 0].log(),
        "dimension": traits.local_dimension(near).log(),
        "norm": (images - reference.mean(0)).double().flatten(1).norm(dim=1).log(),
        "edges": traits.edge_energy(images).log(),
        "margin": traits.class_margin(logits),
    }
    return {name: values.numpy() for name, values in found.items()}


@dataclass(frozen=True)
class OwnTimes:
    """T_m of N images from R U-Turns each at S levels, and their traits.

    ``log_times`` (N,); ``spread``: the test of claim C3 on these U-Turns; ``traits``: name ->
    (N,), in the order of :data:`TRAITS`; ``identity`` (S, N, R) booleans.
    """

    sigmas: tuple[float, ...]
    images: Tensor = field(repr=False)
    identity: Tensor = field(repr=False)
    log_times: np.ndarray = field(repr=False)
    spread: Heterogeneity
    traits: dict[str, np.ndarray] = field(repr=False)

    def attribution(self, seed: int = 0) -> Attribution:
        """Which traits, and which of the :data:`GROUPS`, explain log T_m on held-out images."""
        return attribute(self.traits, self.log_times, GROUPS, seed)

    @property
    def reliability(self) -> float:
        """Share of the variance of log T_m that is not chance of the repeats: the most that any
        regression can explain."""
        return (self.spread.own_spread / self.spread.spread.value) ** 2


def levels_around(sigmas: Sequence[float], t: Estimate) -> tuple[float, ...]:
    """The levels of ``sigmas`` within a factor :data:`AROUND` of T, at least three."""
    near = sorted(sigmas, key=lambda sigma: abs(np.log(sigma) - np.log(max(t.value, sigmas[0]))))
    inside = [s for s in sigmas if t.value / AROUND <= s <= t.value * AROUND]
    return tuple(inside if len(inside) >= 3 else sorted(near[:3]))


@planned
def repeats_around(study: Study, t_m: Estimate, seed: int = 0, repeats: int = 2) -> Plan[Repeats]:
    """U-Turns of the ground truths at the levels around T_m, ``repeats`` times."""
    return repeated.plan(
        study, seed + 1,  # other noise than that of the multi-class sweep
        sigmas=levels_around(study.profile.repeat_sigmas, t_m),
        count=min(MOST, study.profile.ground_truths), repeats=repeats,
    )  # fmt: skip


def own_times(study: Study, t_m: Estimate, seed: int = 0) -> OwnTimes:
    """T_m of every ground truth with its traits.

    From :func:`repeats_around`, and the multi-class sweep as one repeat more. ``t_m``: T_m of the
    average. Identity is sought among all images of the data set.
    """
    turned, once = repeats_around(study, t_m, seed), multi_class(study, seed)
    count, repeats = turned.y0.shape[1:3]
    own = retention.nearest_index(turned.x0, study.reference)
    outputs = torch.cat(
        [
            turned.y0,
            torch.stack([once.y0[once.sigmas.index(s)][:count] for s in turned.sigmas])[:, :, None],
        ],
        dim=2,
    )
    owns = own.repeat_interleave(repeats + 1)
    rows = [retention.identity_retained(y0.flatten(0, 1), study.reference, owns) for y0 in outputs]
    identity = torch.stack(rows).unflatten(1, (count, repeats + 1))
    spread = individuals.heterogeneity(turned.sigmas, identity, 0.5, seed=seed)
    found = traits_of(study.judge, turned.x0, study.reference)
    return OwnTimes(
        turned.sigmas, turned.x0, identity, np.log(spread.levels), spread,
        {name: found[name] for name in TRAITS},
    )  # fmt: skip
