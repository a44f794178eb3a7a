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
from .engine import Arrays, Plan, experiment, planned
from .study import Study, Workbench


@experiment("means", "eigenvalues")
def spectra(data: ImageSet) -> Arrays:
    """Mean and covariance eigenvalues of each class of ``data``."""
    means, eigenvalues = [], []
    for k in range(
        len(data.class_names)
    ):  # one covariance at a time: all would take a gigabyte for photographs
        means.append(data.images[data.labels == k].double().mean(0).numpy())
        eigenvalues.append(covariance_eigenvalues(data.images[data.labels == k]).numpy())
    return {"means": np.stack(means), "eigenvalues": np.stack(eigenvalues)}


def class_spectra(study: Study) -> tuple[Tensor, Tensor]:
    """Means (K, *sample) and covariance eigenvalues (K, D) of the training images of each class."""
    stored = spectra(study.train)
    return torch.from_numpy(stored["means"]), torch.from_numpy(stored["eigenvalues"])


def class_mixture(study: Study) -> GaussianMixtureDenoiser:
    """The Gaussian mixture with a component per class, fitted to the training images."""
    return fitted_mixture(study.train)


def fitted_mixture(data: ImageSet) -> GaussianMixtureDenoiser:
    """A Gaussian for each class of ``data``, weighted by its share."""
    fitted = ClassConditional.fit(data.images, data.labels).denoisers
    return GaussianMixtureDenoiser.of(data.labels.bincount().double() / len(data.images), fitted)


def mixture_bench(study: Study) -> Workbench:
    """A workbench around :func:`class_mixture`, which is fitted only when a chunk has to be computed."""
    name = hashlib.sha256(f"class mixture of {study.train.fingerprint}".encode()).hexdigest()
    return Workbench(partial(fitted_mixture, study.train), name, batch_size=500)


@experiment("kept")
def mixture_agreement(data: ImageSet, sigmas: Sequence[float], count: int, seed: int) -> Arrays:
    """``sum_k p(k | x_u)^2`` (S, ``count``) for x_u drawn from the class mixture of ``data``."""
    mixture = fitted_mixture(data)
    x0, _ = mixture.sample(sample_seeds(seed, range(count), "start"))
    eps = NoiseStream(sample_seeds(seed, range(count), "forward"), x0.shape[1:]).normal()
    kept = [retention.agreement(mixture.responsibilities(x0 + s * eps, s)) for s in sigmas]
    return {"kept": torch.stack(kept).numpy()}


def mixture_retention(
    study: Study, sigmas: Sequence[float], count: int = 500, seed: int = 0
) -> np.ndarray:
    """Class retention that the class mixture predicts, per sample, (S, N): ``sum_k p(k | x_u)^2`` for x_u drawn from the mixture.

    Nothing is trained and nothing is fitted to U-Turns: theory, from means and covariances.
    """
    return mixture_agreement(study.train, [float(s) for s in sigmas], count, seed)["kept"]


@experiment("returned", "kept")
def empirical_turns(
    stored: ImageSet, images: Tensor, labels: Tensor, own: Tensor | None, sigma: float, seed: int
) -> Arrays:
    """Exact return probability and class retention of ``images`` at one level, from the weights of the ``stored`` ones."""
    seeds = sample_seeds(seed, range(len(images)), "forward")
    eps = NoiseStream(seeds, images.shape[1:], dtype=torch.float32).normal()
    returned, kept = [], []
    for rows, weights in EmpiricalDenoiser(stored.images).weight_blocks(
        images + sigma * eps, sigma
    ):
        same = stored.labels == labels[rows, None]
        kept.append((weights * same).sum(1))
        returned.append(
            torch.zeros(len(weights)) if own is None else weights.gather(1, own[rows, None])[:, 0]
        )
    return {"returned": torch.cat(returned).numpy(), "kept": torch.cat(kept).numpy()}


@planned
def empirical_retention(
    stored: ImageSet,
    starts: ImageSet,
    sigmas: Sequence[float],
    seed: int = 0,
    own: Tensor | None = None,
) -> Plan[tuple[np.ndarray, np.ndarray]]:
    """The exact U-Turn of the score that memorises ``stored``: (return probability, class retention), each (S, N) in [0, 1].

    Given x_u = x_0 + sigma_u eps the output is stored image i with probability w_i(x_u): nothing is sampled but the noise. The return
    probability of a start is the weight of its own image, ``own`` (N,) in ``stored`` (None for starts that are not stored: zeros); its class
    retention is the weight of all images of its class.
    """
    checks.ground_truth("starts", starts.images, stored.sample_shape, (float("-inf"), float("inf")))
    if own is not None:
        own = checks.labels(torch.as_tensor(own), len(starts), len(stored))
    given = {
        "stored": stored,
        "images": starts.images,
        "labels": starts.labels,
        "own": own,
        "seed": seed,
    }
    chunks = empirical_turns.chunks([{"sigma": float(sigma)} for sigma in sigmas], **given)

    def gather(results: list[Arrays]) -> tuple[np.ndarray, np.ndarray]:
        returned, kept = (
            np.stack([r[name] for r in results]).astype(float) for name in ("returned", "kept")
        )
        return returned.clip(0, 1), kept.clip(0, 1)

    return Plan(chunks, "exact U-Turns of the empirical score", gather)
