"""When a curve first crosses a level, and how that time grows with a number: exponents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from .estimate import CONFIDENCE, Estimate

LEAST = 3  # points of a power law with an interval


def first_crossing(times: Sequence[float], values: Sequence[float], level: float) -> float:
    """The time at which ``values`` (T,) first reach ``level``, interpolated in log time.

    The first time where they begin there; inf where they never reach it. Values that are not finite
    are left out. Raises ``ValueError`` for times that do not increase from above 0.
    """
    t, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    if t.shape != y.shape or t.ndim != 1 or not (np.diff(t, prepend=0.0) > 0).all():
        raise ValueError(
            f"times {t.shape}, values {y.shape}: one value for each of increasing times above 0 "
            "is needed"
        )
    t, y = t[np.isfinite(y)], y[np.isfinite(y)]
    reached = np.flatnonzero(y >= level)
    if not len(reached):
        return float("inf")
    i = int(reached[0])
    if i == 0:
        return float(t[0])
    part = (level - y[i - 1]) / (y[i] - y[i - 1])
    return float(np.exp(np.log(t[i - 1]) + part * np.log(t[i] / t[i - 1])))


def onset(times: Sequence[float], curve: Sequence[Estimate], level: float) -> Estimate:
    """When a rising ``curve`` (T,) reaches ``level``: crossings of its values and of its ends.

    The interval is wider than 95 %: the ends of all points are taken together.
    """
    rows = ([getattr(found, name) for found in curve] for name in ("value", "high", "low"))
    return Estimate(*(first_crossing(times, row, level) for row in rows))


def exponent(numbers: Sequence[float], times: Sequence[float]) -> Estimate:
    """d log(time) / d log(number) by least squares, Student's 95 % interval from the residuals.

    Times that were not seen (inf) are left out; NaN where fewer than three are left.
    """
    x, y = np.log(np.asarray(numbers, dtype=float)), np.log(np.asarray(times, dtype=float))
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(x) < LEAST:
        return Estimate(float("nan"), float("nan"), float("nan"))
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    left = y - y.mean() - slope * centred
    error = np.sqrt(left @ left / (len(x) - 2) / (centred @ centred))
    half = student_t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * error
    return Estimate(float(slope), float(slope - half), float(slope + half))
