"""Where outputs go that leave the class of their ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..support import checks


def class_counts(predicted: Tensor, classes: int) -> Tensor:
    """Number of outputs per class: ``predicted`` (..., R) -> (..., K)."""
    return torch.nn.functional.one_hot(predicted.long(), classes).sum(-2)


@dataclass(frozen=True)
class Leaving:
    """Where do outputs go that leave the class of their ground truth? Per level: ``leaving`` how
    many do, ``seen`` mean number of different classes among those of one ground truth, ``expected``
    the same if they went to all other classes alike, ``p_value`` of as few or fewer."""

    leaving: np.ndarray
    seen: np.ndarray
    expected: np.ndarray
    p_value: np.ndarray


def leaving_concentration(
    counts: Tensor, labels: Tensor, draws: int = 2000, seed: int = 0
) -> Leaving:
    """Test for a hierarchy of speciations: do outputs leave to a few classes first? (claim C3)

    ``counts`` (S, N, K) from :func:`class_counts`, ``labels`` (N,). Null hypothesis: an output that
    leaves its class falls into each of the K - 1 others alike. The number of outputs that leave is
    kept for every ground truth; only ground truths from which at least two leave say anything.
    Simulated; p-values are one-sided. Our construction.
    """
    left = np.asarray(counts).copy()
    _, truths, classes = left.shape
    checks.labels(torch.as_tensor(labels), truths, classes)
    left[:, np.arange(truths), np.asarray(labels)] = 0
    leaving, rng = left.sum(2), np.random.default_rng(seed)
    found: dict[str, list[float]] = {"seen": [], "expected": [], "p_value": []}
    for row, number in zip(left, leaving, strict=True):
        able = number >= 2
        if not able.any():
            for name, value in (("seen", np.nan), ("expected", np.nan), ("p_value", 1.0)):
                found[name].append(value)
            continue
        seen = (row[able] > 0).sum(1).mean()
        even = np.full(classes - 1, 1 / (classes - 1))
        null = np.mean(
            [(rng.multinomial(n, even, size=draws) > 0).sum(1) for n in number[able]], axis=0
        )
        found["seen"].append(seen)
        found["expected"].append(null.mean())
        found["p_value"].append((1 + (null <= seen + 1e-9).sum()) / (1 + draws))
    return Leaving(leaving.sum(1), **{name: np.array(values) for name, values in found.items()})


def class_entropy(counts: Tensor) -> Tensor:
    """Entropy in bits of the class distribution behind ``counts`` (..., K), with the Miller-Madow
    correction for few outputs.

    The plug-in entropy of R draws is too small by about (seen classes - 1) / (2 R ln 2) bits; that
    much is added, up to log2 K.
    """
    total = counts.sum(-1, keepdim=True).clamp(min=1)
    share = counts.double() / total
    plug_in = -torch.special.xlogy(share, share).sum(-1) / np.log(2)
    corrected = plug_in + ((counts > 0).sum(-1) - 1).clamp(min=0) / (2 * total[..., 0] * np.log(2))
    return corrected.clamp(max=np.log2(counts.shape[-1]))
