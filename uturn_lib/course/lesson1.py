"""Checks of lesson 1, "Noise and denoising": each names its closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..reports.exercises import Checked
from .answers import grade


def _normal(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _columns(sigma: float | Tensor, x: Tensor) -> Tensor:
    """``sigma`` with axes of length 1 where ``x`` (B, *sample) has those of a sample."""
    return torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# ------------------------------------------------------------------------- 1: the forward process


def _noisy(x0: Tensor, sigma: float | Tensor, eps: Tensor) -> Tensor:
    return x0 + _columns(sigma, x0) * eps


def check_add_noise(answer: Callable[[Tensor, float | Tensor, Tensor], Tensor] | None) -> Checked:
    """x = x_0 + sigma eps; ``answer(x0, sigma, eps)``, ``x0`` and ``eps`` (B, *sample)."""
    images, eps = _normal(3, 1, 4, 4).tanh(), _normal(3, 1, 4, 4, seed=2)
    points = _normal(5, 2), _normal(5, 2, seed=2)
    each = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    return grade(
        answer,
        _noisy,
        {
            "no noise": (images, 0.0, eps),
            "points": (points[0], 3.0, points[1]),
            "images": (images, 0.5, eps),
            "one sigma for each image": (images, each, eps),
        },
        [
            (
                "The noise has the standard deviation sigma, not the variance sigma.",
                lambda x, s, e: x + _columns(s, x).sqrt() * e,
            ),
            (
                "Sigma is the standard deviation of the noise: it is not squared here.",
                lambda x, s, e: x + _columns(s, x) ** 2 * e,
            ),
            (
                "The image is not shrunk: that belongs to the variance-preserving convention.",
                lambda x, s, e: _noisy(x, s, e) / (1 + _columns(s, x) ** 2).sqrt(),
            ),
            (
                "A noisy image may leave [-1, 1]: nothing is clamped.",
                lambda x, s, e: _noisy(x, s, e).clamp(-1, 1),
            ),
            ("The noise is added, not subtracted.", lambda x, s, e: _noisy(x, s, -e)),
            ("The image itself is missing.", lambda x, s, e: _columns(s, x) * e),
        ],
    )
