"""P4: the length of the diffusion (after Franzese et al. 2023, arXiv 2206.05173).

The terms of their bound, likelihoods, and short diffusions from auxiliary distributions.

Our reading of the bound. For two distributions with the same noise added,
``d KL[p | q] / d sigma = -E|D_p - D_q|^2 / sigma^3`` (x from p). So KL[p_T | q_T] is an integral,
over the noise levels above T, of the squared error of the auxiliary's denoiser, as the score gap is
one of the network's below T: the best T is the level at which both are equal. As
``E|D - x_0|^2 = E|D - D*|^2 + E|D* - x_0|^2``, losses on held-out images can take the place of
errors: the unknown D* drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...data.sets import ImageSet
from ...denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser, sigma_range
from ...experiments.engine import (
    Arrays,
    Plan,
    block_ranges,
    described,
    experiment,
    planned,
    stack_levels,
)
from ...experiments.study import Study, Workbench
from ...noise import SIGMA_MIN, karras_sigmas, proportional_steps
from ...sampling import final, reverse, sampling_grid
from ...seeding import NoiseStream, sample_seeds
from ...support import checks
from .auxiliary import NoData as NoData
from .auxiliary import SubspaceMixture, fit_mixture
from .likelihood import Prior, ascend, prior_log_prob

COORDINATES, COMPONENTS = 40, 20  # of the auxiliary mixture
FITTED = 10_000  # it is fitted to so many training images at most


@experiment("weights", "means", "covariances")
def leading_mixture(data: ImageSet, count: int, coordinates: int, components: int) -> Arrays:
    """The Gaussian mixture in the leading principal components of ``data``.

    Fitted to its first ``count`` images.
    """
    found = fit_mixture(
        GaussianDenoiser.fit(data.images), data.images[:count], coordinates, components
    ).leading
    return {name: getattr(found, name).numpy() for name in ("weights", "means", "covariances")}


def auxiliary_mixture(study: Study) -> SubspaceMixture:
    """The profile's auxiliary mixture (``auxiliary.fit_mixture``), fitted once."""
    stored = leading_mixture(study.train, min(FITTED, len(study.train)), COORDINATES, COMPONENTS)
    leading = GaussianMixtureDenoiser(
        *(torch.from_numpy(stored[name]) for name in leading_mixture.results)
    )
    return SubspaceMixture.of(study.gaussian, leading)


@dataclass(frozen=True)
class Squares:
    """Squared distances (S, N) of each named denoiser from a target, at S increasing levels.

    The target: another denoiser, or the clean images.
    """

    sigmas: tuple[float, ...]
    of: dict[str, np.ndarray] = field(repr=False)


@experiment("squares", calls=lambda images: len(images))
def squares_at(
    bench: Workbench,
    others: Sequence[Denoiser],
    target: Denoiser | None,
    images: Tensor,
    sigma: float,
    seed: int,
) -> Arrays:
    """``|D - target|^2`` (1 + others, N) of the bench's denoiser and ``others`` at one level."""
    eps = NoiseStream(
        sample_seeds(seed, range(len(images)), "forward"), images.shape[1:], dtype=torch.float32
    ).normal()
    x = images + sigma * eps
    with torch.no_grad():
        aim = images if target is None else target(x, sigma)
        parts = (part.to(bench.device) for part in x.split(bench.batch_size))
        network = torch.cat([bench.denoiser(part, sigma).cpu() for part in parts])
        answers = [network, *(one(x, sigma) for one in others)]
        errors = [(answer - aim).double().flatten(1) for answer in answers]
        return {"squares": torch.stack([error.square().sum(1) for error in errors]).numpy()}


@planned
def squared_distances(
    bench: Workbench,
    others: Mapping[str, Denoiser],
    images: Tensor,
    sigmas: Sequence[float],
    target: Denoiser | None = None,
    seed: int = 0,
) -> Plan[Squares]:
    """``|D_k(x, sigma) - target|^2`` per sample at ``x = image + sigma eps``.

    D_k: the bench's denoiser ("network") and ``others``. ``target``: a denoiser, or None for the
    clean image (the denoising loss). Raises ``ValueError`` for one without a fingerprint.
    """
    described("others", others)
    names, rows = ("network", *others), [{"sigma": float(sigma)} for sigma in sigmas]
    given = {"others": list(others.values()), "target": target, "images": images, "seed": seed}

    def gather(results: list[Arrays]) -> Squares:
        squares = np.stack([result["squares"] for result in results], axis=1)  # (names, S, N)
        return Squares(tuple(sigmas), dict(zip(names, squares, strict=True)))

    chunks = squares_at.chunks(rows, bench=bench.bench, **given)
    return Plan(chunks, "errors of denoisers", gather)


def flow_levels(times: Sequence[float], steps: int, lowest: float) -> list[float]:
    """Increasing levels of the flow.

    A Karras grid of ``steps`` levels from ``lowest`` to the last of ``times``, and the ``times``.
    """
    grid = karras_sigmas(steps, times[-1], lowest)[:-1].tolist()
    return sorted(
        {*times, *(level for level in grid if min(abs(level / time - 1) for time in times) > 0.02)}
    )


def ascent_calls(images: Tensor, times: Sequence[float], steps: int) -> int:
    """Calls of Heun's method between the levels; one with its derivative costs as much as three."""
    return 3 * len(images) * 2 * (len(flow_levels(times, steps, SIGMA_MIN)) - 1)


