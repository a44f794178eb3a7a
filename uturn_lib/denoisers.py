"""The one interface, what follows from it, and the denoisers that Gaussians give in closed form.

A denoiser is anything that can be called as ``denoiser(x, sigma, labels=None)`` and returns

    D(x, sigma) = E[x_0 | x_0 + sigma eps = x]

with ``x`` of shape (B, *sample), ``sigma`` a float or a tensor (B,), and a result of the shape,
dtype and device of ``x``. Optional attributes: ``sample_shape``, ``num_classes``, ``sigma_range``,
``value_range``, ``fingerprint``. The exact denoisers also give log p(x; sigma), against which their
score can be checked by differentiation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .seeding import NoiseStream
from .support import checks
from .support.hashes import content_hash

LOG_2PI = math.log(2 * math.pi)


@runtime_checkable
class Denoiser(Protocol):
    """E[x_0 | x_0 + sigma eps = x]; see the module's text for shapes."""

    def __call__(
        self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None
    ) -> Tensor: ...


def score(
    denoiser: Denoiser, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None
) -> Tensor:
    """grad log p(x; sigma) = (D(x, sigma) - x) / sigma^2, shape of ``x`` (Tweedie's formula)."""
    return (denoiser(x, sigma, labels) - x) / per_sample(sigma, x) ** 2


def noise_prediction(
    denoiser: Denoiser, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None
) -> Tensor:
    """E[eps | x] = (x - D) / sigma, shape of ``x``."""
    return (x - denoiser(x, sigma, labels)) / per_sample(sigma, x)


def velocity(
    denoiser: Denoiser, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None
) -> Tensor:
    """dx/dsigma = (x - D) / sigma of the probability-flow ODE, equal to the noise prediction."""
    return noise_prediction(denoiser, x, sigma, labels)


def per_sample(sigma: float | Tensor, x: Tensor) -> Tensor:
    """``sigma`` (float, (1,) or (B,)) as a tensor that broadcasts over the samples of ``x``."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if sigma.ndim > 1 or (sigma.ndim == 1 and len(sigma) not in (1, len(x))):
        raise ValueError(
            f"sigma has shape {tuple(sigma.shape)}; a number or one per sample, ({len(x)},), is "
            "needed"
        )
    if not bool((sigma >= 0).all()):
        raise ValueError(f"sigma = {sigma.tolist()} must be zero or positive, and a number")
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def sigma_range(denoiser: Denoiser) -> tuple[float, float]:
    """The noise levels the denoiser was made for; (0, inf) when it does not say."""
    return getattr(denoiser, "sigma_range", (0.0, math.inf))


class ExactDenoiser:
    """Base of the exact denoisers: checks, flattening, float64 parameters cast on demand."""

    sample_shape: tuple[int, ...]
    num_classes = 0

    def flatten(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        checks.samples("x", x, self.sample_shape)
        return x.flatten(1), per_sample(sigma, x).reshape(-1, 1)

    def parameter(self, name: str, x: Tensor) -> Tensor:
        """Parameter ``name`` in the dtype and device of ``x``, converted once."""
        cache = self.__dict__.setdefault("_converted", {})
        key = (name, x.dtype, x.device)
        if key not in cache:
            cache[key] = getattr(self, name).to(dtype=x.dtype, device=x.device)
        return cache[key]


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (*sample) and covariance (D, D) of ``images`` (N, *sample), float64, streamed.

    The covariance is divided by N - 1.
    """
    flat = images.flatten(1)
    mean = sum(part.double().sum(0) for part in flat.split(4096)) / len(flat)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=flat.device)
    for part in flat.split(4096):
        centred = part.double() - mean
        covariance.addmm_(centred.T, centred)
    return mean.reshape(images.shape[1:]), covariance / (len(flat) - 1)


def covariance_eigenvalues(images: Tensor) -> Tensor:
    """Eigenvalues (D,), ascending, float64, of the covariance of ``images`` (N, *sample).

    For N < D they are computed from the N x N Gram matrix.
    """
    flat = images.flatten(1)
    if len(flat) > flat.shape[1]:
        return torch.linalg.eigvalsh(moments(images)[1]).clamp(min=0)
    centred = flat.double() - flat.double().mean(0)
    found = torch.linalg.eigvalsh(centred @ centred.T / (len(flat) - 1)).clamp(min=0)
    return torch.cat([torch.zeros(flat.shape[1] - len(flat), dtype=torch.float64), found])


