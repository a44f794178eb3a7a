"""P4, how long the diffusion must be (after Franzese et al. 2023, arXiv 2206.05173): the terms of their bound, likelihoods, and short diffusions from auxiliary laws.

Our reading of the bound. For two laws that are diffused alike ``d KL[p | q] / d sigma = -E|D_p - D_q|^2 / sigma^3`` (x from p). So the distance of p_T from an auxiliary law
that starts the reverse process is an integral over the noise levels above T of the auxiliary's own denoising error, as the score gap is one of the network's below T, and the
best T is the level above which the auxiliary's denoiser is as good as the network. By Pythagoras both errors can be replaced by losses on held-out images: the unknown D* drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...denoisers import Denoiser, GaussianMixtureDenoiser, sigma_range
from ...experiments.engine import Arrays, Chunk, block_ranges, remember, run_chunks
from ...experiments.study import Study, Workbench
from ...noise import GRID, SIGMA_MIN, karras_sigmas, proportional_steps
from ...sampling import final, reverse, sampling_grid
from ...seeding import NoiseStream, sample_seeds
from ...support import checks
from ...support.hashes import content_hash
from .auxiliary import SubspaceMixture, fit_mixture
from .likelihood import Prior, ascend, prior_log_prob

COORDINATES, COMPONENTS, FITTED = (
    40,
    20,
    10_000,
)  # of the auxiliary mixture; it is fitted to so many training images at most


def auxiliary_mixture(study: Study) -> SubspaceMixture:
    """The profile's auxiliary mixture (``auxiliary.fit_mixture``), fitted once."""
    images = study.train.images[:FITTED]
    inputs = {
        "data": study.train.fingerprint,
        "count": len(images),
        "coordinates": COORDINATES,
        "components": COMPONENTS,
    }

    def compute() -> Arrays:
        found = fit_mixture(study.gaussian, images, COORDINATES, COMPONENTS)
        parts = found.leading
        return {
            "weights": parts.weights.numpy(),
            "means": parts.means.numpy(),
            "covariances": parts.covariances.numpy(),
        }

    stored = remember("auxiliary_mixture", inputs, compute)
    leading = GaussianMixtureDenoiser(*(torch.from_numpy(stored[name]) for name in ("weights", "means", "covariances")))
    return SubspaceMixture.of(study.gaussian, leading)


class NoData:
    """The denoiser of data that are always zero: what the plain noise law believes."""

    fingerprint = "zero"

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """Zeros of the shape of ``x``."""
        return torch.zeros_like(x)


def fingerprint_of(name: str, one: object) -> str:
    """Of a denoiser or law; ``ValueError`` where it has none: its results could not be told apart from another one's."""
    found = getattr(one, "fingerprint", None)
    if not found:
        raise ValueError(
            f"{name} is a {type(one).__name__} without a fingerprint; cached results could not be told apart"
        )
    return found


@dataclass(frozen=True)
class Squares:
    """Squared distances (S, N) at S increasing levels between each named denoiser and a target: another denoiser, or the clean images."""

    sigmas: tuple[float, ...]
    of: dict[str, np.ndarray] = field(repr=False)


def squared_distances(
    bench: Workbench,
    others: Mapping[str, Denoiser],
    images: Tensor,
    sigmas: Sequence[float],
    target: Denoiser | None = None,
    seed: int = 0,
) -> Squares:
    """``|D_k(x, sigma) - target|^2`` per sample for the bench's denoiser ("network") and ``others``, at ``x = image + sigma eps``.

    ``target``: a denoiser, or None for the clean image (the denoising loss). Raises ``ValueError`` for one without a fingerprint.
    """
    named = {name: fingerprint_of(f"others[{name!r}]", one) for name, one in others.items()}
    inputs = {
        "denoiser": bench.fingerprint,
        "others": named,
        "target": "image" if target is None else fingerprint_of("target", target),
        "images": content_hash(images),
        "seed": seed,
    }
    chunks = [Chunk("squared_distances", inputs | {"sigma": float(sigma)}) for sigma in sigmas]
    eps = NoiseStream(sample_seeds(seed, range(len(images)), "forward"), images.shape[1:], dtype=torch.float32).normal()

    @torch.no_grad()
    def compute(piece: Chunk) -> Arrays:
        sigma = piece.inputs["sigma"]
        x = images + sigma * eps
        aim = images if target is None else target(x, sigma)
        network = torch.cat([bench.denoiser(part.to(bench.device), sigma).cpu() for part in x.split(bench.batch_size)])
        answers = {"network": network} | {name: one(x, sigma) for name, one in others.items()}
        return {name: (answer - aim).double().flatten(1).square().sum(1).numpy() for name, answer in answers.items()}

    results = run_chunks(compute, chunks, "errors of denoisers")
    return Squares(tuple(sigmas), {name: np.stack([row[name] for row in results]) for name in ("network", *others)})


