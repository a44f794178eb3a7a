"""The network beside two scores that are known exactly: the one that memorises the data, and that of a Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..denoisers import GaussianDenoiser
from ..empirical import EmpiricalDenoiser
from ..measures import retention
from ..methods import network_calls
from ..sampling import reverse, sampling_grid
from ..seeding import starting_noise
from ..support import checks
from ..uturn import posterior_draws
from .engine import Arrays, Plan, experiment, planned
from .study import Study, Workbench
from .sweeps import Sweep, profile_sweep

NORMS = ("network", "memorising", "apart", "from_mean")


@dataclass(frozen=True)
class Deviation:
    """Network and memorising score along N deterministic paths of the network, at S noise levels.

    ``sigmas`` (S,); ``network``, ``memorising``, ``apart`` (S, N): |D_network|, |D_empirical| and |D_network - D_empirical| at the same x; ``from_mean`` (S, N): |D_empirical - mean|,
    what a denoiser that always answers the mean of the data would be away.
    """

    sigmas: np.ndarray
    network: np.ndarray = field(repr=False)
    memorising: np.ndarray = field(repr=False)
    apart: np.ndarray = field(repr=False)
    from_mean: np.ndarray = field(repr=False)


def deviation_calls(count: int, steps: int, path: str) -> int:
    """Calls of the network: those of Heun's method on its own paths, one at each level of the memorising score's."""
    return count * (network_calls("ode", steps) if path == "model" else steps)


@experiment("sigmas", *NORMS, calls=deviation_calls)
def deviations(
    bench: Workbench,
    stored: ImageSet,
    labels: Tensor | None,
    count: int,
    steps: int,
    sigma_max: float,
    seed: int,
    path: str,
) -> Arrays:
    """The arrays of :class:`Deviation`, along the paths of the network ("model") or of the memorising score ("optimal")."""
    if labels is None:
        memories = [(slice(None), EmpiricalDenoiser(stored.images))]
    else:
        memories = [
            (labels == k, EmpiricalDenoiser(stored.images[stored.labels == k]))
            for k in labels.unique()
        ]
    start = starting_noise(stored.images.shape[1:], range(count), sigma_max, seed)
    walked = reverse(
        bench.denoiser if path == "model" else memories[0][1],
        start.to(bench.device),
        sampling_grid(bench.denoiser, steps, sigma_max),
        "ode",
        labels=None if labels is None else labels.to(bench.device),
    )
    found: dict[str, list] = {name: [] for name in ("sigmas", *NORMS)}
    mean = sum(part.sum(0) for part in stored.images.split(4096)) / len(stored.images)
    for step in walked:
        if step.sigma == 0:  # there D is x itself
            break
        state, believed = step.x.float().cpu(), step.denoised.float().cpu()
        if path == "model":
            remembered = torch.empty_like(believed)
            for rows, memory in memories:
                remembered[rows] = memory(state[rows], step.sigma)
        else:
            remembered = believed
            with torch.no_grad():
                believed = bench.denoiser(step.x, step.sigma).float().cpu()
        found["sigmas"].append(step.sigma)
        for name, images in zip(
            NORMS, (believed, remembered, believed - remembered, remembered - mean), strict=True
        ):
            found[name].append(images.flatten(1).norm(dim=1).numpy())
    return {name: np.array(values) for name, values in found.items()}


@planned
def deviation(
    bench: Workbench,
    stored: ImageSet,
    count: int,
    steps: int,
    sigma_max: float = 80.0,
    seed: int = 0,
    labels: Tensor | None = None,
    path: str = "model",
) -> Plan[Deviation]:
    """How far the score is from the one that memorises ``stored``, along probability-flow paths ("ode", from noise at ``sigma_max``).

    What Chen et al. (2023, arXiv 2305.19947) call the score deviation; they step with Euler's method, this with Heun's. ``path``: "model", the network's own paths, or
    "optimal", those of the memorising score from the same starts.
    With ``labels`` (count,) each path is of one class, and is compared with the score that memorises the images of that class.
    """
    checks.one_of("path", path, ("model", "optimal"))
    if labels is not None:
        if path == "optimal":
            raise ValueError(
                "labels: the paths of the memorising score of all images have no class"
            )
        labels = checks.labels(labels, count, len(stored.class_names))
    settings = {
        "stored": stored,
        "labels": labels,
        "count": count,
        "steps": steps,
        "sigma_max": sigma_max,
    }
    chunks = deviations.chunks([settings], bench=bench.bench, seed=seed, path=path)
    return Plan(chunks, "score deviation", lambda results: Deviation(**results[0]))


@experiment("network", "empirical", "gaussian")
def identities(
    outputs: Sequence[Tensor],
    starts: Tensor,
    reference: Tensor,
    data: ImageSet,
    gaussian: GaussianDenoiser,
    levels: Sequence[float],
    seed: int,
) -> Arrays:
    """Which outputs (S, N) are their ``starts`` among the ``reference``: of the network's ``outputs``, and of draws from the empirical and the Gaussian posterior of ``data``."""
    own = retention.nearest_index(starts, reference)
    empirical = EmpiricalDenoiser(data.images)
    made = {
        "network": outputs,
        "empirical": [posterior_draws(empirical, starts, s, seed) for s in levels],
        "gaussian": [posterior_draws(gaussian, starts, s, seed) for s in levels],
    }
    return {
        kind: torch.stack([retention.identity_retained(y0, reference, own) for y0 in rows]).numpy()
        for kind, rows in made.items()
    }


def three_scores(study: Study, seed: int = 0) -> dict[tuple[str, str], Tensor]:
    """Identity retention (S, N) booleans at the profile's ``repeat_sigmas`` for three scores from two kinds of starts.

    Keys: ("network" | "empirical" | "gaussian", "training" | "held out"). The network's outputs are U-Turns; those of the empirical and
    the Gaussian score of the training images are exact draws from their posterior, without a sampler.
    """
    levels = study.profile.repeat_sigmas
    kept: dict[tuple[str, str], Tensor] = {}
    for name, turned in (
        ("training", training_sweep(study, seed)),
        ("held out", profile_sweep(study, seed=seed)),
    ):
        outputs = torch.stack([turned.y0[turned.sigmas.index(s)] for s in levels])
        stored = identities(
            outputs, turned.x0, study.reference, study.train, study.gaussian, levels, seed
        )
        kept |= {(kind, name): torch.from_numpy(stored[kind]) for kind in stored}
    return kept


@planned
def training_sweep(study: Study, seed: int = 0) -> Plan[Sweep]:
    """U-Turns of as many training images as there are ground truths, at ``repeat_sigmas``."""
    profile = study.profile
    return profile_sweep.plan(
        study, study.train.take(profile.ground_truths), profile.repeat_sigmas, seed=seed
    )