class GaussianDenoiser(ExactDenoiser):
    """Data N(mean, covariance): D is affine, ``D = mu + Sigma (Sigma + sigma^2)^-1 (x - mu)``.

    Parameters
    ----------
    mean: tensor of the sample's shape.
    covariance: (D, D), symmetric, positive semi-definite, D the number of coordinates of a sample.

    ``eigenvalues`` (D,) and ``eigenvectors`` (D, D, in columns) are exposed, float64, ascending.
    Raises ``ValueError`` for wrong shapes, an asymmetric covariance, or a clearly negative
    eigenvalue.
    """

    def __init__(self, mean: Tensor, covariance: Tensor):
        mean, covariance = (
            torch.as_tensor(mean, dtype=torch.float64),
            torch.as_tensor(covariance, dtype=torch.float64),
        )
        size = mean.numel()
        if covariance.shape != (size, size):
            raise ValueError(
                f"covariance has shape {tuple(covariance.shape)}; the mean asks for ({size}, "
                f"{size})"
            )
        if not torch.allclose(
            covariance, covariance.T, atol=1e-8 * float(covariance.abs().max() + 1e-300)
        ):
            raise ValueError("covariance is not symmetric")
        self.mean, self.covariance, self.sample_shape = mean, covariance, tuple(mean.shape)
        values, vectors = torch.linalg.eigh(covariance)
        if float(values.min()) < -1e-6 * max(float(values.max()), 1e-300):
            raise ValueError(
                "covariance is not positive semi-definite: smallest eigenvalue "
                f"{float(values.min()):g}"
            )
        self.eigenvalues, self.eigenvectors = values.clamp(min=0), vectors
        self.flat_mean = mean.flatten()
        self.fingerprint = content_hash(self.flat_mean, covariance)

    @classmethod
    def fit(cls, images: Tensor) -> GaussianDenoiser:
        """Sample mean and covariance (divided by N - 1) of ``images`` (N, *sample)."""
        checks.samples("images", images)
        if len(images) < 2:
            raise ValueError(
                f"images has {len(images)} samples; at least 2 are needed for a covariance"
            )
        return cls(*moments(images))

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, sigma), shape of ``x``."""
        flat, sigma = self.flatten(x, sigma)
        checks.labels(labels, len(x), self.num_classes)
        mean, vectors, values = (
            self.parameter("flat_mean", x),
            self.parameter("eigenvectors", x),
            self.parameter("eigenvalues", x),
        )
        shrink = values / (values + sigma**2).clamp(min=torch.finfo(x.dtype).tiny)
        shrink = torch.where(
            sigma == 0, torch.ones_like(shrink), shrink
        )  # without noise, also a null direction is known
        return (mean + ((flat - mean) @ vectors * shrink) @ vectors.T).reshape(x.shape)

    def log_prob(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log p(x; sigma) of the noisy density N(mu, Sigma + sigma^2 I), shape (B,), in nats."""
        flat, sigma = self.flatten(x, sigma)
        variance = self.parameter("eigenvalues", x) + sigma**2
        modes = (flat - self.parameter("flat_mean", x)) @ self.parameter("eigenvectors", x)
        return -0.5 * (modes**2 / variance + variance.log() + LOG_2PI).sum(1)

    def sample(self, seeds: Sequence[int], sigma: float = 0.0) -> Tensor:
        """One draw of N(mu, Sigma + sigma^2 I) per seed, float64 (B, *sample)."""
        sigma = checks.noise_level("sigma", sigma)
        # The symmetric root of the covariance: signs of eigenvectors differ between machines, and
        # leave it alone.
        noise = NoiseStream(seeds, (len(self.eigenvalues),)).normal() @ self.eigenvectors
        modes = noise * (self.eigenvalues + sigma**2).sqrt()
        return (self.flat_mean + modes @ self.eigenvectors.T).reshape(-1, *self.sample_shape)


