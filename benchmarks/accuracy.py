"""Error against calls: U-Turns on a mixture whose score is exact, by our "sde" and by the
stochastic samplers of other libraries.

What is compared needs no second sampler: for the exact reverse process y_0 is a draw of p(. | x_u),
so

    mean         E[y_0] = mu                                   | E[y_0] - mu | / sqrt(tr Sigma)
    covariance   Cov[y_0] = Sigma                              | Cov[y_0] - Sigma |_F / | Sigma |_F
    retention    E[w_k(y_0) | x_u] = p(k | x_u)                E sum_k p(k | x_u) w_k(y_0), minus
    its exact value correlation  E[y_0 | x_u] = D(x_u)                         E<D(x_u) - mu, y_0 -
    mu> / tr Sigma, minus its exact value

with w_k(y) = p(k | y) of the clean mixture. Given x_u, the output does not depend on x_0: so these
are class retention and U-Turn correlation, averaged over x_0 in closed form. Each comes with its
standard error over blocks of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from peers import Peer, peers, seeded
from torch import Tensor

from uturn_lib import GaussianMixtureDenoiser, reverse
from uturn_lib.noise import reverse_sde_sigmas, turn_sigmas
from uturn_lib.sampling import final
from uturn_lib.seeding import sample_seeds

CALLS, LEVELS, BLOCKS = (8, 16, 32, 64), (1.5, 80.0), 20
# of the peers; another seed than that of the starts, whose noise would return in the first step
NOISE = 20_000_101
MEASURES = ("mean", "covariance", "retention", "correlation")


def two_clouds() -> GaussianMixtureDenoiser:
    """Two unequal clouds in 8 dimensions, 2 apart along the diagonal, with variances between 0.02
    and 0.5."""
    size = 8
    centre = torch.ones(size, dtype=torch.float64) / math.sqrt(size)
    spread = torch.logspace(math.log10(0.02), math.log10(0.5), size, dtype=torch.float64)
    return GaussianMixtureDenoiser(
        [0.6, 0.4],
        torch.stack([centre, -centre]),
        torch.stack([spread.diag(), spread.flip(0).diag()]),
    )


def moments(mixture: GaussianMixtureDenoiser) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of the mixture."""
    weights, means = mixture.weights, mixture.means.flatten(1)
    mean = weights @ means
    covariance = torch.einsum(
        "k,kij->ij", weights, mixture.covariances + torch.einsum("ki,kj->kij", means, means)
    )
    return mean, covariance - torch.outer(mean, mean)


@dataclass(frozen=True)
class Starts:
    """Turning points: ``x`` (N, D) at ``sigma_u``, D(x, sigma_u) and p(k | x; sigma_u)."""

    sigma_u: float
    x: Tensor
    denoised: Tensor
    shares: Tensor

    @classmethod
    def draw(
        cls, mixture: GaussianMixtureDenoiser, sigma_u: float, count: int, seed: int
    ) -> Starts:
        x0, _ = mixture.sample(sample_seeds(seed, range(count), "start"))
        generator = torch.Generator().manual_seed(seed)
        x = x0 + sigma_u * torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        return cls(sigma_u, x, mixture(x, sigma_u), mixture.responsibilities(x, sigma_u))


