"""The network beside two scores that are known exactly: the one that memorises the data, and that of a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..empirical import EmpiricalDenoiser
from ..measures import retention
from ..noise import GRID
from ..sampling import reverse, sampling_grid
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..support.hashes import content_hash
from ..uturn import posterior_draws
from .engine import Arrays, remember
from .study import Study, Workbench
from .sweeps import profile_sweep


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


def deviation(
    bench: Workbench,
    stored: ImageSet,
    count: int,
    steps: int,
    sigma_max: float = 80.0,
    seed: int = 0,
    labels: Tensor | None = None,
    path: str = "model",
) -> Deviation:
    """How far the score is from the one that memorises ``stored``, along probability-flow paths ("ode", from noise at ``sigma_max``).

    What Chen et al. (2023, arXiv 2305.19947) call the score deviation; they step with Euler's method, this with Heun's. ``path``: "model", the network's own paths, or
    "optimal", those of the memorising score from the same starts.
    With ``labels`` (count,) each path is of one class, and is compared with the score that memorises the images of that class.
    """
    names = ("network", "memorising", "apart", "from_mean")
    inputs = {"denoiser": bench.fingerprint, "grid": GRID, "stored": stored.fingerprint, "count": count, "steps": steps}
    checks.one_of("path", path, ("model", "optimal"))
    if path == "optimal":
        inputs["path"] = path
        if labels is not None:
            raise ValueError("labels: the paths of the memorising score of all images have no class")
    if labels is not None:
        labels = checks.labels(labels, count, len(stored.class_names))
        inputs["labels"] = labels.tolist()

    def compute() -> Arrays:
        seeds = sample_seeds(seed, range(count))
        classes = None if labels is None else labels.to(bench.device)
        if labels is None:
            memories = [(slice(None), EmpiricalDenoiser(stored.images))]
        else:
            memories = [(labels == k, EmpiricalDenoiser(stored.images[stored.labels == k])) for k in labels.unique()]
        start = sigma_max * NoiseStream(sample_seeds(seed, range(count), "start"), stored.sample_shape).normal()
        guide = bench.denoiser if path == "model" else memories[0][1]
        walked = reverse(
            guide,
            start.to(bench.device),
            sampling_grid(bench.denoiser, steps, sigma_max),
            "ode",
            seeds,
            classes,
        )
        found: dict[str, list] = {name: [] for name in ("sigmas", *names)}
        mean = sum(part.sum(0) for part in stored.images.split(4096)) / len(stored)
        for step in walked:
            if step.sigma == 0:  # there D is x itself
                break
            state = step.x.float().cpu()
            if path == "model":
                believed = step.denoised.float().cpu()
            else:
                with torch.no_grad():
                    believed = bench.denoiser(step.x, step.sigma).float().cpu()
            remembered = torch.empty_like(believed)
            for rows, memory in memories if path == "model" else ():
                remembered[rows] = memory(state[rows], step.sigma)
            if path == "optimal":
                remembered = step.denoised.float().cpu()
            found["sigmas"].append(step.sigma)
            for name, images in zip(
                names, (believed, remembered, believed - remembered, remembered - mean), strict=True
            ):
                found[name].append(images.flatten(1).norm(dim=1).numpy())
        return {name: np.array(values) for name, values in found.items()}

    stored_arrays = remember("deviation", inputs | {"sigma_max": sigma_max, "seed": seed}, compute)
    return Deviation(**{name: stored_arrays[name] for name in ("sigmas", *names)})


def three_scores(study: Study, seed: int = 0) -> dict[tuple[str, str], Tensor]:
    """Identity retention (S, N) booleans at the profile's ``repeat_sigmas`` for three scores from two kinds of starts.

    Keys: ("network" | "empirical" | "gaussian", "training" | "held out"). The network's outputs are U-Turns; those of the empirical and
    the Gaussian score of the training images are exact draws from their posterior, without a sampler.
    """
    profile, reference = study.profile, study.reference
    starts = {"training": study.train.take(profile.ground_truths), "held out": study.ground_truths}
    levels = profile.repeat_sigmas
    kept = {}
    for name, images in starts.items():
        turned = profile_sweep(study, images, profile.sigmas if name == "held out" else levels, seed=seed)
        outputs = torch.stack([turned.y0[turned.sigmas.index(s)] for s in levels])
        inputs = {
            "outputs": content_hash(outputs),
            "starts": content_hash(images.images),
            "reference": content_hash(reference),
            "data": study.train.fingerprint,
            "levels": list(levels),
            "seed": seed,
        }

        def judge(images: ImageSet = images, outputs: Tensor = outputs) -> Arrays:
            own = retention.nearest_index(images.images, reference)
            empirical = EmpiricalDenoiser(study.train.images)
            made = {
                "network": outputs,
                "empirical": [posterior_draws(empirical, images.images, s, seed) for s in levels],
                "gaussian": [posterior_draws(study.gaussian, images.images, s, seed) for s in levels],
            }
            return {
                kind: torch.stack([retention.identity_retained(y0, reference, own) for y0 in rows]).numpy()
                for kind, rows in made.items()
            }

        stored = remember("three_scores", inputs, judge)
        kept |= {(kind, name): torch.from_numpy(stored[kind]) for kind in stored}
    return kept
