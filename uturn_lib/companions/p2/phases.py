"""Phases of generation: noise levels at which the ranking of the network's parts changes.

Our definition; Prasad et al. (2023) name phases from looking at such maps. An effect map is (parts,
windows, samples): how far the output moves when a part is off in a window. Its columns, averaged
over samples, are profiles over the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from ...measures.estimate import CONFIDENCE, RESAMPLES, Estimate, interval
from ...support import checks


def _map(effects: np.ndarray, least: int) -> np.ndarray:
    effects = np.asarray(effects, dtype=float)
    if (
        effects.ndim != 3
        or effects.shape[1] < least
        or effects.shape[2] < 2
        or not np.isfinite(effects).all()
    ):
        raise ValueError(
            f"effects has shape {effects.shape}; finite (parts, windows, samples) with at least "
            f"{least} windows and 2 samples are needed"
        )
    return effects


def segment_costs(columns: np.ndarray) -> np.ndarray:
    """``cost[..., i, j]``: squared distance of columns i .. j-1 from their mean.

    ``columns`` (..., parts, windows); infinite for i >= j.
    """
    windows = columns.shape[-1]
    cost = np.full((*columns.shape[:-2], windows + 1, windows + 1), np.inf)
    for i in range(windows):
        for j in range(i + 1, windows + 1):
            piece = columns[..., i:j]
            cost[..., i, j] = ((piece - piece.mean(-1, keepdims=True)) ** 2).sum((-2, -1))
    return cost


def best_borders(columns: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` borders (..., count) of the least-squares split of the columns.

    Border b lies before column b.
    """
    windows = columns.shape[-1]
    cost = segment_costs(columns)
    choices = list(combinations(range(1, windows), count))
    totals = []
    for borders in choices:
        ends = (0, *borders, windows)
        totals.append(sum(cost[..., a, b] for a, b in zip(ends, ends[1:], strict=False)))
    return np.array(choices)[np.stack(totals, -1).argmin(-1)]


def change_points(
    edges: Sequence[float] | np.ndarray, effects: np.ndarray, count: int = 2, seed: int = 0
) -> list[Estimate]:
    """Noise levels at which the profile over the parts changes.

    The least-squares split of the map's columns into ``count + 1`` phases. ``edges`` (windows +
    1,): borders of the windows, decreasing. Intervals by bootstrap over the samples; values are
    edges: the windows limit the resolution. Raises ``ValueError`` unless there are more windows
    than change points.
    """
    checks.positive_int("count", count)
    effects = _map(effects, count + 1)
    edges = np.asarray(edges, dtype=float)
    if len(edges) != effects.shape[1] + 1 or not (np.diff(edges) < 0).all():
        raise ValueError(
            f"edges: {len(edges)} given; {effects.shape[1] + 1}, decreasing, are needed"
        )
    samples, random = effects.shape[2], np.random.default_rng(seed)
    draws = random.integers(samples, size=(RESAMPLES // 2, samples))
    resampled = np.stack([effects[..., rows].mean(-1) for rows in draws])
    found = edges[best_borders(resampled, count)]
    best = edges[best_borders(effects.mean(-1), count)]
    return [Estimate(float(best[k]), *interval(found[:, k])) for k in range(count)]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the first axis of ``a``, ``b`` (parts, ...)."""
    a, b = rankdata(a, axis=0), rankdata(b, axis=0)
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def profile_agreement(
    effects: np.ndarray, first: slice, second: slice, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[Estimate, Estimate, Estimate]:
    """Rank correlations of the profiles over the parts: between phases, within, difference.

    Between the windows ``first`` and ``second``; within them (the mean of both); within minus
    between. Every correlation is of profiles from two disjoint halves of the samples: where phases
    mean nothing between and within agree. Intervals by bootstrap: the samples are split at random
    and each half is resampled; the difference is paired. Take the borders of the phases from other
    samples.
    """
    effects = _map(effects, 2)
    if not all(effects[:, part].shape[1] for part in (first, second)):
        raise ValueError(
            f"first = {first}, second = {second}: a phase without windows of the {effects.shape[1]}"
        )
    phases = [effects[:, part].mean(1) for part in (first, second)]  # (parts, samples)
    count, random = effects.shape[2], np.random.default_rng(seed)
    if count < 4:
        raise ValueError(f"effects has {count} samples; two halves of at least 2 are needed")
    order = random.random((RESAMPLES // 2, count)).argsort(1)
    halves = []
    for half in (order[:, : count // 2], order[:, count // 2 :]):
        halves.append(np.take_along_axis(half, random.integers(half.shape[1], size=half.shape), 1))
    means = [[phase[:, rows].mean(-1) for rows in halves] for phase in phases]  # (parts, resamples)
    (a, b), (c, d) = means  # the halves of the first phase and of the second
    between = (rank_correlation(a, d) + rank_correlation(b, c)) / 2
    within = (rank_correlation(a, b) + rank_correlation(c, d)) / 2

    def estimate(values: np.ndarray) -> Estimate:
        return Estimate(float(np.median(values)), *interval(values, confidence))

    return estimate(between), estimate(within), estimate(within - between)


def shares(effects: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    """The map with every column divided by its sum over the parts (of the means over samples).

    It shows which parts matter, not how much. ``floor`` keeps a column without effect flat.
    """
    raised = _map(effects, 1) + floor
    return raised / raised.mean(2).sum(0)[None, :, None]
