"""Where a curve over noise levels is highest, with an interval over samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .estimate import Estimate, interval
from .retention import bootstrap_curves

WINDOW = 0.5  # the levels around the highest that reach this part of its height over the ends


def peak_location(sigmas: Sequence[float] | np.ndarray, curve: np.ndarray) -> float:
    """The noise level at which ``curve`` (S,) over increasing ``sigmas`` (S,) peaks.

    The vertex of the parabola in log sigma through the levels around the highest one that rise at
    least half as far (:data:`WINDOW`) above the higher end of the curve: a broad peak is read from
    all of these, not from one noisy level. A curve that is highest at an end peaks there. Our
    estimator. Raises ``ValueError`` for other shapes or values that are not finite.
    """
    levels, values = np.log(np.asarray(sigmas, dtype=float)), np.asarray(curve, dtype=float)
    if values.shape != levels.shape or len(levels) < 3 or not np.isfinite(values).all():
        raise ValueError(
            f"curve has shape {values.shape}; finite values at {len(levels)} levels, at least 3, "
            "are needed"
        )
    top = int(values.argmax())
    if top in (0, len(values) - 1):
        return float(sigmas[top])
    base = max(values[0], values[-1])
    outside = values < base + WINDOW * (values[top] - base)
    first, last = top - int(outside[top::-1].argmax()) + 1, top + int(outside[top:].argmax())
    first, last = min(first, top - 1), max(last, top + 2)  # three levels at least
    centre = levels[top]
    powers = np.vander(levels[first:last] - centre, 3)
    square, slope, _ = np.linalg.lstsq(powers, values[first:last], rcond=None)[0]
    if not square < 0:
        return float(sigmas[top])
    found = np.clip(centre - slope / (2 * square), levels[first], levels[last - 1])
    return float(np.exp(found))


def peak_of_curves(sigmas: Sequence[float] | np.ndarray, curves: np.ndarray) -> Estimate:
    """:func:`peak_location` of the first of ``curves`` (1 + R, S), with a 95 % interval from the
    others, its bootstrap resamples."""
    found = np.array([peak_location(sigmas, curve) for curve in curves])
    return Estimate(float(found[0]), *interval(found[1:]))


def peak(
    sigmas: Sequence[float] | np.ndarray, values: Tensor | np.ndarray, seed: int = 0
) -> Estimate:
    """Where the mean of ``values`` (S, N) over samples peaks; bootstrap over the N samples."""
    values = np.asarray(values, dtype=float)
    curves = np.concatenate([values.mean(1)[None], bootstrap_curves(values, seed)])
    return peak_of_curves(sigmas, curves)


def end_shares(values: Tensor | np.ndarray, seed: int = 0) -> tuple[Estimate, Estimate]:
    """The mean of ``values`` (S, N) at the first and the last level, as parts of the highest mean;
    bootstrap over the N samples."""
    values = np.asarray(values, dtype=float)
    curves = np.concatenate([values.mean(1)[None], bootstrap_curves(values, seed)])
    first, last = (curves[:, [0, -1]] / curves.max(1, keepdims=True)).T
    return (
        Estimate(float(first[0]), *interval(first[1:])),
        Estimate(float(last[0]), *interval(last[1:])),
    )


def best_level(sigmas: Sequence[float] | np.ndarray, estimates: Sequence[Estimate]) -> Estimate:
    """The level with the largest of ``estimates``, one for each of ``sigmas``; its interval holds
    every level whose own interval reaches the highest lower end: no other can be the best.

    Covers at 95 % where the intervals do so together, for all levels. Our estimator. Raises
    ``ValueError`` where the numbers of levels and estimates differ, or there are none.
    """
    if not len(estimates) or len(estimates) != len(sigmas):
        raise ValueError(f"estimates has {len(estimates)} values for {len(sigmas)} levels")
    least = max(found.low for found in estimates)
    left = [s for s, found in zip(sigmas, estimates, strict=True) if found.high >= least]
    top = int(np.argmax([found.value for found in estimates]))
    return Estimate(float(sigmas[top]), float(min(left)), float(max(left)))
