"""How affine a denoiser is at every noise level (``measures.affinity``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..denoisers import GaussianDenoiser
from ..measures import affinity as affinity_measure
from ..measures.estimate import CONFIDENCE, Estimate
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from .engine import Arrays, Plan, experiment, planned
from .study import Workbench


@dataclass(frozen=True)
class Affinity:
    """The part of a denoiser that three affine fits leave unexplained, at S levels.

    Judged on N held-out samples. ``residuals`` maps "components" (a slope per principal component),
    "ridge" (a full matrix) and "gaussian" (no regression: the fitted Gaussian's own D) to squared
    residuals (S, N); ``total`` (S, N): squared distance of D from its mean; ``slopes`` (S, P) of
    the components beside ``eigenvalues`` (P,).
    """

    sigmas: tuple[float, ...]
    residuals: dict[str, np.ndarray] = field(repr=False)
    total: np.ndarray = field(repr=False)
    slopes: np.ndarray = field(repr=False)
    eigenvalues: np.ndarray = field(repr=False)

    def unexplained(
        self, basis: str = "components", confidence: float = CONFIDENCE
    ) -> list[Estimate]:
        """1 - R^2 at each level (S) after the affine guess ``basis``, with bootstrap intervals over
        the held-out samples.

        Raises ``ValueError`` for an unknown ``basis``.
        """
        checks.one_of("basis", basis, self.residuals)
        pairs = zip(self.residuals[basis], self.total, strict=True)
        return [
            affinity_measure.unexplained(rest, total, confidence=confidence)
            for rest, total in pairs
        ]


@experiment(
    *affinity_measure.BASES,
    "total",
    "slopes",
    calls=lambda fit_images, held_out: len(fit_images) + len(held_out),
)
def affine_residuals(
    bench: Workbench,
    gaussian: GaussianDenoiser,
    fit_images: Tensor,
    held_out: Tensor,
    sigma: float,
    seed: int,
    ridge_components: int,
) -> Arrays:
    """What three affine guesses leave of D(x, sigma), x = x_0 + sigma eps, at one level."""
    x0 = torch.cat([fit_images, held_out])
    eps = NoiseStream(
        sample_seeds(seed, range(len(x0)), "forward"), x0.shape[1:], dtype=torch.float32
    ).normal()
    x = x0 + sigma * eps
    with torch.no_grad():
        denoised = torch.cat(
            [
                bench.denoiser(part.to(bench.device), sigma).cpu()
                for part in x.split(bench.batch_size)
            ]
        )
    count = len(fit_images)
    found = affinity_measure.affine_residuals(
        x[:count], denoised[:count], x[count:], denoised[count:], gaussian, sigma, ridge_components
    )
    return {name: value.astype(np.float32) for name, value in found.items()}


@planned
def affinity(
    bench: Workbench,
    gaussian: GaussianDenoiser,
    fit_images: Tensor,
    held_out: Tensor,
    sigmas: Sequence[float],
    seed: int = 0,
    ridge_components: int = 200,
) -> Plan[Affinity]:
    """Regress D(x, sigma) on x = x_0 + sigma eps at every level (``measures.affinity``).

    Fitted on ``fit_images``, judged on ``held_out``.
    """

    def gather(results: list[Arrays]) -> Affinity:
        stacked = {
            name: np.stack([result[name] for result in results])
            for name in affine_residuals.results
        }
        residuals = {name: stacked[name] for name in affinity_measure.BASES}
        return Affinity(
            tuple(sigmas),
            residuals,
            stacked["total"],
            stacked["slopes"],
            gaussian.eigenvalues.numpy(),
        )

    chunks = affine_residuals.chunks(
        [{"sigma": float(sigma)} for sigma in sigmas],
        bench=bench.bench,
        gaussian=gaussian,
        fit_images=fit_images,
        held_out=held_out,
        seed=seed,
        ridge_components=ridge_components,
    )
    return Plan(chunks, "score affinity", gather)
