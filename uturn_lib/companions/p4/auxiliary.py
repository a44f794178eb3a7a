"""Auxiliary distributions that start a short diffusion (Franzese et al. 2023, arXiv 2206.05173).

A Gaussian mixture fitted to the leading principal components of the data, in place of the noise; a
single Gaussian (``GaussianDenoiser``) gives the G-Turn. Theirs for MNIST was a Dirichlet-process
mixture, as here: its fit gives no weight to Gaussians that the data do not need. How many principal
components it sees, and that the rest is Gaussian, is our choice: full covariances in a thousand
dimensions cannot be learnt from a few thousand images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...denoisers import ExactDenoiser, GaussianDenoiser, GaussianMixtureDenoiser
from ...seeding import NoiseStream
from ...support import checks
from ...support.hashes import content_hash


class NoData:
    """The denoiser of data that are always 0: exact for a start from plain noise."""

    fingerprint = "zero"

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """Zeros of the shape of ``x``."""
        return torch.zeros_like(x)


class SubspaceMixture(ExactDenoiser):
    """A Gaussian mixture in the leading coordinates, independent Gaussians in the others.

    Coordinates in an orthonormal basis. Denoiser, density and draws are exact.

    Parameters
    ----------
    mean: (*sample)
    vectors: (D, D) orthonormal, in columns, the leading ones first
    leading: a mixture of P-dimensional Gaussians, the distribution of the first P coordinates
        ``(x - mean) @ vectors[:, :P]``
    rest: (D - P,) variances of the other coordinates
    fingerprint: of what the distribution was made from, where its numbers are not reproducible (an
    eigenbasis differs in its last bits with the number of threads); by default a hash of them.

    Raises ``ValueError`` for shapes that do not fit, or negative variances.
    """

    def __init__(
        self,
        mean: Tensor,
        vectors: Tensor,
        leading: GaussianMixtureDenoiser,
        rest: Tensor,
        fingerprint: str | None = None,
    ):
        self.mean, self.vectors, self.rest = (
            torch.as_tensor(values, dtype=torch.float64) for values in (mean, vectors, rest)
        )
        size, count = self.mean.numel(), leading.sample_shape[0]
        if self.vectors.shape != (size, size) or self.rest.shape != (size - count,):
            raise ValueError(
                f"vectors {tuple(self.vectors.shape)} and rest {tuple(self.rest.shape)}: "
                f"the mean asks for ({size}, {size}), and ({size - count},) "
                f"beside {count} leading coordinates"
            )
        if bool((self.rest < 0).any()):
            raise ValueError(
                f"rest holds a variance of {float(self.rest.min()):g}; none may be negative"
            )
        self.leading, self.count, self.sample_shape = leading, count, tuple(self.mean.shape)
        self.flat_mean = self.mean.flatten()
        self.fingerprint = (
            fingerprint
            or content_hash(self.flat_mean, self.vectors, self.rest) + leading.fingerprint[:16]
        )

    @classmethod
    def of(cls, gaussian: GaussianDenoiser, leading: GaussianMixtureDenoiser) -> SubspaceMixture:
        """``leading`` in the leading eigenvectors of ``gaussian``, the Gaussian in the others."""
        rest = gaussian.eigenvalues.flip(0)[leading.sample_shape[0] :]
        name = f"{gaussian.fingerprint} with leading {leading.fingerprint}"
        return cls(gaussian.mean, leading_basis(gaussian), leading, rest, name)

    def _coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        turned = (x.flatten(1) - self.parameter("flat_mean", x)) @ self.parameter("vectors", x)
        return turned[:, : self.count], turned[:, self.count :]

    def _image(self, leading: Tensor, rest: Tensor) -> Tensor:
        vectors, mean = self.parameter("vectors", leading), self.parameter("flat_mean", leading)
        flat = torch.cat([leading, rest], dim=1) @ vectors.T + mean
        return flat.reshape(-1, *self.sample_shape)

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, sigma), shape of ``x``."""
        _, level = self.flatten(x, sigma)
        checks.labels(labels, len(x), self.num_classes)
        leading, rest = self._coordinates(x)
        variances = self.parameter("rest", x)
        shrink = variances / (variances + level**2).clamp(min=torch.finfo(x.dtype).tiny)
        shrink = torch.where(level == 0, torch.ones_like(shrink), shrink)
        return self._image(self.leading(leading, sigma), rest * shrink)

    def log_prob(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log p(x; sigma) of the noisy distribution, shape (B,), in nats."""
        _, level = self.flatten(x, sigma)
        leading, rest = self._coordinates(x)
        variance = self.parameter("rest", x) + level**2
        others = -0.5 * (rest**2 / variance + variance.log() + math.log(2 * math.pi)).sum(1)
        return self.leading.log_prob(leading, sigma) + others

    def sample(self, seeds: Sequence[int], sigma: float = 0.0) -> Tensor:
        """One draw with noise of level ``sigma`` per seed, float64 (B, *sample)."""
        sigma = checks.noise_level("sigma", sigma)
        leading, _ = self.leading.sample(seeds)
        streams = [np.random.SeedSequence([int(seed), 1]) for seed in seeds]
        others = [int(stream.generate_state(1, np.uint64)[0]) for stream in streams]
        # independent of the draws of the leading part
        noise = NoiseStream(others, (len(self.flat_mean),)).normal()
        leading = leading + sigma * noise[:, : self.count]
        return self._image(leading, noise[:, self.count :] * (self.rest + sigma**2).sqrt())


def fit_mixture(
    gaussian: GaussianDenoiser,
    images: Tensor,
    coordinates: int = 40,
    components: int = 20,
    seed: int = 0,
) -> SubspaceMixture:
    """A Dirichlet-process mixture of the leading ``coordinates`` of ``images`` (N, *sample).

    By scikit-learn's ``BayesianGaussianMixture``. ``gaussian``: the Gaussian of the same images;
    its eigenvectors are the basis, its eigenvalues the variances of the rest. ``components``: at
    most so many; those that get less than one image are left out. Raises ``ValueError`` for fewer
    images than 10 per coordinate.
    """
    from sklearn.mixture import BayesianGaussianMixture

    checks.samples("images", images, gaussian.sample_shape)
    coordinates = checks.positive_int("coordinates", coordinates)
    components = checks.positive_int("components", components)
    if len(images) < 10 * coordinates or coordinates > len(gaussian.eigenvalues):
        raise ValueError(
            f"coordinates = {coordinates}: {len(images)} images of {len(gaussian.eigenvalues)} "
            f"pixels carry at most {min(len(images) // 10, len(gaussian.eigenvalues))}"
        )
    vectors, values = leading_basis(gaussian), gaussian.eigenvalues.flip(0)
    parts = (part.double().flatten(1) - gaussian.flat_mean for part in images.split(4096))
    turned = torch.cat([part @ vectors[:, :coordinates] for part in parts]).numpy()
    # the fit sees coordinates of unit variance
    scale = np.sqrt(values[:coordinates].clamp(min=1e-12).numpy())
    found = BayesianGaussianMixture(
        n_components=components,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=1.0,
        reg_covar=1e-3,
        max_iter=500,
        tol=1.0,  # nats of the whole set: less changes nothing that could be seen
        init_params="k-means++",
        random_state=seed,
    ).fit(turned / scale)
    kept = found.weights_ * len(images) >= 1
    weights = found.weights_[kept] / found.weights_[kept].sum()
    covariances = found.covariances_[kept] * scale[:, None] * scale
    leading = GaussianMixtureDenoiser(
        weights, found.means_[kept] * scale, (covariances + covariances.swapaxes(1, 2)) / 2
    )
    return SubspaceMixture.of(gaussian, leading)


def leading_basis(gaussian: GaussianDenoiser) -> Tensor:
    """The Gaussian's eigenvectors (D, D) in columns, the largest eigenvalue first.

    The largest entry of each is positive: signs depend on the linear algebra library, and stored
    coordinates must mean the same on every machine.
    """
    vectors = gaussian.eigenvectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * largest.sign()