class GaussianMixtureDenoiser(ExactDenoiser):
    """Data sum_k w_k N(m_k, S_k). ``labels`` condition on a component: p(x | k) = N(m_k, S_k).

    Parameters
    ----------
    weights: (K,), positive, summing to 1.
    means: (K, *sample).
    covariances: (K, D, D), or (K,) for isotropic components S_k = s_k I.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor):
        weights, means = (
            torch.as_tensor(weights, dtype=torch.float64),
            torch.as_tensor(means, dtype=torch.float64),
        )
        covariances = torch.as_tensor(covariances, dtype=torch.float64)
        if (
            weights.ndim != 1
            or not bool((weights > 0).all())
            or abs(float(weights.sum()) - 1) > 1e-6
        ):
            raise ValueError(f"weights = {weights.tolist()} must be positive and sum to 1")
        if len(means) != len(weights) or len(covariances) != len(weights):
            raise ValueError(
                f"{len(weights)} weights, {len(means)} means and {len(covariances)} covariances: "
                "one of each "
                "per component is needed"
            )
        size = means[0].numel()
        if covariances.ndim == 1:
            covariances = covariances[:, None, None] * torch.eye(size, dtype=torch.float64)
        self._take(
            weights,
            [GaussianDenoiser(mean, cov) for mean, cov in zip(means, covariances, strict=True)],
        )

    @classmethod
    def of(cls, weights: Tensor, components: Sequence[GaussianDenoiser]) -> GaussianMixtureDenoiser:
        """A mixture of existing Gaussians; reuses their eigenvectors (minutes for images)."""
        if len(weights) != len(components) or not len(components):
            raise ValueError(
                f"{len(weights)} weights for {len(components)} components: one of each, and at "
                "least one"
            )
        mixture = cls.__new__(cls)
        mixture._take(torch.as_tensor(weights, dtype=torch.float64), list(components))
        return mixture

    def _take(self, weights: Tensor, components: list[GaussianDenoiser]) -> None:
        self.weights, self.components = weights, components
        self.means = torch.stack([component.mean for component in components])
        self.sample_shape, self.num_classes = components[0].sample_shape, len(weights)
        self.log_weights = weights.log()
        self.fingerprint = content_hash(
            weights, self.means, *(component.covariance for component in components)
        )

    @property
    def covariances(self) -> Tensor:
        """(K, D, D), stacked on demand."""
        return torch.stack([component.covariance for component in self.components])

    def log_joint(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log [w_k p(x; sigma | k)], shape (B, K)."""
        densities = torch.stack(
            [component.log_prob(x, sigma) for component in self.components], dim=1
        )
        return self.parameter("log_weights", x) + densities

    def responsibilities(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """p(k | x; sigma), shape (B, K)."""
        return self.log_joint(x, sigma).softmax(dim=1)

    def log_prob(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log p(x; sigma) in nats, shape (B,)."""
        return self.log_joint(x, sigma).logsumexp(dim=1)

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, sigma): the components' denoisers weighted by their responsibilities, or the
        labelled one alone."""
        checks.samples("x", x, self.sample_shape)
        labels = checks.labels(labels, len(x), self.num_classes)
        # (B, K, *sample)
        each = torch.stack([component(x, sigma) for component in self.components], dim=1)
        if labels is not None:
            return each[torch.arange(len(x), device=x.device), labels.to(x.device)]
        noisy = per_sample(sigma, x) > 0
        # Where sigma = 0 every component returns x itself, and the densities need not exist: any
        # noise level will do there.
        shares = self.responsibilities(x, torch.where(noisy, per_sample(sigma, x), 1.0).flatten())
        return (shares.reshape(len(x), -1, *[1] * len(self.sample_shape)) * each).sum(1)

    def sample(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One draw per seed: samples (B, *sample) float64 and their components (B,)."""
        stream = NoiseStream(seeds, self.sample_shape)
        labels = torch.searchsorted(self.weights.cumsum(0), stream.uniform()).clamp(
            max=len(self.weights) - 1
        )
        noise = stream.normal().flatten(1)
        draws = torch.empty_like(noise)
        # One root at a time (a root per sample would not fit for images), and the symmetric one,
        # which does not depend on the signs of eigenvectors.
        for k, component in enumerate(self.components):
            own, vectors = labels == k, component.eigenvectors
            draws[own] = noise[own] @ vectors * component.eigenvalues.sqrt() @ vectors.T
        return self.means[labels] + draws.reshape(-1, *self.sample_shape), labels


class ClassConditional(ExactDenoiser):
    """One denoiser per class: ``ClassConditional([d_0, ..., d_K-1])(x, sigma, labels)``.

    The Gaussian approximation of a class-conditional score. Labels are required.
    """

    def __init__(self, denoisers: Sequence[GaussianDenoiser]):
        if not denoisers:
            raise ValueError("denoisers is empty; one per class is needed")
        self.denoisers, self.num_classes = list(denoisers), len(denoisers)
        self.sample_shape = denoisers[0].sample_shape
        self.fingerprint = hashlib.sha256(
            "".join(d.fingerprint for d in denoisers).encode()
        ).hexdigest()

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor) -> ClassConditional:
        """A Gaussian per class: ``images`` (N, *sample), ``labels`` (N,) in 0 .. K-1."""
        return cls(
            [GaussianDenoiser.fit(images[labels == k]) for k in range(int(labels.max()) + 1)]
        )

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """D(x, sigma | label), shape of ``x``."""
        checks.samples("x", x, self.sample_shape)
        labels = checks.labels(labels, len(x), self.num_classes, needed=True).to(x.device)
        sigma = per_sample(sigma, x).flatten().expand(len(x))
        result = torch.empty_like(x)
        for k in labels.unique().tolist():
            chosen = labels == k
            result[chosen] = self.denoisers[k](x[chosen], sigma[chosen])
        return result
