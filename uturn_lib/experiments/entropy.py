"""The entropy of the class given a noisy image: from denoising errors, from a classifier, exactly.

The formulas are in ``measures.entropy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..data.halves import held_out_halves
from ..data.sets import ImageSet
from ..denoisers import GaussianMixtureDenoiser
from ..measures.entropy import entropy_from_rates, entropy_rate, shannon, surprise
from ..measures.estimate import Estimate
from ..measures.peaks import peak
from ..measures.retention import retention_curve
from ..networks.noise_classifier import noisy_probabilities
from ..seeding import NoiseStream, sample_seeds
from .classes import noise_judge
from .engine import Arrays, Plan, experiment, planned, run_chunks
from .exact import mixture_bench
from .study import Judge, Study, Workbench

LEVELS = tuple(float(level) for level in np.geomspace(0.2, 80.0, 25))  # steps of 0.25 in ln sigma


def noisy_images(images: Tensor, sigma: float, seed: int, first: int = 0, draws: int = 1) -> Tensor:
    """x_0 + sigma eps, (draws, N, *sample), with the noise of samples ``first``, ... of ``seed``.

    Noise of its own at every level keeps errors from adding up in an integral over levels.
    """
    seeds = sample_seeds(seed, range(first, first + len(images)), "forward")
    noise = NoiseStream(seeds, images.shape[1:], dtype=images.dtype)
    return torch.stack([images + sigma * noise.normal() for _ in range(draws)])


@experiment("plain", "told", "apart", calls=lambda images, draws: 2 * draws * len(images))
def denoising_errors(
    bench: Workbench,
    images: Tensor,
    labels: Tensor,
    sigma: float,
    draws: int,
    seed: int,
    first: int,
) -> Arrays:
    """|x_0 - D|^2, |x_0 - D_k|^2 and |D - D_k|^2 (N,), means over noises; D_k is told the class."""
    found: dict[str, list[Tensor]] = {"plain": [], "told": [], "apart": []}
    noisy = noisy_images(images, sigma, seed, first, draws).flatten(0, 1)
    rows = (noisy, images.repeat(draws, *[1] * (images.ndim - 1)), labels.repeat(draws))
    for x, x0, k in zip(*(tensor.split(bench.batch_size) for tensor in rows), strict=True):
        x, k = x.to(bench.device), k.to(bench.device)
        with torch.no_grad():
            plain = bench.denoiser(x, sigma).cpu().double()
            told = bench.denoiser(x, sigma, k).cpu().double()
        for name, error in (("plain", x0 - plain), ("told", x0 - told), ("apart", plain - told)):
            found[name].append(error.flatten(1).square().sum(1))
    return {
        name: torch.cat(parts).reshape(draws, -1).mean(0).numpy() for name, parts in found.items()
    }


@experiment("surprise")
def class_surprise(
    judge: Judge, images: Tensor, labels: Tensor, sigma: float, draws: int, seed: int
) -> Arrays:
    """-ln q_y (N,) of a classifier of noisy images, in nats, mean over noises."""
    q = noisy_probabilities(judge.network, images, sigma, draws, seed)
    found = surprise(q.flatten(0, 1), labels.repeat(draws))
    return {"surprise": found.reshape(draws, -1).mean(0).numpy()}


@experiment("entropy")
def mixture_entropies(bench: Workbench, sigmas: Sequence[float], count: int, seed: int) -> Arrays:
    """H(k | x) (S, ``count``) for x drawn from the Gaussian mixture of ``bench``: known exactly."""
    mixture = cast(GaussianMixtureDenoiser, bench.denoiser)
    x0, _ = mixture.sample(sample_seeds(seed, range(count), "start"))
    found = [
        shannon(mixture.responsibilities(noisy_images(x0, sigma, seed)[0], sigma))
        for sigma in sigmas
    ]
    return {"entropy": torch.stack(found).numpy()}


@dataclass(frozen=True)
class ClassEntropy:
    """What two denoising errors say of the class, at S levels for N held-out images, in nats.

    ``rates`` (S, N): their mean is d H(k | x) / d ln sigma (``measures.entropy.entropy_rate``);
    ``apart`` (S, N): the same from |D - D_k|^2, if both denoisers are exact. ``classes``: number.
    """

    sigmas: tuple[float, ...]
    classes: int
    rates: np.ndarray = field(repr=False)
    apart: np.ndarray = field(repr=False)

    @cached_property
    def entropy(self) -> np.ndarray:
        """H(k | x) up to each level, (S, N): the integral of ``rates`` from the lowest level on."""
        return entropy_from_rates(self.sigmas, self.rates)

    @cached_property
    def rate_curve(self) -> list[Estimate]:
        """d H / d ln sigma at each level, with its interval over images."""
        return retention_curve(self.rates)

    @cached_property
    def curve(self) -> list[Estimate]:
        """H(k | x) at each level, with its interval over images."""
        return retention_curve(self.entropy)

    @cached_property
    def peak(self) -> Estimate:
        """The noise level at which the class is lost fastest."""
        return peak(self.sigmas, self.rates)


@planned
def class_entropy(
    bench: Workbench,
    data: ImageSet,
    sigmas: Sequence[float] = LEVELS,
    draws: int | None = None,
    seed: int = 0,
) -> Plan[ClassEntropy]:
    """:class:`ClassEntropy` of the denoiser of ``bench`` on ``data``, held-out images.

    ``draws`` noises per image and level; by default 2 for up to 250 images, else 1.
    Raises ``ValueError`` where the denoiser takes no labels (when it is first called).
    """
    sigmas = tuple(float(sigma) for sigma in sigmas)
    draws = (2 if len(data) <= 250 else 1) if draws is None else draws
    given = {"images": data.images, "labels": data.labels, "draws": draws, "seed": seed}
    rows = [{"sigma": s, "first": number * len(data)} for number, s in enumerate(sigmas)]
    chunks = denoising_errors.chunks(rows, bench=bench.bench, **given)

    def gather(results: list[Arrays]) -> ClassEntropy:
        pairs = list(zip(results, sigmas, strict=True))
        rates = np.stack([entropy_rate(part["plain"], part["told"], s) for part, s in pairs])
        apart = np.stack([part["apart"] / s**2 for part, s in pairs])
        return ClassEntropy(sigmas, len(data.class_names), rates, apart)

    return Plan(chunks, "denoising errors with and without the class", gather)


def entropy_images(study: Study) -> ImageSet:
    """Held-out images that the classifier of noisy images was neither trained nor calibrated on.

    A quarter more than the profile's ground truths, which come first, or as many as there are.
    """
    evaluation, _ = held_out_halves(study.test)
    count = 5 * study.profile.ground_truths // 4
    images, labels = evaluation.images[:count], evaluation.labels[:count]
    tag = f"{evaluation.fingerprint}:first({count})"
    return replace(evaluation, images=images, labels=labels, fingerprint=tag)


@planned
def profile_class_entropy(study: Study, seed: int = 0) -> Plan[ClassEntropy]:
    """:func:`class_entropy` of the profile's network on :func:`entropy_images`."""
    return class_entropy.plan(study, entropy_images(study), seed=seed)


def classifier_surprise(
    study: Study, sigmas: Sequence[float] = LEVELS, seed: int = 0
) -> np.ndarray | None:
    """-ln q_y (S, N) of the profile's noise classifier on the same images.

    Its mean is at least H(k | x). None where the profile has no such classifier.
    """
    try:
        judge = noise_judge(study)
    except FileNotFoundError:
        return None
    data = entropy_images(study)
    given = {"images": data.images, "labels": data.labels, "draws": max(1, 1000 // len(data))}
    rows = [{"sigma": float(sigma)} for sigma in sigmas]
    chunks = class_surprise.chunks(rows, judge=judge, seed=seed, **given)
    found = run_chunks(chunks, "surprise of a classifier")
    return np.stack([part["surprise"] for part in found])


def mixture_entropy(
    study: Study, sigmas: Sequence[float] = LEVELS, count: int = 250, seed: int = 0
) -> np.ndarray:
    """H(k | x) (S, ``count``) of the class mixture: theory, from means and covariances."""
    levels = [float(sigma) for sigma in sigmas]
    return mixture_entropies(mixture_bench(study), levels, count, seed)["entropy"]
