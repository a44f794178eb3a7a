"""What is known of the data without any network: spectra of the classes, the mixture of their Gaussians, the score that memorises."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..denoisers import ClassConditional, GaussianMixtureDenoiser, covariance_eigenvalues
from ..empirical import EmpiricalDenoiser
from ..measures import retention
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..support.hashes import content_hash
from .engine import Arrays, Chunk, remember, run_chunks
from .study import Study, Workbench


def class_spectra(study: Study) -> tuple[Tensor, Tensor]:
    """Means (K, *sample) and covariance eigenvalues (K, D) of the training images of each class."""

    def compute() -> Arrays:
        images, labels = study.train.images, study.train.labels
        means, eigenvalues = [], []
        for k in range(
            len(study.train.class_names)
        ):  # one covariance at a time: all would take a gigabyte for photographs
            means.append(images[labels == k].double().mean(0).numpy())
            eigenvalues.append(covariance_eigenvalues(images[labels == k]).numpy())
        return {"means": np.stack(means), "eigenvalues": np.stack(eigenvalues)}

    stored = remember("class_spectra", {"data": study.train.fingerprint}, compute)
    return torch.from_numpy(stored["means"]), torch.from_numpy(stored["eigenvalues"])


def class_mixture(study: Study) -> GaussianMixtureDenoiser:
    """The Gaussian mixture with a component per class, fitted to the training images."""
    fitted = ClassConditional.fit(study.train.images, study.train.labels).denoisers
    return GaussianMixtureDenoiser.of(study.train.labels.bincount().double() / len(study.train), fitted)


def mixture_bench(study: Study) -> Workbench:
    """A workbench around :func:`class_mixture`, which is fitted only when a chunk has to be computed."""
    name = hashlib.sha256(f"class mixture of {study.train.fingerprint}".encode()).hexdigest()
    return Workbench(partial(class_mixture, study), name, batch_size=500)


def mixture_retention(study: Study, sigmas: Sequence[float], count: int = 500, seed: int = 0) -> np.ndarray:
    """Class retention that the class mixture predicts, per sample, (S, N): ``sum_k p(k | x_u)^2`` for x_u drawn from the mixture.

    Nothing is trained and nothing is fitted to U-Turns: theory, from means and covariances.
    """
    inputs = {"data": study.train.fingerprint, "sigmas": [float(s) for s in sigmas], "count": count, "seed": seed}

    def compute() -> Arrays:
        mixture = class_mixture(study)
        x0, _ = mixture.sample(sample_seeds(seed, range(count), "start"))
        eps = NoiseStream(sample_seeds(seed, range(count), "forward"), x0.shape[1:]).normal()
        kept = [retention.agreement(mixture.responsibilities(x0 + s * eps, s)) for s in sigmas]
        return {"kept": torch.stack(kept).numpy()}

    return remember("mixture_retention", inputs, compute)["kept"]


def empirical_retention(
    stored: ImageSet, starts: ImageSet, sigmas: Sequence[float], seed: int = 0, own: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact U-Turn of the score that memorises ``stored``: (return probability, class retention), each (S, N) in [0, 1].

    Given x_u = x_0 + sigma_u eps the output is stored image i with probability w_i(x_u): nothing is sampled but the noise. The return
    probability of a start is the weight of its own image, ``own`` (N,) in ``stored`` (None for starts that are not stored: zeros); its class
    retention is the weight of all images of its class.
    """
    checks.ground_truth("starts", starts.images, stored.sample_shape, (float("-inf"), float("inf")))
    if own is not None:
        own = checks.labels(torch.as_tensor(own), len(starts), len(stored))
    inputs = {
        "stored": stored.fingerprint,
        "starts": content_hash(starts.images, starts.labels),
        "own": None if own is None else content_hash(own),
        "seed": seed,
    }
    empirical = EmpiricalDenoiser(stored.images)
    eps = NoiseStream(
        sample_seeds(seed, range(len(starts)), "forward"), starts.sample_shape, dtype=torch.float32
    ).normal()

    def compute(chunk: Chunk) -> Arrays:
        sigma, returned, kept = chunk.inputs["sigma"], [], []
        rows_of = empirical.weight_blocks(starts.images + sigma * eps, sigma)
        for rows, weights in rows_of:
            same = stored.labels == starts.labels[rows, None]
            kept.append((weights * same).sum(1))
            returned.append(torch.zeros(len(weights)) if own is None else weights.gather(1, own[rows, None])[:, 0])
        return {"returned": torch.cat(returned).numpy(), "kept": torch.cat(kept).numpy()}

    chunks = [Chunk("empirical_retention", inputs | {"sigma": float(sigma)}) for sigma in sigmas]
    results = run_chunks(compute, chunks, "exact U-Turns of the empirical score")
    return tuple(
        np.stack([result[name] for result in results]).astype(float).clip(0, 1) for name in ("returned", "kept")
    )
