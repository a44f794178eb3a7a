"""What a classifier of noisy images says about the class retention of the ideal U-Turn.

Let y be the class of x_0, x = x_0 + sigma eps, p_k = P(y = k | x). The exact reverse process draws
y_0 from p(. | x), as x_0 was drawn: given x the two classes are independent draws from p, and the
class retention of the ideal U-Turn is

    c*(sigma) = E sum_k p_k^2        (``retention.agreement`` of p).

p is not known, but a classifier gives probabilities q(x), a guess of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..support import checks
from .estimate import Estimate, interval
from .retention import agreement, bootstrap_curves, crossing_between, fit_centres


def retention_bound(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``2 q_y - sum_k q_k^2`` (B,), whose mean is at most c* for *every* classifier q.

    ``probabilities`` (B, K): q of noisy images, ``labels`` (B,): y, the classes of their ground
    truths. Proof: given x, y is drawn from p, so ``E[q_y | x] = sum_k p_k q_k``, and

        c* - E[2 q_y - sum_k q_k^2] = E sum_k (p_k - q_k)^2 >= 0.

    Equality holds if and only if q = p. Nothing is asked of q: neither that it is calibrated nor
    that it is trained well (then the bound is only low). The images must not have been used to
    train or calibrate q. The gap is the excess of the Brier score over that of p. Our derivation.
    """
    labels = checks.labels(labels, len(probabilities), probabilities.shape[1], needed=True)
    own = probabilities.gather(1, labels[:, None].to(probabilities.device))[:, 0]
    return 2 * own - agreement(probabilities)


def calibration_gap(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``sum_k q_k^2 - q_y`` (B,), whose mean is zero for a calibrated classifier.

    The second reading of c* is ``agreement(q)`` alone. It is a lower bound if q is calibrated in
    full, ``q_k = P(y = k | q)``: then ``q = E[p | q]``, and by Jensen ``E sum_k q_k^2 <= E sum_k
    p_k^2``. It differs from :func:`retention_bound` by twice this gap: ``agreement = bound + 2
    gap``. A gap above zero says that q is too sure of itself, and that ``agreement`` may be too
    high. Arguments as there.
    """
    return (agreement(probabilities) - retention_bound(probabilities, labels)) / 2


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the most likely class, over ``bins`` of equal counts.

    ``sum_b n_b / n |mean confidence - accuracy|`` (Guo et al. 2017). It is biased upwards: a
    perfect classifier has about ``sqrt(2 bins a (1 - a) / (pi n))`` at accuracy a. Raises
    ``ValueError`` for fewer images than bins.
    """
    checks.positive_int("bins", bins)
    if len(probabilities) < bins:
        raise ValueError(f"{len(probabilities)} images are too few for bins = {bins}")
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == labels).double()
    order = confidence.argsort()
    parts = torch.tensor_split((confidence - right)[order], bins)
    return float(sum(part.sum().abs() for part in parts) / len(probabilities))


def noises_per_image(images: int) -> int:
    """So many that a level costs about 2,000 calls: few images have many noises each."""
    return max(1, 2000 // images)


def readings(probabilities: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """What a classifier says at one level, from ``probabilities`` (R, N, K), R noises per image.

    Means over the noises, (N,): ``bound`` (:func:`retention_bound`), ``agreement``, ``gap``
    (:func:`calibration_gap`), ``right`` (share of right decisions); and ``calibration_error`` (1,).
    """
    repeats, count, _ = probabilities.shape
    flat, repeated = probabilities.flatten(0, 1), labels.repeat(repeats)
    each = {
        "bound": retention_bound(flat, repeated),
        "agreement": agreement(flat),
        "gap": calibration_gap(flat, repeated),
        "right": flat.argmax(1) == repeated,
    }
    means = {
        name: values.double().reshape(repeats, count).mean(0).numpy()
        for name, values in each.items()
    }
    return means | {"calibration_error": np.array([calibration_error(flat, repeated)])}


def bound_crossing(
    sigmas: Sequence[float] | np.ndarray,
    bound: np.ndarray,
    level: float,
    fitted: bool = False,
    seed: int = 0,
) -> Estimate:
    """Where the mean of ``bound`` (S, N) falls through ``level``: a lower bound of T_s.

    c* falls with sigma (more noise is a further step of a Markov chain), so that where the bound
    still reaches ``level``, T_s of the ideal U-Turn lies above. Interpolated in log sigma; with
    ``fitted`` read from a logistic, as T_s of U-Turns is (``retention.transition``). 95 % interval
    by bootstrap over the N images. Where a curve never crosses: 0 if it begins below ``level``,
    else inf.
    """
    curves = np.concatenate([bound.mean(1)[None], bootstrap_curves(bound, seed)])
    if fitted:
        clipped = curves.clip(0, 1)
        centres = np.exp(fit_centres(np.log(sigmas), clipped, floor=2 * level - 1))
    else:
        centres = np.array([crossing_between(sigmas, curve, level) for curve in curves])
    missing = np.where(curves[:, 0] < level, 0.0, np.inf)
    centres = np.where(np.isnan(centres), missing, centres)
    return Estimate(float(centres[0]), *interval(centres[1:]))
