"""Transitions of single ground truths, from repeated U-Turns of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from .estimate import Estimate, interval
from .retention import check_curve, fit_logistic, log_likelihood, logistic_curve


def individual_centres(
    log_sigmas: np.ndarray, rates: np.ndarray, floor: float, width: float
) -> np.ndarray:
    """Maximum-likelihood centres (N,) in log sigma, one per ground truth, at a common ``width``.

    ``rates`` (S, N): fraction retained over the repeats. A grid over the axis and half a step of
    the levels around it, refined by a parabola: a ground truth that is kept (or lost) everywhere
    gets the end of the grid.
    """
    edge = np.diff(log_sigmas).mean() / 2
    centres = np.linspace(log_sigmas[0] - edge, log_sigmas[-1] + edge, 241)
    fit = log_likelihood(rates.T, log_sigmas, centres[:, None], width, floor)  # (N, centres)
    best = fit.argmax(1).clip(1, len(centres) - 2)
    left, middle, right = (fit[np.arange(len(fit)), best + shift] for shift in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = np.where(
        curvature < 0, 0.5 * (left - right) / np.where(curvature < 0, curvature, 1), 0.0
    )
    return centres[best] + shift.clip(-1, 1) * (centres[1] - centres[0])


@dataclass(frozen=True)
class Heterogeneity:
    """Do ground truths have transitions of their own? (claim C3)

    * ``levels`` (N,): T of each ground truth.
    * ``spread``: standard deviation of log T over ground truths, with bootstrap interval.
    * ``expected``: spread under a common curve with this many repeats; ``null`` (draws,): its
      simulated values.
    * ``p_value``: share of ``null`` at least as large as ``spread`` (parametric bootstrap).
    * ``p_permutation``: permutation test over repeats.
    * ``own_spread``: the spread without its chance part.
    """

    levels: np.ndarray = field(repr=False)
    spread: Estimate
    expected: float
    null: np.ndarray = field(repr=False)
    p_value: float
    p_permutation: float
    own_spread: float


def heterogeneity(
    sigmas: Sequence[float] | np.ndarray,
    retained: Tensor | np.ndarray,
    level: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> Heterogeneity:
    """Test whether the transition differs between ground truths, from R repeats of each,
    independent at every level.

    ``retained`` (S, N, R) booleans. Null hypothesis: one retention curve for all. Its rates are the
    pooled ones at each level (no logistic is assumed); repeats are drawn from them ``draws`` times,
    and the spread of the fitted log T over ground truths is compared. Raises ``ValueError`` for
    another shape. Our construction.
    """
    retained, log_sigmas, floor, width = _common_curve(sigmas, retained, level)
    fit, rng = (
        partial(individual_centres, log_sigmas, floor=floor, width=width),
        np.random.default_rng(seed),
    )
    _, count, repeats = retained.shape
    pooled = retained.mean((1, 2))

    centres = fit(retained.mean(2))
    size = (len(sigmas), draws, count)
    simulated = rng.binomial(repeats, pooled[:, None, None], size=size) / repeats
    null = fit(simulated.reshape(len(sigmas), -1)).reshape(draws, count).std(1, ddof=1)
    flat = retained.reshape(len(sigmas), -1)
    dealt = [
        flat[:, rng.permutation(flat.shape[1])].reshape(retained.shape).mean(2)
        for _ in range(draws)
    ]
    shuffled = fit(np.concatenate(dealt, axis=1)).reshape(draws, count).std(1, ddof=1)

    found = float(centres.std(ddof=1))
    resampled = centres[rng.integers(count, size=(1000, count))].std(1, ddof=1)
    return Heterogeneity(
        np.exp(centres),
        Estimate(found, *interval(resampled)),
        float(null.mean()),
        null,
        float((1 + (null >= found).sum()) / (1 + draws)),
        float((1 + (shuffled >= found).sum()) / (1 + draws)),
        float(np.sqrt(max(0.0, found**2 - (null**2).mean()))),
    )


def _common_curve(
    sigmas: Sequence[float] | np.ndarray, retained: Tensor | np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """``retained`` (S, N, R) as an array, log sigma (S,), the floor of the logistic, and its width
    fitted to the pooled rates."""
    retained = np.asarray(retained)
    if (
        retained.ndim != 3
        or len(retained) != len(sigmas)
        or retained.shape[1] < 2
        or retained.shape[2] < 2
    ):
        raise ValueError(
            f"retained has shape {retained.shape}; ({len(sigmas)}, N >= 2, R >= 2) is needed"
        )
    check_curve(
        np.asarray(sigmas, dtype=float), retained.reshape(len(sigmas), -1).astype(float), level
    )
    log_sigmas, floor = np.log(np.asarray(sigmas, dtype=float)), 2 * level - 1
    width = float(fit_logistic(log_sigmas, retained.mean((1, 2))[None], floor)[1][0])
    return retained, log_sigmas, floor, width


def _drawn_centres(
    log_sigmas: np.ndarray,
    rates: np.ndarray,
    floor: float,
    width: float,
    shape: tuple[int, int, int],
    seed: int,
) -> np.ndarray:
    """Centres (draws, N) fitted to repeats that are drawn from ``rates`` (S, 1, N or 1).

    ``shape``: draws, ground truths and repeats.
    """
    draws, count, repeats = shape
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(repeats, rates, size=(len(log_sigmas), draws, count)) / repeats
    flat = drawn.reshape(len(log_sigmas), -1)
    return individual_centres(log_sigmas, flat, floor, width).reshape(draws, count)


def individual_times(
    sigmas: Sequence[float],
    retained: Tensor | np.ndarray,
    level: float = 0.5,
    draws: int = 400,
    seed: int = 0,
) -> list[Estimate]:
    """T of each ground truth (N), in units of sigma, with a 95 % interval for the chance of its R
    repeats.

    ``retained`` (S, N, R) booleans, repeats independent at every level. T is
    :attr:`Heterogeneity.levels`. Parametric bootstrap: repeats are drawn from the logistic fitted
    to the ground truth, and fitted again. Raises ``ValueError`` as :func:`heterogeneity`. Our
    construction.
    """
    retained, log_sigmas, floor, width = _common_curve(sigmas, retained, level)
    _, count, repeats = retained.shape
    centres = individual_centres(log_sigmas, retained.mean(2), floor, width)
    rates = logistic_curve(log_sigmas[:, None, None], centres, width, floor)  # (S, 1, N)
    again = _drawn_centres(log_sigmas, rates, floor, width, (draws, count, repeats), seed)
    return [
        Estimate(*(float(np.exp(end)) for end in (centre, *interval(column))))
        for centre, column in zip(centres, again.T, strict=True)
    ]


def common_curve_times(
    sigmas: Sequence[float],
    retained: Tensor | np.ndarray,
    level: float = 0.5,
    draws: int = 400,
    seed: int = 0,
) -> list[Estimate]:
    """The sorted T of N ground truths if one curve held for all: for each rank (N) the median and
    where 95 % of simulations lie.

    Repeats are drawn from the pooled rates at each level, as in :func:`heterogeneity`: what differs
    then between ground truths is chance. ``retained`` (S, N, R) booleans. Raises ``ValueError`` as
    :func:`heterogeneity`. Our construction.
    """
    retained, log_sigmas, floor, width = _common_curve(sigmas, retained, level)
    _, count, repeats = retained.shape
    pooled = retained.mean((1, 2))[:, None, None]
    centres = _drawn_centres(log_sigmas, pooled, floor, width, (draws, count, repeats), seed)
    ranked = np.sort(centres, axis=1)
    return [
        Estimate(*(float(np.exp(end)) for end in (np.median(column), *interval(column))))
        for column in ranked.T
    ]
