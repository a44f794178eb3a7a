"""Is an output a copy of a training image, or new? And how often would a new one look like a copy?

The criterion is that of Bonnaire et al. (2025, arXiv 2505.17638; our reading), after Yoon et al.
(2023): the nearest training image is nearer than a third of the distance to the second nearest. A
new sample can meet it by accident. Around it, training images that lie as densely everywhere in d
dimensions have neighbours at distances r_1 < r_2 with (r_1 / r_2)^d uniform on [0, 1], so

    P(r_1 < r_2 / 3) = 3^-d.

That is a third on a line and one in a million in 13 dimensions. (Our derivation; the same law is
behind the dimension of Facco et al. 2017, arXiv 1803.06992.)
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, Estimate, bootstrap_ratio
from .retention import COPY_RATIO


def chance_of_a_copy(dimension: float, ratio: float = COPY_RATIO) -> float:
    """Probability ``ratio^dimension`` that a new sample looks like a copy by accident.

    For training samples of locally constant density in ``dimension`` dimensions. Raises
    ``ValueError`` for a dimension that is not positive or a ratio outside (0, 1).
    """
    if not dimension > 0:
        raise ValueError(f"dimension = {dimension} must be positive")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio = {ratio} must lie in (0, 1)")
    return float(ratio**dimension)


def two_neighbour_dimension(distances: Tensor | np.ndarray, seed: int = 0) -> Estimate:
    """Dimension of data from the distances (N, 2) of samples to their two nearest neighbours.

    ``1 / mean log(r_2 / r_1)``, the maximum-likelihood form of Facco et al. (2017, arXiv
    1803.06992; our reading), with its bootstrap interval over samples. Raises ``ValueError`` for
    another shape, distances that are not positive and sorted, or pairs that are all equal.
    """
    r = np.asarray(distances, dtype=float)
    if r.ndim != 2 or r.shape[1] != 2 or len(r) < 2:
        raise ValueError(f"distances has shape {r.shape}; (N, 2) with N >= 2 is needed")
    if not ((r[:, 0] > 0) & (r[:, 1] >= r[:, 0])).all() or not (r[:, 1] > r[:, 0]).any():
        raise ValueError("distances must be positive and sorted in each row, not all equal")
    return bootstrap_ratio(np.ones(len(r)), np.log(r[:, 1] / r[:, 0]), seed)


def share_of(found: Tensor | np.ndarray, comparisons: int = 1) -> Estimate:
    """Share of ``found`` (N,) booleans with Wilson's interval, honest at 0 and 1 as well.

    95 % for all of ``comparisons`` shares together (Bonferroni). Raises ``ValueError`` for an empty
    or another shape.
    """
    checks.positive_int("comparisons", comparisons)
    values = np.asarray(found, dtype=bool)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"found has shape {values.shape}; a non-empty row is needed")
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    hits = int(values.sum())
    ends = binomtest(hits, len(values)).proportion_ci(confidence, method="wilson")
    return Estimate(hits / len(values), float(ends.low), float(ends.high))
