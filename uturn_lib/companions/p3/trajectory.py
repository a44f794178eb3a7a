"""The shape of trajectories: how straight, how monotone, in how few dimensions.

After Chen et al. 2023, arXiv 2305.19947. A path is a tensor (S, B, ...) of S states of B samples,
in the order of time (noise level running down).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...support import checks


def _flat(name: str, path: Tensor, least: int = 2) -> Tensor:
    if not isinstance(path, Tensor) or path.ndim < 3 or len(path) < least:
        shape = tuple(path.shape) if isinstance(path, Tensor) else type(path).__name__
        raise ValueError(
            f"{name} has shape {shape}; (S, B, ...) with at least {least} states is needed"
        )
    return path.double().flatten(2)


def chord_deviation(path: Tensor) -> Tensor:
    """Distance (S, B) of each state from the chord, the line through its path's two ends."""
    states = _flat("path", path)
    chord = states[-1] - states[0]
    direction = chord / chord.norm(dim=1, keepdim=True).clamp(min=1e-300)
    away = states - states[0]
    along = (away * direction).sum(2, keepdim=True) * direction
    return (away - along).norm(dim=2)


def path_length(path: Tensor) -> Tensor:
    """Length (B,) of each path: the sum of its steps."""
    return _flat("path", path).diff(dim=0).norm(dim=2).sum(0)


def distance_to_end(path: Tensor) -> Tensor:
    """Distance (S, B) of each state from the last one."""
    states = _flat("path", path)
    return (states - states[-1]).norm(dim=2)


def monotone(distances: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether ``distances`` (S, B) never grow by more than ``tolerance``, (B,) booleans."""
    if distances.ndim != 2 or len(distances) < 2:
        raise ValueError(
            f"distances has shape {tuple(distances.shape)}; (S, B) with at least 2 states is needed"
        )
    return (distances.diff(dim=0) <= tolerance).all(0)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine (S, B) between two paths of vectors, state by state."""
    first, second = _flat("first", first, 1), _flat("second", second, 1)
    if first.shape != second.shape:
        raise ValueError(
            f"first has shape {tuple(first.shape)}, second {tuple(second.shape)}: not equal"
        )
    return torch.nn.functional.cosine_similarity(first, second, dim=2, eps=1e-300)


def explained_variance(path: Tensor, components: int = 3) -> Tensor:
    """Share (components, B) of a path's variance in its first 1, 2, ... principal components.

    A straight path has one, a circle two; the principal components are those of the S states of one
    path, about their mean.
    """
    components = checks.positive_int("components", components)
    states = _flat("path", path).transpose(0, 1)  # (B, S, D)
    centred = states - states.mean(1, keepdim=True)
    products = centred @ centred.transpose(1, 2)  # (B, S, S): they have the same eigenvalues
    values = torch.linalg.eigvalsh(products).clamp(min=0).flip(1)
    if components > values.shape[1]:
        raise ValueError(f"components = {components} is more than the {values.shape[1]} states")
    return (values.cumsum(1) / values.sum(1, keepdim=True).clamp(min=1e-300))[:, :components].T


def mean_shift(x: Tensor, points: Tensor, bandwidth: float) -> Tensor:
    """One step of mean shift with a Gaussian kernel (Fukunaga and Hostetler 1975).

    For each of ``x`` (B, ...): the mean of ``points`` (N, ...) weighted by
    ``exp(-|x - y|^2 / (2 bandwidth^2))``. Float64, plainly written: the empirical denoiser at sigma
    = bandwidth must equal it.
    """
    bandwidth = checks.noise_level("bandwidth", bandwidth, allow_zero=False)
    flat, data = x.double().flatten(1), points.double().flatten(1)
    squares = torch.stack([(data - row).square().sum(1) for row in flat])
    return (torch.softmax(-squares / (2 * bandwidth**2), dim=1) @ data).reshape(x.shape)
