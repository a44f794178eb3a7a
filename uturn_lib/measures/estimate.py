"""Estimates: a value with its 95 % interval, by bootstrap over samples or from replicates.

The bootstrap draws as many samples as there are, with replacement, ``RESAMPLES`` times; the central
95 % of the results are the interval (Efron 1979, percentile method).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import t as student_t
from torch import Tensor

CONFIDENCE = 0.95
RESAMPLES = 1000

# Memory of the bootstrap in bytes: 4 kept sets of draws of at most 10 MB each, or one block of new
# ones, and its copy in float64.
KEPT, BLOCK = 10_000_000, 8_000_000


@dataclass(frozen=True)
class Estimate:
    """``value`` and the ends ``low`` <= ``high`` of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def contains(self, number: float) -> bool:
        """Is ``number`` inside the interval?"""
        return self.low <= number <= self.high

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """``a - b`` of two independent estimates.

    Half-intervals are combined in quadrature on each side (Zou and Donner 2008): exact for normal
    errors, valid for asymmetric intervals.
    """
    value = a.value - b.value
    down = np.hypot(a.value - a.low, b.high - b.value)
    up = np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, float(value - down), float(value + up))


def _finite(name: str, values: Tensor | np.ndarray) -> np.ndarray:
    """``values`` as a 1-D float array; ``ValueError`` if empty, of another shape, or not finite."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} has shape {array.shape}; a non-empty row of finite numbers is needed"
        )
    return array


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Central interval of bootstrap ``values`` (R,) at ``confidence``; infinite values allowed."""
    tail = (1 - confidence) / 2
    ordered = np.sort(values)
    low, high = int(np.floor(tail * len(ordered))), int(np.ceil((1 - tail) * len(ordered))) - 1
    return float(ordered[low]), float(ordered[high])


def resampled_sums(
    values: Tensor | np.ndarray, seed: int = 0, resamples: int | None = None
) -> np.ndarray:
    """Sums (R, ...) over bootstrap resamples of ``values`` (N, ...); R defaults to ``RESAMPLES``.

    The same ``seed`` and N draw the same samples: quantities of the same samples are resampled
    together. Memory does not grow with R x N.
    """
    values = np.asarray(values, dtype=float)
    blocks = resample_counts(len(values), seed, RESAMPLES if resamples is None else resamples)
    sums = [block.astype(float) @ values.reshape(len(values), -1) for block in blocks]
    return np.concatenate(sums).reshape(-1, *values.shape[1:])


def resample_counts(count: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Multiplicity of each sample in each bootstrap resample: blocks (r, count) of the R rows."""
    rows = max(1, BLOCK // (8 * count))
    if count * resamples > KEPT:
        yield from _draw(count, seed, resamples, rows)
    else:
        kept = _kept_counts(count, seed, resamples)
        yield from (kept[start : start + rows] for start in range(0, resamples, rows))


def _draw(count: int, seed: int, resamples: int, rows: int) -> Iterator[np.ndarray]:
    rng, even = np.random.default_rng(seed), np.full(count, 1 / count)
    for start in range(0, resamples, rows):
        yield rng.multinomial(count, even, size=min(rows, resamples - start))


@lru_cache(maxsize=4)  # many quantities share N and seed
def _kept_counts(count: int, seed: int, resamples: int) -> np.ndarray:
    """All rows, one byte each: a multiplicity above 255 has probability below 1e-500."""
    kept = np.empty((resamples, count), dtype=np.uint8)
    rows = max(1, BLOCK // (8 * count))
    for number, block in enumerate(_draw(count, seed, resamples, rows)):
        kept[number * rows : number * rows + len(block)] = block
    kept.flags.writeable = False
    return kept


def replicate_mean(values: Tensor | np.ndarray) -> Estimate:
    """Mean of independent replicates (K,) with Student's t interval.

    For quantities that a bootstrap over samples biases, such as the fraction of pixels beyond a
    threshold.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"values has shape {values.shape}; at least 2 replicates are needed for an interval"
        )
    error, mean = values.std(ddof=1) / np.sqrt(len(values)), values.mean()
    half = student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
    return Estimate(float(mean), float(mean - half), float(mean + half))


def bootstrap_mean(
    values: Tensor | np.ndarray, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean of ``values`` (N,) with its interval."""
    values = _finite("values", values)
    return bootstrap_ratio(values, np.ones(len(values)), seed, confidence)


def bootstrap_ratio(
    numerator: Tensor | np.ndarray,
    denominator: Tensor | np.ndarray,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """``sum numerator / sum denominator`` (each (N,), paired) with its interval.

    A ``confidence`` above 95 % (multiple comparisons) draws more resamples, to fill the tails.
    """
    numerator, denominator = _finite("numerator", numerator), _finite("denominator", denominator)
    if len(numerator) != len(denominator):
        raise ValueError(
            f"numerator has {len(numerator)} values, denominator {len(denominator)}; not paired"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie between 0 and 1")
    resamples = int(RESAMPLES * max(1.0, (1 - CONFIDENCE) / (1 - confidence)))
    above, below = resampled_sums(np.stack([numerator, denominator], axis=1), seed, resamples).T
    ratios = above / below
    return Estimate(float(numerator.sum() / denominator.sum()), *interval(ratios, confidence))


def bootstrap_median(values: Tensor | np.ndarray, scale: float = 1.0, seed: int = 0) -> Estimate:
    """Median of ``values`` (N,) in units of ``scale``, with its interval."""
    if not scale > 0:
        raise ValueError(f"scale = {scale} must be positive")
    values = _finite("values", values) / scale
    medians = [np.median(values[rows], axis=1) for rows in resample_rows(len(values), seed)]
    return Estimate(float(np.median(values)), *interval(np.concatenate(medians)))


def median_difference(
    a: Tensor | np.ndarray, b: Tensor | np.ndarray, seed: int = 0, resamples: int = 1000
) -> Estimate:
    """Median of ``a`` minus median of ``b``, both (N,) and of the same samples: each bootstrap
    resample takes the same rows of both.

    Raises ``ValueError`` for arrays of different lengths.
    """
    a, b = _finite("a", a), _finite("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a has {len(a)} values, b has {len(b)}; pairs are needed")
    rows = np.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    gaps = np.median(a[rows], 1) - np.median(b[rows], 1)
    return Estimate(float(np.median(a) - np.median(b)), *interval(gaps))


def resample_rows(
    count: int, seed: int | np.random.Generator = 0, resamples: int | None = None
) -> Iterator[np.ndarray]:
    """Sample indices of each bootstrap resample, for statistics that are no sums: blocks (r, N)."""
    rng, rows = np.random.default_rng(seed), max(1, BLOCK // (8 * count))
    resamples = RESAMPLES if resamples is None else resamples
    for start in range(0, resamples, rows):
        yield rng.integers(count, size=(min(rows, resamples - start), count))
