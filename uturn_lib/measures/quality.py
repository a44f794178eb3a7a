"""Distances between sets of images in a feature space.

Finite sets bias them upwards: compare with the floor, the distance of as many held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, RESAMPLES, Estimate, interval, resample_rows


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` of features ``a`` (N, F), ``b`` (M, F)
    (Heusel et al. 2017).

    It is called FID only with the Inception features that the name stands for. Finite sets bias it
    upwards. Raises ``ValueError`` for other shapes, fewer than 2 rows, or NaN.
    """
    a, b = _features(a, b)
    return _frechet(a, *_gaussian(b))


def _gaussian(b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and square root of the covariance (F, F) of the reference set."""
    # of one feature it would be a number
    covariance = torch.cov(b.T).reshape(b.shape[1], b.shape[1])
    return b.mean(0), _square_root(covariance)


def _frechet(a: Tensor, mean: Tensor, root: Tensor) -> float:
    own_mean = a.mean(0)
    rows = (a - own_mean) / (len(a) - 1) ** 0.5  # S_a = rows^T rows
    # tr (S_a S_b)^(1/2) is the sum of the roots of the eigenvalues of S_a S_b, which are those of
    # R^T R with R = rows S_b^(1/2), or of R R^T: the smaller one is taken. Both are symmetric: no
    # complex square root.
    product = rows @ root
    product = product @ product.T if len(a) < a.shape[1] else product.T @ product
    cross = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
    distance = (
        (own_mean - mean).square().sum() + rows.square().sum() + root.square().sum() - 2 * cross
    )
    return max(0.0, float(distance))


def frechet_estimate(a: Tensor, b: Tensor, groups: int = 24) -> Estimate:
    """:func:`frechet_distance` with a 95 % interval, by the jackknife over ``groups`` of ``a``.

    A bootstrap would be wrong: repeated samples shrink the covariance and raise the distance. The
    jackknife leaves out one group at a time, ``se^2 = (g - 1) / g sum (d_i - mean d)^2``, Student's
    t with g - 1 degrees of freedom. Groups are contiguous blocks of ``a``: where classes alternate
    (``ImageSet.take``) every group holds all of them, and the interval is that of a balanced set.
    The bias of a finite set is not in the interval: compare sets of equal size, and the floor.
    """
    a, b = _features(a, b)
    moments = _gaussian(b)
    left_out = [_frechet(part, *moments) for part in _without_groups(a, groups)]
    return _jackknife(_frechet(a, *moments), left_out)


def frechet_difference(
    a: Tensor, c: Tensor, b: Tensor, groups: int = 24, confidence: float = CONFIDENCE
) -> Estimate:
    """Frechet distance of ``a`` minus that of ``c``, both to ``b``, for equally many samples.

    Paired rows (the same seed) give a narrower interval; unpaired rows one for independent sets.
    The bias of small sets cancels.
    """
    a, b = _features(a, b)
    c, _ = _features(c, b)
    if len(a) != len(c):
        raise ValueError(f"a has {len(a)} rows, c {len(c)}; paired samples are needed")
    moments = _gaussian(b)

    def gap(x: Tensor, y: Tensor) -> float:
        return _frechet(x, *moments) - _frechet(y, *moments)

    pairs = zip(_without_groups(a, groups), _without_groups(c, groups), strict=True)
    return _jackknife(gap(a, c), [gap(x, y) for x, y in pairs], confidence)


def class_distance(features: Tensor, labels: Tensor) -> float:
    """Mean squared distance between class means of features, over pairs: a unit (our choice).

    ``features`` (N, F), ``labels`` (N,). The mean's part of the Frechet distance between two
    classes. Raises ``ValueError`` for fewer than 2 classes.
    """
    kinds = labels.unique()
    if len(kinds) < 2:
        raise ValueError(f"labels: {len(kinds)} class; a distance between classes needs at least 2")
    means = torch.stack([features[labels == k].double().mean(0) for k in kinds])
    return float(torch.pdist(means).square().mean())


def group_of(count: int, groups: int) -> Tensor:
    """Group (count,) of each sample: ``groups`` contiguous blocks of equal length (up to one)."""
    return torch.arange(count) * groups // count


def _without_groups(rows: Tensor, groups: int) -> Iterator[Tensor]:
    if not 2 <= groups <= len(rows) or len(rows) < 4:
        raise ValueError(
            f"groups = {groups} must lie in [2, number of samples = {len(rows)}], samples >= 4"
        )
    member = group_of(len(rows), groups)
    return (rows[member != group] for group in range(groups))  # one copy at a time


def _jackknife(
    value: float, left_out: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE
) -> Estimate:
    left_out = np.asarray(left_out)
    count = len(left_out)
    error = np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
    half = float(student_t.ppf((1 + confidence) / 2, count - 1) * error)
    return Estimate(value, value - half, value + half)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with kernel ``(x.y / F + 1)^3``; may be negative.

    ``a`` (N, F), ``b`` (M, F). Binkowski et al. 2018. It is called KID only with Inception
    features. Errors as :func:`frechet_distance`.
    """
    a, b = _features(a, b)
    within_b = _within(b)
    return float(_resampled_kernel_distance(a, b, within_b, np.ones((1, len(a))))[0])


def kernel_estimate(a: Tensor, b: Tensor, groups: int = 24) -> Estimate:
    """:func:`kernel_distance` with a jackknife interval, as :func:`frechet_estimate`."""
    return kernel_curve([a], b, groups)[0][0]


def kernel_curve(
    sets: Sequence[Tensor], b: Tensor, groups: int = 24, seed: int = 0
) -> tuple[list[Estimate], np.ndarray]:
    """:func:`kernel_estimate` of each of ``sets`` (S arrays (N, F)), and (S, 1 + R) values.

    The first value is that of the whole set, the others those of R random halves of the groups, the
    same ones for every set: for statements about the whole curve, such as :func:`kernel_minimum`.
    (A bootstrap would repeat groups, and a group that is balanced over classes makes its copies
    look more alike than independent samples are.)
    """
    if len(sets) == 0 or len({len(a) for a in sets}) != 1:
        raise ValueError("sets is empty or its members differ in size; paired sets are needed")
    count = len(sets[0])
    if not 2 <= groups <= count or count < 2 * groups / (groups // 2):
        raise ValueError(
            f"groups = {groups} must lie in [2, number of samples = {count}], two in every half"
        )
    member = group_of(count, groups).numpy()
    order = np.random.default_rng(seed).random((RESAMPLES, groups)).argsort(1)
    halves = (order < groups // 2)[:, member]
    left_out = member != np.arange(groups)[:, None]
    counts = np.concatenate([np.ones((1, count)), left_out, halves])
    _, b = _features(sets[0], b)
    within_b = _within(b)
    pairs = [_features(a, b) for a in sets]
    values = np.stack([_resampled_kernel_distance(*pair, within_b, counts) for pair in pairs])
    estimates = [_jackknife(float(row[0]), row[1 : groups + 1]) for row in values]
    return estimates, np.delete(values, slice(1, groups + 1), axis=1)


def kernel_minimum(sigmas: Sequence[float], values: np.ndarray) -> Estimate:
    """The level of ``sigmas`` (S,) of the smallest kernel distance, from :func:`kernel_curve`.

    The minimum is taken on the grid (claim C8). The spread of halves drawn without replacement is
    that of the whole set.
    """
    if len(values) != len(sigmas) or not np.isfinite(values).all():
        raise ValueError(
            f"values {np.shape(values)} must be finite, one row for each of {len(sigmas)}"
        )
    best = np.asarray(sigmas, dtype=float)[values.argmin(0)]
    return Estimate(float(best[0]), *interval(best[1:]))


def _resampled_kernel_distance(
    a: Tensor, b: Tensor, within_b: float, counts: np.ndarray
) -> np.ndarray:
    """Kernel distances (R,) of resamples in which sample i of ``a`` occurs ``counts`` (R, N) times.

    Pairs of different samples only, so that copies of one sample do not look like agreement.
    """
    weights = torch.as_tensor(counts, dtype=torch.float64)
    kernel_aa = _kernel(a, a).fill_diagonal_(0)
    with_b = torch.cat([_kernel(part, b).mean(1) for part in a.split(500)])
    total = weights.sum(1)
    pairs = total**2 - weights.square().sum(1)
    within_a = ((weights @ kernel_aa) * weights).sum(1) / pairs
    return (within_a + within_b - 2 * (weights @ with_b) / total).numpy()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _within(b: Tensor, rows: int = 2048) -> float:
    """Mean kernel of distinct samples of ``b``, in blocks: all pairs of 50,000 need 20 GB."""
    total = sum(float(_kernel(part, b).sum()) for part in b.split(rows))
    own = float(((b.square().sum(1) / b.shape[1] + 1) ** 3).sum())
    return (total - own) / (len(b) * (len(b) - 1))


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    checks.tensors(a=a, b=b)
    for name, value in (("a", a), ("b", b)):
        if value.ndim != 2 or len(value) < 2:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; features (N, F) with N >= 2 are needed"
            )
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a has {a.shape[1]} features, b has {b.shape[1]}; use one feature map for both"
        )
    return a.double(), b.double()


# ---------------------------------------------------------------------------------- image distances


def paired_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N,), float64, of paired images ``a`` and ``b`` (N, *sample)."""
    if a.shape != b.shape:
        raise ValueError(f"a has shape {tuple(a.shape)}, b {tuple(b.shape)}; they must be paired")
    return (a.double() - b.double()).flatten(1).norm(dim=1)


def unrelated_distance(images: Tensor) -> float:
    """Median Euclidean distance between different ``images`` (N, *sample): a unit of distance."""
    flat = images.double().flatten(1)
    if len(flat) < 2:
        raise ValueError(f"images holds {len(flat)}; at least 2 are needed for a distance")
    return float(torch.pdist(flat).median())


def nearness(outputs: Tensor, truths: Tensor, strangers: Tensor, seed: int = 0) -> Estimate:
    """Median nearest distance of ``outputs`` to ``truths``, over that of ``strangers``.

    Strangers are real images that are not among the truths. Below 1, outputs are partly copies. The
    interval is a bootstrap over outputs and strangers. All (N, *sample).
    """
    near, real = (nearest_distance(images, truths).numpy() for images in (outputs, strangers))
    rng = np.random.default_rng(seed)
    medians = [
        np.concatenate([np.median(d[rows], axis=1) for rows in resample_rows(len(d), rng)])
        for d in (near, real)
    ]
    return Estimate(float(np.median(near) / np.median(real)), *interval(medians[0] / medians[1]))


def nearest_distance(images: Tensor, others: Tensor) -> Tensor:
    """Distance (N,), float64, from each of ``images`` to the nearest of ``others`` (M, *sample)."""
    return torch.cdist(images.double().flatten(1), others.double().flatten(1)).amin(1)