@experiment("log_p", "latent", calls=ascent_calls)
def ascents(
    bench: Workbench,
    images: Tensor,
    priors: Sequence[Prior | None],
    times: Sequence[float],
    steps: int,
    seed: int,
) -> Arrays:
    """log p (priors, times, N) of ``images``, and root mean squares (times, N) of their states."""
    low, high = sigma_range(bench.denoiser)
    lowest = max(SIGMA_MIN, low)
    for time in times:
        checks.noise_level("times", time, highest=high, lowest=lowest)
    levels = flow_levels(times, steps, lowest)
    noise = NoiseStream(
        sample_seeds(seed, range(len(images)), "forward"), images.shape[1:]
    ).normal()
    start = images.double() + levels[0] * noise
    power = float(start.square().mean())
    latent = np.zeros((len(times), len(start)))
    log_p = np.zeros((len(priors), *latent.shape))
    for first in range(0, len(start), bench.batch_size):  # derivatives need memory
        part = slice(first, first + bench.batch_size)
        x = start[part].to(bench.device)
        path = ascend(bench.denoiser, x, levels, seed=seed, indices=range(first, first + len(x)))
        for level, (state, total) in zip(levels, path, strict=True):
            if level not in times:
                continue
            row, end = times.index(level), state.cpu()
            for k, prior in enumerate(priors):
                log_p[k, row, part] = prior_log_prob(end, level, prior) + total.cpu()
            square = end.flatten(1).square().mean(1)
            latent[row, part] = (square / (level**2 + power)).sqrt()
    return {"log_p": log_p, "latent": latent}


@planned
def flow_likelihoods(
    bench: Workbench,
    images: Tensor,
    times: Sequence[float],
    priors: Mapping[str, Prior],
    steps: int = 48,
    seed: int = 0,
) -> Plan[dict[str, np.ndarray]]:
    """log p (len(times), N) of ``images`` by the probability flow up to each T.

    The density at T is that of each of ``priors`` (name -> an object with ``log_prob(x, sigma)``),
    or of N(0, T^2) ("noise"). One flow, by Heun's method on a Karras grid of ``steps`` levels to
    which the ``times`` are added, serves all of them: what lies below T is the same. The density is
    that at the lowest level, so its noise is added to the images first. Also under "latent": the
    root mean square of the state at each T in units of (T^2 + mean square of the images)^(1/2),
    which is 1 where the flow has done its work.
    """
    times = [checks.noise_level("times", time, lowest=SIGMA_MIN) for time in times]
    if (
        not times
        or any(a >= b for a, b in zip(times, times[1:], strict=False))
        or times[0] <= SIGMA_MIN
    ):
        raise ValueError(f"times = {times} must increase, from above {SIGMA_MIN:g}")
    for name in priors:
        if name in ("noise", "latent"):
            raise ValueError(f"priors: the name {name!r} is taken")
    described("priors", priors)
    given = {"priors": [None, *priors.values()], "times": times, "steps": steps, "seed": seed}

    def gather(results: list[Arrays]) -> dict[str, np.ndarray]:
        found = dict(zip(("noise", *priors), results[0]["log_p"], strict=True))
        return found | {"latent": results[0]["latent"]}

    chunks = ascents.chunks([given], bench=bench.bench, images=images)
    return Plan(chunks, "likelihoods", gather)


@experiment("y0", calls=lambda count, steps: count * steps)
def from_auxiliary(
    bench: Workbench,
    law: SubspaceMixture,
    sigma_u: float,
    steps: int,
    seed: int,
    first: int,
    count: int,
) -> Arrays:
    """Samples ``first``, ``first`` + 1, ... of the reverse SDE from ``law`` plus noise.

    It begins at ``sigma_u``.
    """
    indices = range(first, first + count)
    start = law.sample(sample_seeds(seed, indices, "start"), sigma_u).to(bench.device)
    grid = sampling_grid(bench.denoiser, steps, sigma_u, "sde")
    path = reverse(bench.denoiser, start, grid, "sde", sample_seeds(seed, indices))
    return {"y0": final(path).float().cpu().numpy()}


@planned
def auxiliary_starts(
    study: Study, law: SubspaceMixture, sigmas: Sequence[float] | None = None, seed: int = 0
) -> Plan[Tensor]:
    """Outputs (S, N, *sample) of the reverse SDE from ``law`` plus noise of each level.

    As ``experiments.start_sweep``, with another start. By default as many as there are ground
    truths, at ``profile.quality_sigmas``, with steps as dense as those of the full run.
    """
    profile = study.profile
    blocks = block_ranges(profile.ground_truths, profile.chunk)
    rows = []
    for sigma in profile.quality_sigmas if sigmas is None else sigmas:
        steps = proportional_steps(sigma, profile.steps, profile.sigma_max)
        level = {"sigma_u": float(sigma), "steps": steps}
        rows += [level | {"first": block.start, "count": len(block)} for block in blocks]
    return Plan(
        from_auxiliary.chunks(rows, bench=study.bench, law=law, seed=seed),
        "starts from the auxiliary mixture",
        lambda results: stack_levels(results, len(blocks), ("y0",))["y0"],
    )


def levels(count: int = 25, lowest: float = 0.02, highest: float = 80.0) -> tuple[float, ...]:
    """Noise levels for integrals over all scales, equally spaced in log sigma."""
    checks.positive_int("count", count, minimum=2)
    return tuple(float(f"{value:.6g}") for value in np.geomspace(lowest, highest, count))
