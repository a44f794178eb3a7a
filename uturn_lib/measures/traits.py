"""Traits of single images: how densely the data lie around them, and what they look like."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support import checks


def stranger_distances(samples: Tensor, reference: Tensor, count: int) -> Tensor:
    """Distances (N, ``count``), ascending, float64, to the nearest *other* images.

    ``samples`` (N, *sample) are part of ``reference`` (M, *sample). Raises ``ValueError`` for a
    reference of fewer than ``count`` + 1 images or of another shape.
    """
    checks.positive_int("count", count)
    if len(reference) <= count or reference.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"reference has shape {tuple(reference.shape)}; more than {count} images of shape "
            f"{tuple(samples.shape[1:])} are needed"
        )
    flat, near = samples.flatten(1).double(), torch.zeros(len(samples), 0, dtype=torch.float64)
    for part in reference.split(4096):  # the whole reference need not fit a second time
        near = torch.cat([near, torch.cdist(flat, part.flatten(1).double())], dim=1)
        near = near.topk(min(count + 1, near.shape[1]), dim=1, largest=False).values
    return near[:, 1:]  # the first is the image itself


def local_dimension(distances: Tensor) -> Tensor:
    """Dimension (N,) of the data around each sample, from its nearest neighbours.

    ``distances`` (N, k), ascending, positive: ``(k - 2) / sum_{j<k} log(r_k / r_j)``, the
    maximum-likelihood estimate of Levina and Bickel (2004) without its bias. Raises ``ValueError``
    for k < 3.
    """
    if distances.ndim != 2 or distances.shape[1] < 3:
        raise ValueError(f"distances has shape {tuple(distances.shape)}; (N, k >= 3) is needed")
    if not (distances > 0).all():
        raise ValueError("distances must be positive: some image occurs twice")
    logs = (distances[:, -1:] / distances[:, :-1]).log().sum(1)
    return (distances.shape[1] - 2) / logs


def edge_energy(images: Tensor) -> Tensor:
    """Mean squared difference (N,) of neighbouring pixels of ``images`` (N, C, H, W)."""
    checks.samples("images", images)
    down, right = images.double().diff(dim=2), images.double().diff(dim=3)
    return (down.square().flatten(1).mean(1) + right.square().flatten(1).mean(1)) / 2


def class_margin(logits: Tensor) -> Tensor:
    """How sure a classifier is: best minus second best of ``logits`` (N, K >= 2), (N,)."""
    best = logits.double().topk(2, dim=1).values
    return best[:, 0] - best[:, 1]
