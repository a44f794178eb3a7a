"""The network beside three exact scores: one that memorises, a Gaussian's, and a local one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..denoisers import GaussianDenoiser
from ..empirical import EmpiricalDenoiser
from ..local import LocalDenoiser
from ..measures import retention
from ..methods import network_calls
from ..sampling import reverse, sampling_grid
from ..seeding import starting_noise
from ..support import checks
from ..uturn import posterior_draws
from .engine import Arrays, Plan, experiment, planned
from .study import Study, Workbench
from .sweeps import Sweep, profile_sweep, u_turn_sweep

NORMS = ("network", "memorising", "apart", "from_mean")


@dataclass(frozen=True)
class Deviation:
    """Network and memorising score along N deterministic paths of the network, at S noise levels.

    ``sigmas`` (S,); ``network``, ``memorising``, ``apart`` (S, N): |D_network|, |D_empirical| and
    |D_network - D_empirical| at the same x; ``from_mean`` (S, N): |D_empirical - mean|, what a
    denoiser that always answers the mean of the data would be away.
    """

    sigmas: np.ndarray
    network: np.ndarray = field(repr=False)
    memorising: np.ndarray = field(repr=False)
    apart: np.ndarray = field(repr=False)
    from_mean: np.ndarray = field(repr=False)


def deviation_calls(count: int, steps: int, path: str) -> int:
    """Calls of the network.

    Those of Heun's method on its own paths; one at each level of the memorising score's.
    """
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
    """The arrays of :class:`Deviation` along one kind of path.

    "model": paths of the network; "optimal": of the memorising score.
    """
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
    """Distance of the score from the one that memorises ``stored``.

    Along paths of the probability flow ("ode") from noise at ``sigma_max``. What Chen et al. (2023,
    arXiv 2305.19947) call the score deviation; they step with Euler's method, this with Heun's.
    ``path``: "model", the network's own paths, or "optimal", those of the memorising score from the
    same starts. With ``labels`` (count,) each path is of one class, and is compared with the score
    that memorises the images of that class.
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
    """Identity retention (S, N) of ``outputs``, and of exact draws from two posteriors.

    The network's ``outputs`` (one tensor per level) of ``starts``, and draws from the empirical and
    the Gaussian posterior of ``data``; nearest neighbours are sought in ``reference``.
    """
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


@experiment("kept")
def identity_of(outputs: Tensor, starts: Tensor, reference: Tensor) -> Arrays:
    """Identity retention (S, N) of ``outputs`` (S, N, *sample) of ``starts``, in ``reference``."""
    own = retention.nearest_index(starts, reference)
    rows = [retention.identity_retained(y0, reference, own) for y0 in outputs]
    return {"kept": torch.stack(rows).numpy()}


@dataclass(frozen=True)
class KeptByScore:
    """Which outputs kept the identity of their ground truth.

    ``sigmas`` (S,); ``kept`` (S, N) booleans.
    """

    sigmas: tuple[float, ...]
    kept: Tensor = field(repr=False)


def identity_by_score(study: Study, seed: int = 0) -> dict[tuple[str, str], KeptByScore]:
    """Identity retention for four scores and two kinds of starts.

    Keys: ("network" | "empirical" | "local" | "gaussian", "training" | "held out"). The outputs of
    the network and of the local score are U-Turns; those of the empirical and the Gaussian score of
    the training images are exact draws from their posterior, without a sampler. At the profile's
    ``repeat_sigmas``; the local score, which reads all training images for every step, at the
    ``local_sigmas`` among them and with the first ``local_ground_truths`` starts.
    """
    levels = study.profile.repeat_sigmas
    found: dict[tuple[str, str], KeptByScore] = {}
    for name, turned in (
        ("training", training_sweep(study, seed)),
        ("held out", profile_sweep(study, seed=seed)),
    ):
        outputs = torch.stack([turned.y0[turned.sigmas.index(s)] for s in levels])
        stored = identities(
            outputs, turned.x0, study.reference, study.train, study.gaussian, levels, seed
        )
        found |= {
            (kind, name): KeptByScore(levels, torch.from_numpy(stored[kind])) for kind in stored
        }
    for name, images in (("training", study.train), ("held out", study.test)):
        local = local_sweep(study, images, seed)
        kept = identity_of(local.y0, local.x0, study.reference)["kept"]
        found["local", name] = KeptByScore(local.sigmas, torch.from_numpy(kept))
    return found


LOCAL_BLOCK = 5  # U-Turns of the local score that are kept together: half a minute for photographs


def local_score(data: ImageSet, device: torch.device) -> LocalDenoiser:
    """The local score of ``data``, patches by its schedule."""
    return LocalDenoiser(data.images.to(device))


@planned
def local_sweep(study: Study, images: ImageSet, seed: int = 0) -> Plan[Sweep]:
    """U-Turns of the first ``local_ground_truths`` of ``images`` with the local score.

    The score is that of all training images. Sampler and noise are the network's.
    """
    profile, data = study.profile, study.train
    name = hashlib.sha256(f"local score of {data.fingerprint}".encode()).hexdigest()
    bench = Workbench(partial(local_score, data, study.device), name, study.device, LOCAL_BLOCK)
    return u_turn_sweep.plan(
        bench,
        images.take(profile.local_ground_truths),
        profile.local_sigmas,
        profile.steps,
        seed=seed,
        sigma_max=profile.sigma_max,
        chunk=LOCAL_BLOCK,
    )


@planned
def training_sweep(study: Study, seed: int = 0) -> Plan[Sweep]:
    """U-Turns of as many training images as there are ground truths, at ``repeat_sigmas``."""
    profile = study.profile
    return profile_sweep.plan(
        study, study.train.take(profile.ground_truths), profile.repeat_sigmas, seed=seed
    )
