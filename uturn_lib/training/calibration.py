"""Temperatures of a classifier of noisy images, one per noise level, fitted on held-out images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.sets import ImageSet
from ..networks.noise_classifier import (
    SIGMA_RANGE,
    CalibratedClassifier,
    NoiseClassifier,
    interpolation,
)

# Factors of about 1.6.
KNOTS = tuple(round(float(s), 4) for s in torch.logspace(math.log10(0.05), math.log10(80), 16))
LOGITS = 20_000  # noisy images to fit on: standard errors of ln T below 0.1


@torch.no_grad()
def noisy_logits(
    classifier: CalibratedClassifier, data: ImageSet, draws: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (M, K), sigma (M,) and labels (M,) of ``draws`` noisy versions of every image.

    ln sigma is uniform over the range of training.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = map(math.log, SIGMA_RANGE)
    logits, sigmas = [], []
    for _ in range(draws):
        sigma = (low + (high - low) * torch.rand(len(data), generator=generator)).exp()
        for images, levels in zip(data.images.split(250), sigma.split(250), strict=True):
            noise = torch.randn(images.shape, generator=generator)
            noisy = images + levels[:, None, None, None] * noise
            device = classifier.device
            logits.append(classifier.logits(noisy.to(device), levels.to(device)).cpu())
        sigmas.append(sigma)
    return torch.cat(logits), torch.cat(sigmas), data.labels.repeat(draws)


def fit_temperatures(
    logits: Tensor, sigma: Tensor, labels: Tensor, smoothness: float = 1e-3
) -> list[float]:
    """ln T at each of :data:`KNOTS` with the least cross entropy of ``softmax(logits / T(sigma))``.

    Guo et al. (2017), here with T a function of sigma. The squared second differences, times
    ``smoothness``, are added: where classes are all but unknown the data say nothing about T.
    """
    hats, logits = interpolation(sigma, KNOTS).double(), logits.double()
    table = torch.zeros(len(KNOTS), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / (hats @ table).exp()[:, None], labels)
        loss = loss + smoothness * table.diff(n=2).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return [round(value, 5) for value in table.tolist()]


def calibrate(
    network: NoiseClassifier, data: ImageSet, mirrored: bool = False
) -> CalibratedClassifier:
    """``network`` with temperatures fitted on ``data``, images that it was not trained on."""
    plain = CalibratedClassifier(network, (1.0,), (0.0,), mirrored).eval()
    logits, sigma, labels = noisy_logits(plain, data, max(1, round(LOGITS / len(data))))
    temperatures = fit_temperatures(logits, sigma, labels)
    return CalibratedClassifier(network, KNOTS, temperatures, mirrored).eval()