def exact_draws(mixture: GaussianMixtureDenoiser, starts: Starts, seed: int) -> Tensor:
    """y_0 (N, D) from p(. | x_u) itself: a component with its posterior share, then that
    component's Gaussian posterior."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(starts.shares, 1, generator=generator)[:, 0]
    noise = torch.randn(starts.x.shape, generator=generator, dtype=starts.x.dtype)
    y0 = torch.empty_like(starts.x)
    for k, part in enumerate(mixture.components):
        own = chosen == k
        spread = (
            part.eigenvalues * starts.sigma_u**2 / (part.eigenvalues + starts.sigma_u**2)
        ).sqrt()
        y0[own] = part(starts.x[own], starts.sigma_u) + noise[own] * spread @ part.eigenvectors.T
    return y0


def errors(
    mixture: GaussianMixtureDenoiser, starts: Starts, y0: Tensor
) -> dict[str, tuple[float, float]]:
    """(error, standard error) of each of ``MEASURES`` for outputs ``y0`` (N, D); of mean and
    covariance a length, freed of the part that noise adds."""
    mean, covariance = moments(mixture)
    kept = (starts.shares * (mixture.responsibilities(y0, 0.0) - starts.shares)).sum(1)
    along = ((starts.denoised - mean) * (y0 - starts.denoised)).sum(1) / covariance.trace()
    products = torch.einsum("ni,nj->nij", y0 - mean, y0 - mean).flatten(1) - covariance.flatten()
    return {
        "mean": _length(y0 - starts.denoised, math.sqrt(float(covariance.trace()))),
        "covariance": _length(products, float(covariance.norm())),
        "retention": (float(kept.mean()), float(kept.std()) / math.sqrt(len(kept))),
        "correlation": (float(along.mean()), float(along.std()) / math.sqrt(len(along))),
    }


def _length(rows: Tensor, unit: float) -> tuple[float, float]:
    """|E rows| / unit without the bias E|noise|^2, and its standard error along that direction
    (never below the noise of a single one)."""
    blocks = torch.stack([block.mean(0) for block in rows.chunk(BLOCKS)])
    mean, noise = blocks.mean(0), blocks.var(0) / BLOCKS
    squared = float(mean.square().sum() - noise.sum())
    direction = mean / mean.norm()
    error = max(
        float((blocks @ direction).std()) / math.sqrt(BLOCKS), math.sqrt(float(noise.sum()) / 2) / 2
    )
    return math.sqrt(max(0.0, squared)) / unit, error / unit


def ours(mixture: GaussianMixtureDenoiser, starts: Starts, calls: int) -> Tensor:
    sigmas = reverse_sde_sigmas(calls, starts.sigma_u)
    return final(reverse(mixture, starts.x, sigmas, "sde", sample_seeds(0, range(len(starts.x)))))


def grids(steps: int, sigma_u: float) -> dict[str, Tensor]:
    """The spacings offered to a peer: the Karras grid, equal ratios down to 0.001 (azula's own),
    and ours."""
    ratios = torch.cat(
        [
            torch.logspace(math.log10(sigma_u), -3, steps, dtype=torch.float64),
            torch.zeros(1).double(),
        ]
    )
    ratios[0] = sigma_u
    return {
        "karras": turn_sigmas(steps, sigma_u),
        "log": ratios,
        "ours": reverse_sde_sigmas(steps, sigma_u),
    }


def best_of(
    peer: Peer, mixture: GaussianMixtureDenoiser, starts: Starts, calls: int
) -> tuple[str, dict]:
    """The peer on the spacing, its own or ours or Karras', that gives it the smallest error of the
    covariance."""
    found = {}
    for name, sigmas in grids(calls // peer.calls, starts.sigma_u).items():
        with seeded(NOISE):
            found[name] = errors(mixture, starts, peer.run(mixture, starts.x, sigmas))
    best = min(found, key=lambda name: found[name]["covariance"][0])
    return best, found[best]


def table(count: int = 40_000) -> list[dict[str, object]]:
    """One row per turning level, number of calls and sampler."""
    mixture, rows = two_clouds(), []
    for sigma_u in LEVELS:
        starts = Starts.draw(mixture, sigma_u, count, seed=0)
        for calls in CALLS:
            candidates = [("ours", "ours", errors(mixture, starts, ours(mixture, starts, calls)))]
            for peer in peers():
                candidates.append((peer.name, *best_of(peer, mixture, starts, calls)))
            for name, grid, found in candidates:
                rows.append(
                    {
                        "sigma_u": sigma_u,
                        "calls": calls,
                        "sampler": name,
                        "grid": grid,
                        "samples": count,
                    }
                    | found
                )
    return rows