def flow_likelihoods(
    bench: Workbench,
    images: Tensor,
    times: Sequence[float],
    priors: Mapping[str, Prior],
    steps: int = 48,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """log p (len(times), N) of ``images`` through the probability flow up to each T, ended by each law of ``priors`` (name -> something with ``log_prob(x, sigma)``) or by noise ("none").

    One flow, by Heun's method on a Karras grid of ``steps`` levels to which the ``times`` are added, serves all T and all laws: what lies below a T is the same for each. The density
    is that at the lowest level, so its noise is added to the images first. Also under "latent": the root mean square of the state at each T in units of (T^2 + mean square
    of the images)^(1/2), which is 1 where the flow has done its work.
    """
    low, high = sigma_range(bench.denoiser)
    lowest = max(SIGMA_MIN, low)
    times = [checks.noise_level("times", time, highest=high, lowest=lowest) for time in times]
    if not times or any(a >= b for a, b in zip(times, times[1:], strict=False)) or times[0] <= lowest:
        raise ValueError(f"times = {times} must increase, from above {lowest:g}")
    for name in priors:
        if name in ("none", "latent"):
            raise ValueError(f"priors: the name {name!r} is taken")
    inputs = {
        "denoiser": bench.fingerprint,
        "images": content_hash(images),
        "times": times,
        "steps": steps,
        "seed": seed,
    }
    inputs |= {"priors": {name: fingerprint_of(f"priors[{name!r}]", prior) for name, prior in priors.items()}}
    inputs |= {"lowest": lowest, "grid": GRID}
    grid = karras_sigmas(steps, times[-1], lowest)[:-1].tolist()
    noise = NoiseStream(sample_seeds(seed, range(len(images)), "forward"), images.shape[1:]).normal()
    start = images.double() + grid[-1] * noise
    levels = sorted({*times, *(level for level in grid if min(abs(level / time - 1) for time in times) > 0.02)})

    def compute() -> Arrays:
        made: dict[str, list] = {name: [] for name in ("none", *priors, "latent")}
        power = float(start.square().mean())
        for block in block_ranges(len(start), bench.batch_size):  # derivatives need memory
            rows: dict[str, list] = {name: [] for name in made}
            part = start[block.start : block.stop].to(bench.device)
            path = ascend(bench.denoiser, part, levels, seed=seed, indices=block)
            for level, (state, total) in zip(levels, path, strict=True):
                if level in times:
                    latent = state.cpu()
                    for name, prior in {"none": None, **priors}.items():
                        rows[name].append((prior_log_prob(latent, level, prior) + total.cpu()).double().numpy())
                    length = latent.flatten(1).square().mean(1) / (level**2 + power)
                    rows["latent"].append(length.sqrt().double().numpy())
            for name, values in rows.items():
                made[name].append(np.stack(values))
        return {name: np.concatenate(blocks, axis=1) for name, blocks in made.items()}

    return remember("flow_likelihood", inputs, compute)


def auxiliary_starts(
    study: Study, law: SubspaceMixture, sigmas: Sequence[float] | None = None, seed: int = 0
) -> Tensor:
    """Outputs (S, N, *sample) of the stochastic reverse process begun at each level from the noisy ``law``: as ``experiments.start_sweep``, with another start.

    By default as many as there are ground truths, at ``profile.quality_sigmas``, with steps as dense as those of the full run.
    """
    profile = study.profile
    sigmas = [float(s) for s in (profile.quality_sigmas if sigmas is None else sigmas)]
    blocks = block_ranges(profile.ground_truths, profile.chunk)
    common = {"denoiser": study.fingerprint, "grid": GRID, "law": law.fingerprint, "seed": seed}
    chunks = [
        Chunk(
            "auxiliary_start",
            common
            | {"sigma_u": sigma, "steps": proportional_steps(sigma, profile.steps, profile.sigma_max)}
            | {"first": block.start, "count": len(block)},
        )
        for sigma in sigmas
        for block in blocks
    ]

    def compute(piece: Chunk) -> Arrays:
        made = piece.inputs
        indices = range(made["first"], made["first"] + made["count"])
        start = law.sample(sample_seeds(seed, indices, "start"), made["sigma_u"]).to(study.device)
        grid = sampling_grid(study.denoiser, made["steps"], made["sigma_u"], "sde")
        return {
            "y0": final(reverse(study.denoiser, start, grid, "sde", sample_seeds(seed, indices))).float().cpu().numpy()
        }

    results = run_chunks(compute, chunks, "starts from the auxiliary mixture")
    rows = [
        np.concatenate([r["y0"] for r in results[i : i + len(blocks)]]) for i in range(0, len(results), len(blocks))
    ]
    return torch.from_numpy(np.stack(rows))


def levels(count: int = 25, lowest: float = 0.02, highest: float = 80.0) -> tuple[float, ...]:
    """Noise levels for integrals over all scales, equally spaced in log sigma."""
    checks.positive_int("count", count, minimum=2)
    return tuple(float(f"{value:.6g}") for value in np.geomspace(lowest, highest, count))
