"""Which traits of a sample explain a quantity? Linear regression, judged on held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..support import checks
from .estimate import Estimate, bootstrap_ratio, interval, resample_rows

FOLDS = 10


def held_out_residuals(
    traits: Tensor | np.ndarray, target: Tensor | np.ndarray, folds: int = FOLDS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors (N,) of a linear regression, and of the mean, on samples that it has not seen.

    ``traits`` (N, P), ``target`` (N,). In ``folds`` turns each sample is left out once; intercept,
    slopes and mean are fitted to the others. Raises ``ValueError`` for shapes that do not match,
    values that are not finite, or fewer than ``P + 2`` samples to fit.
    """
    x, y = np.asarray(traits, dtype=float), np.asarray(target, dtype=float)
    checks.positive_int("folds", folds, minimum=2)
    if x.ndim != 2 or y.shape != (len(x),):
        raise ValueError(f"traits {x.shape} and target {y.shape}; (N, P) and (N,) are needed")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("traits or target holds NaN or infinite values")
    if len(x) - -(-len(x) // folds) < x.shape[1] + 2:
        raise ValueError(f"{len(x)} samples in {folds} folds are too few for {x.shape[1]} traits")
    design = np.column_stack([np.ones(len(x)), x])
    member = np.random.default_rng(seed).permutation(len(x)) % folds  # no fold is a class
    residual, total = np.empty(len(x)), np.empty(len(x))
    for fold in range(folds):
        out = member == fold
        weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
        residual[out] = (y[out] - design[out] @ weights) ** 2
        total[out] = (y[out] - y[~out].mean()) ** 2
    return residual, total


def explained(residual: np.ndarray, total: np.ndarray, seed: int = 0) -> Estimate:
    """Held-out R^2, ``1 - sum residual / sum total`` (each (N,)), bootstrapped over samples.

    It is negative where the regression is worse than the mean.
    """
    left = bootstrap_ratio(residual, total, seed)
    return Estimate(1 - left.value, 1 - left.high, 1 - left.low)


def explained_difference(
    less: np.ndarray, more: np.ndarray, total: np.ndarray, seed: int = 0
) -> Estimate:
    """R^2 of the regression with residuals ``more`` minus that with ``less``, of the same samples.

    All (N,); each bootstrap resample takes the same samples of both.
    """
    return bootstrap_ratio(np.asarray(less) - np.asarray(more), total, seed)


def slope(x: Tensor | np.ndarray, y: Tensor | np.ndarray, seed: int = 0) -> Estimate:
    """Least-squares slope of ``y`` on ``x`` (each (N,)), bootstrapped over samples.

    Raises ``ValueError`` for other shapes or an ``x`` that does not vary.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not x.std() > 0:
        raise ValueError(f"x {x.shape} and y {y.shape} must be paired rows, and x must vary")

    def fitted(rows: np.ndarray) -> np.ndarray:
        a, b = x[rows], y[rows]
        a = a - a.mean(1, keepdims=True)
        return (a * b).sum(1) / (a**2).sum(1)

    drawn = np.concatenate([fitted(rows) for rows in resample_rows(len(x), seed)])
    return Estimate(float(fitted(np.arange(len(x))[None])[0]), *interval(drawn))


@dataclass(frozen=True)
class Attribution:
    """How much of a quantity which traits explain, on held-out samples.

    ``together``: R^2 with all traits. ``alone``, ``lost``: for each group of traits the R^2 with
    that group only, and how much R^2 falls without it. ``residuals``: group -> squared errors (N,)
    without it; ``total`` (N,): those of the mean.
    """

    together: Estimate
    alone: dict[str, Estimate]
    lost: dict[str, Estimate]
    residuals: dict[str, np.ndarray] = field(repr=False)
    total: np.ndarray = field(repr=False)

    def more(self, one: str, other: str, seed: int = 0) -> Estimate:
        """R^2 lost without the group ``one`` minus R^2 lost without ``other``, paired."""
        for group in (one, other):
            checks.one_of("group", group, self.residuals)
        return explained_difference(self.residuals[one], self.residuals[other], self.total, seed)


def attribute(
    traits: Mapping[str, np.ndarray],
    target: np.ndarray,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Attribution:
    """Regressions of ``target`` (N,) on all ``traits`` (name -> (N,)), on each group of them alone,
    and on all but each group.

    Every trait is a group of its own, beside the ``groups`` (name -> names of traits). Raises
    ``ValueError`` for a group with a trait that is not known, or with all of them.
    """
    known: dict[str, Sequence[str]] = {name: (name,) for name in traits}
    known |= dict(groups or {})

    def errors(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return held_out_residuals(np.column_stack([traits[n] for n in names]), target, seed=seed)

    everything, total = errors(list(traits))
    alone, residuals = {}, {}
    for group, members in known.items():
        for name in members:
            checks.one_of(f"trait of the group {group}", name, traits)
        rest = [name for name in traits if name not in members]
        if not rest:
            raise ValueError(f"group {group!r} holds every trait; at least one must be left")
        alone[group] = explained(*errors(members), seed)
        residuals[group] = errors(rest)[0]
    lost = {g: explained_difference(left, everything, total, seed) for g, left in residuals.items()}
    return Attribution(explained(everything, total, seed), alone, lost, residuals, total)
