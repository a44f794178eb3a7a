"""What a U-Turn keeps: identity (T_m) and class (T_s), on average and per ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit
from scipy.stats import binomtest
from torch import Tensor

from ..support import checks
from .estimate import CONFIDENCE, Estimate, bootstrap_mean, interval, resampled_sums

PAIRS = 2**24  # entries of a block of image pairs: bounds the memory
COPY_RATIO = 1 / 3  # of the distances to the nearest and second nearest training image


def nearest_index(samples: Tensor, reference: Tensor, chunk: int = 4096) -> Tensor:
    """Index (N,) of the image of ``reference`` (M, *sample) nearest in Euclidean distance to each
    of ``samples`` (N, *sample).

    A product in float32 selects the candidates within its rounding error; their distances are
    summed in float64. The reference is read in pieces of ``chunk`` images, so that it need not fit
    a second time. Raises ``ValueError`` for other shapes, an empty reference, or values that are
    not finite.
    """
    checks.positive_int("chunk", chunk)
    checks.tensors(samples=samples, reference=reference)
    if min(samples.ndim, reference.ndim) == 0:
        raise ValueError("samples and reference must be batches of images, got a single number")
    if len(reference) == 0 or samples.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"reference has shape {tuple(reference.shape)}, samples {tuple(samples.shape)}; "
            "images of one shape are needed"
        )
    for name, images in (("samples", samples), ("reference", reference)):
        if not torch.isfinite(images).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    wide = samples.flatten(1).double()
    best = torch.full((len(wide),), float("inf"), dtype=torch.float64, device=wide.device)
    index = torch.zeros(len(wide), dtype=torch.int64, device=wide.device)
    for first in range(0, len(reference), chunk):
        part = reference[first : first + chunk].flatten(1)
        row, image = _candidates(wide, part)
        for r, i in zip(
            row.split(PAIRS // wide.shape[1] + 1),
            image.split(PAIRS // wide.shape[1] + 1),
            strict=True,
        ):
            distance = (wide[r] - part[i].double()).square().sum(1)
            nearest = best.scatter_reduce(0, r, distance, "amin")
            closer = (distance == nearest[r]) & (distance < best[r])
            # Of images at the same distance the first one.
            winner = torch.full_like(index, len(reference)).scatter_reduce(
                0, r[closer], i[closer] + first, "amin"
            )
            index, best = torch.where(winner < len(reference), winner, index), nearest
    return index


def two_nearest(samples: Tensor, reference: Tensor, chunk: int = 4096) -> Tensor:
    """Distances (N, 2), float64, of ``samples`` (N, *sample) to the nearest and the second nearest
    of ``reference`` (M, *sample), M >= 2.

    Candidates are selected as in :func:`nearest_index`, their distances summed in float64. Raises
    ``ValueError`` for other shapes or fewer than two references.
    """
    checks.positive_int("chunk", chunk, minimum=2)
    if len(reference) < 2 or samples.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"reference has shape {tuple(reference.shape)}, samples {tuple(samples.shape)}; "
            "at least two references of the samples' shape are needed"
        )
    wide = samples.flatten(1).double()
    best = torch.full((len(wide), 2), float("inf"), dtype=torch.float64)
    for part in reference.flatten(1).split(chunk):
        row, image = _candidates(wide, part, count=min(2, len(part)))
        size = PAIRS // wide.shape[1] + 1
        pairs = zip(row.split(size), image.split(size), strict=True)
        squared = [(wide[r] - part[i].double()).square().sum(1) for r, i in pairs]
        best = _two_smallest(best, row, torch.cat(squared).sqrt())
    return best


def _two_smallest(best: Tensor, row: Tensor, distance: Tensor) -> Tensor:
    """``best`` (N, 2), sorted, joined by further distances (P,) of rows (P,)."""
    rows = torch.cat([torch.arange(len(best)).repeat_interleave(2), row])
    values = torch.cat([best.flatten(), distance])
    order = values.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]  # by row, then by distance
    first = torch.searchsorted(rows[order], torch.arange(len(best)))
    return values[order][first[:, None] + torch.arange(2)]


def copied(samples: Tensor, training: Tensor) -> Tensor:
    """Is an output a copy of a training image? (N,) booleans.

    Its nearest of ``training`` (M, *sample) is nearer than :data:`COPY_RATIO` of the distance to
    the second nearest. The criterion and its 1/3 are those of Bonnaire et al. (2025), after Yoon et
    al. (2023). Errors as :func:`two_nearest`.
    """
    nearest, second = two_nearest(samples, training).T
    return nearest < COPY_RATIO * second


def _candidates(samples: Tensor, reference: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Pairs (row, image) that may be among the ``count`` nearest: |y|^2 - 2 x.y in float32 with an
    error bound."""
    norms = reference.double().square().sum(1)
    distance = torch.addmm(norms.float(), samples.float(), reference.float().T, alpha=-2)
    # Rounding of a blocked matrix product: at most 1.4 eps (|x||y| + |y|^2) was seen in 3,072
    # dimensions; twice that.
    error = (
        3
        * torch.finfo(torch.float32).eps
        * (samples.norm(dim=1, keepdim=True) * norms.max().sqrt() + norms.max())
    )
    farthest = distance.topk(count, dim=1, largest=False).values[:, -1:]
    return (distance <= farthest + 2 * error.float()).nonzero(as_tuple=True)


def nearest_strangers(samples: Tensor, reference: Tensor) -> np.ndarray:
    """Distance (N,) of ``samples`` (N, *sample), part of ``reference``, to its nearest *other*
    image."""
    flat, nearest = samples.flatten(1).double(), torch.zeros(len(samples), 0, dtype=torch.float64)
    for part in reference.split(4096):  # the whole reference need not fit a second time
        distances = torch.cat([nearest, torch.cdist(flat, part.flatten(1).double())], dim=1)
        nearest = distances.topk(min(2, distances.shape[1]), dim=1, largest=False).values
    return nearest[:, 1].numpy()


def identity_retained(y0: Tensor, reference: Tensor, own_index: Tensor) -> Tensor:
    """Whether the image of ``reference`` nearest to ``y0`` is its ground truth: (N,) booleans.

    ``reference`` (M, *sample) must contain the ground truths, at ``own_index`` (N,). Definition:
    ours.
    """
    checks.tensors(y0=y0, reference=reference)
    if min(y0.ndim, reference.ndim) == 0:
        raise ValueError("y0 and reference must be batches of images, got a single number")
    if not isinstance(own_index, Tensor):
        own_index = torch.as_tensor(np.asarray(own_index))
    own_index = own_index.to(y0.device)
    if own_index.shape != (len(y0),) or (
        len(y0) and not 0 <= int(own_index.min()) <= int(own_index.max()) < len(reference)
    ):
        raise ValueError(
            f"own_index has shape {tuple(own_index.shape)}; one index into the {len(reference)} "
            f"reference images per sample, ({len(y0)},), is needed"
        )
    return nearest_index(y0, reference) == own_index


def class_retained(predicted: Tensor, labels: Tensor) -> Tensor:
    """Whether the classifier gives ``y0`` the class of its ground truth: (N,) booleans.

    Definition: ours; up to classifier errors the cloning probability of Biroli et al. (2024).
    """
    return torch.as_tensor(predicted) == torch.as_tensor(labels)


def agreement(probabilities: Tensor) -> Tensor:
    """``sum_k p_k^2`` (B,): probability that two draws from ``probabilities`` (B, K) agree.

    With the posterior p(class | x_u) it is the exact class retention of a U-Turn through x_u, since
    x_0 and y_0 are two such draws (our derivation).
    """
    return probabilities.square().sum(1)


def chance_level(classes: int) -> float:
    """The level of T_s: the midpoint (1 + 1/K) / 2 between full retention and chance."""
    return (1 + 1 / classes) / 2


def logistic_curve(log_sigma, centre, width, floor: float):
    """``floor + (1 - floor) / (1 + exp((log sigma - centre) / width))``."""
    return floor + (1 - floor) * expit((centre - log_sigma) / width)


def transition(
    sigmas: Sequence[float] | np.ndarray,
    retained: Tensor | np.ndarray,
    level: float = 0.5,
    seed: int = 0,
) -> Estimate:
    """Noise level where retention crosses ``level``; 95 % bootstrap interval over ground truths.

    A logistic in log sigma, falling from 1 to ``floor = 2 level - 1``, is fitted by maximum
    likelihood; ``level`` is its midpoint: 0.5 for identity retention (floor 0), (1 + 1/K) / 2 for
    class retention (floor 1/K).

    Parameters
    ----------
    sigmas: (S,) positive, increasing.
    retained: (S, N), booleans or probabilities per ground truth.

    A value or end of the interval below (above) the grid is returned as 0 (inf). Raises
    ``ValueError`` for shapes that do not match, values outside [0, 1], or a level outside [0.5, 1).
    """
    return crossing(sigmas, bootstrap_centres(sigmas, retained, level, seed))


def bootstrap_centres(
    sigmas: Sequence[float] | np.ndarray,
    retained: Tensor | np.ndarray,
    level: float = 0.5,
    seed: int = 0,
) -> np.ndarray:
    """Logistic centres (1 + R,) in log sigma: of the data, then of its bootstrap resamples.

    The same ``seed`` draws the same ground truths: quantities of the same samples are resampled
    together. Parameters and errors as :func:`transition`.
    """
    sigmas, retained = np.asarray(sigmas, dtype=float), np.asarray(retained, dtype=float)
    level = float(np.asarray(level, dtype=float).item())
    check_curve(sigmas, retained, level)
    curves = np.concatenate([retained.mean(1)[None], bootstrap_curves(retained, seed)])
    return fit_centres(np.log(sigmas), curves, floor=2 * level - 1)


def crossing(sigmas: Sequence[float] | np.ndarray, centres: np.ndarray) -> Estimate:
    """Estimate from the centres of :func:`bootstrap_centres`; 0 or inf beyond the grid."""
    levels = np.exp(centres)
    levels[levels > sigmas[-1]], levels[levels < sigmas[0]] = np.inf, 0.0
    return Estimate(float(levels[0]), *interval(levels[1:]))


def without_errors(curves: np.ndarray, accuracy: np.ndarray | float, classes: int) -> np.ndarray:
    """Class retention as a classifier without errors would see it, from ``curves`` (..., S) seen by
    one that is right with ``accuracy`` (...).

    With errors that go to all other classes alike, whatever the image, it sees ``c a + (1 - c) (1 -
    a) / (K - 1)`` instead of c; solved for c and clipped to [0, 1]. Definition: ours. Raises
    ``ValueError`` for an accuracy that is not above chance.
    """
    accuracy = np.asarray(accuracy, dtype=float)[..., None]
    checks.positive_int("classes", classes, minimum=2)
    if not ((accuracy > 1 / classes) & (accuracy <= 1)).all():
        raise ValueError(f"accuracy must lie in (1/{classes}, 1]")
    stray = (1 - accuracy) / (classes - 1)
    return ((np.asarray(curves, dtype=float) - stray) / (accuracy - stray)).clip(0, 1)


def error_free_transition(
    sigmas: Sequence[float] | np.ndarray,
    retained: Tensor | np.ndarray,
    right: int,
    judged: int,
    classes: int,
    seed: int = 0,
) -> Estimate:
    """T_s with the classifier's errors taken out (:func:`without_errors`); its accuracy is
    ``right`` of ``judged`` held-out images.

    The interval contains the uncertainty of the accuracy beside that of the ground truths.
    ``retained`` (S, N) as in :func:`transition`.
    """
    sigmas, retained = np.asarray(sigmas, dtype=float), np.asarray(retained, dtype=float)
    level = chance_level(classes)
    check_curve(sigmas, retained, level)
    if not 0 < right <= judged:
        raise ValueError(
            f"right = {right} of judged = {judged} images: 0 < right <= judged is needed"
        )
    drawn = bootstrap_curves(retained, seed)
    accuracy = (
        np.random.default_rng(seed).binomial(judged, right / judged, size=len(drawn)) / judged
    )
    curves = np.concatenate(
        [
            without_errors(retained.mean(1), right / judged, classes)[None],
            without_errors(drawn, accuracy, classes),
        ]
    )
    return crossing(sigmas, fit_centres(np.log(sigmas), curves, floor=2 * level - 1))


def gap(
    sigmas: Sequence[float] | np.ndarray, identity_centres: np.ndarray, class_centres: np.ndarray
) -> Estimate:
    """``log T_s - log T_m`` from paired bootstrap centres.

    A centre beyond the grid counts as +-inf, and so does the difference; nan if both are beyond it.
    """
    low, high = np.log(sigmas[0]), np.log(sigmas[-1])
    if identity_centres.shape != class_centres.shape:
        raise ValueError(
            f"centres have shapes {identity_centres.shape} and {class_centres.shape}; they must "
            "be paired"
        )
    seen = [
        np.where(centres > high, np.inf, np.where(centres < low, -np.inf, centres))
        for centres in (identity_centres, class_centres)
    ]
    with np.errstate(invalid="ignore"):
        gaps = seen[1] - seen[0]
    if np.isnan(gaps).any():  # unordered values have no interval
        return Estimate(float(gaps[0]), float("-inf"), float("inf"))
    return Estimate(float(gaps[0]), *interval(gaps[1:]))


def crossing_between(
    sigmas: Sequence[float] | np.ndarray, curve: Sequence[float] | np.ndarray, level: float
) -> float:
    """The last noise level at which ``curve`` (S,) falls through ``level``, interpolated in log
    sigma; nan if it never does.

    No curve is fitted: a check on :func:`transition`. ``sigmas`` increase.
    """
    curve = np.asarray(curve, dtype=float)
    above = np.flatnonzero((curve[:-1] >= level) & (curve[1:] < level))
    if not len(above):
        return float("nan")
    i, log_sigmas = above[-1], np.log(np.asarray(sigmas, dtype=float))
    part = (curve[i] - level) / (curve[i] - curve[i + 1])
    return float(np.exp(log_sigmas[i] + part * (log_sigmas[i + 1] - log_sigmas[i])))


def crossing_centres(
    sigmas: Sequence[float] | np.ndarray, kept: Tensor | np.ndarray, level: float, seed: int = 0
) -> np.ndarray:
    """Log noise levels (1 + R,) at which the mean of ``kept`` (S, N) last falls through ``level``:
    of the data, then of bootstrap resamples of the N ground truths.

    No curve is fitted (:func:`crossing_between`), so ``kept`` may be a bound, with values outside
    [0, 1]. -inf where the mean never lies above ``level``, inf where it ends above. The same
    ``seed`` and N draw the same ground truths as in :func:`bootstrap_centres`.
    """
    kept = np.asarray(kept, dtype=float)
    if kept.ndim != 2 or len(kept) != len(sigmas) or not np.isfinite(kept).all():
        raise ValueError(
            f"kept has shape {kept.shape}; finite values ({len(sigmas)}, N) are needed"
        )
    curves = np.concatenate([kept.mean(1)[None], bootstrap_curves(kept, seed)])
    found = np.array([np.log(crossing_between(sigmas, curve, level)) for curve in curves])
    found = np.where(curves[:, -1] >= level, np.inf, found)
    return np.where(np.isnan(found), -np.inf, found)


def log_gap(
    sigmas: Sequence[float] | np.ndarray,
    identity: Tensor | np.ndarray,
    classes: Tensor | np.ndarray,
    class_level: float,
    seed: int = 0,
) -> Estimate:
    """``log T_s - log T_m`` with the interval of a paired bootstrap: both curves are resampled with
    the same ground truths.

    ``identity`` and ``classes``: (S, N) retention of the same N ground truths.
    """
    if np.shape(identity) != np.shape(classes):
        raise ValueError(
            f"identity has shape {np.shape(identity)}, classes {np.shape(classes)}; they must be "
            "equal"
        )
    return gap(
        sigmas,
        bootstrap_centres(sigmas, identity, 0.5, seed),
        bootstrap_centres(sigmas, classes, class_level, seed),
    )


def bootstrap_curves(retained: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mean curves (R, S) of bootstrap resamples of the N ground truths of ``retained`` (S, N)."""
    return resampled_sums(retained.T, seed) / retained.shape[1]


def fit_centres(
    log_sigmas: np.ndarray, curves: np.ndarray, floor: float = 0.0, zooms: int = 4
) -> np.ndarray:
    """Maximum-likelihood centres (R,), in log sigma, of the logistic for each mean curve of
    ``curves`` (R, S): see :func:`fit_logistic`."""
    return fit_logistic(log_sigmas, curves, floor, zooms)[0]


def fit_logistic(
    log_sigmas: np.ndarray, curves: np.ndarray, floor: float = 0.0, zooms: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood centres and widths (R,), in log sigma, of the logistic for each mean curve
    of ``curves`` (R, S).

    The likelihood is evaluated on a grid of (centre, width) and the grid is refined around each
    curve's best point: no starting value, no failure to converge, and all curves at once. Centres
    may lie outside ``log_sigmas`` by half its range.
    """
    span = log_sigmas[-1] - log_sigmas[0]
    centre_step, width_step = span / 80, 0.35
    centres = np.arange(log_sigmas[0] - span / 2, log_sigmas[-1] + span / 2, centre_step)
    widths = np.exp(np.arange(np.log(span / 400), np.log(span), width_step))
    centre, width = (axis.ravel() for axis in np.meshgrid(centres, widths))
    best = log_likelihood(curves, log_sigmas, centre[:, None], width[:, None], floor).argmax(1)
    centre, width = centre[best], width[best]
    for _ in range(zooms):
        steps = np.linspace(-1, 1, 9)
        shift, stretch = (
            axis.ravel() for axis in np.meshgrid(steps * centre_step, steps * width_step)
        )
        # (R, candidates)
        near_centre, near_width = centre[:, None] + shift, width[:, None] * np.exp(stretch)
        fit = log_likelihood(
            curves[:, None], log_sigmas, near_centre[..., None], near_width[..., None], floor
        )
        best = fit.argmax(1)[:, None]
        centre, width = (
            np.take_along_axis(near_centre, best, 1)[:, 0],
            np.take_along_axis(near_width, best, 1)[:, 0],
        )
        centre_step, width_step = centre_step / 3, width_step / 3
    return centre, width


def log_likelihood(
    curves: np.ndarray, log_sigmas: np.ndarray, centre, width, floor: float
) -> np.ndarray:
    """Binomial log-likelihood per trial; curves (R, S) against all candidates, or (R, 1, S) against
    its own."""
    chance = np.clip(logistic_curve(log_sigmas, centre, width, floor), 1e-9, 1 - 1e-9)
    if curves.ndim == 2:
        return curves @ np.log(chance).T + (1 - curves) @ np.log1p(-chance).T
    return (curves * np.log(chance) + (1 - curves) * np.log1p(-chance)).sum(-1)


def retention_curve(retained: Tensor | np.ndarray, seed: int = 0) -> list[Estimate]:
    """Mean retention at each noise level of ``retained`` (S, N), each with its 95 % interval over
    ground truths.

    Booleans get Wilson's interval, which is honest at 0 and 1 as well; probabilities are
    bootstrapped.
    """
    retained = np.asarray(retained)
    if retained.dtype == bool:
        return [_wilson(int(row.sum()), len(row)) for row in retained]
    return [bootstrap_mean(row, seed) for row in retained.astype(float)]


def _wilson(successes: int, count: int) -> Estimate:
    found = binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / count, float(found.low), float(found.high))


def check_curve(sigmas: np.ndarray, retained: np.ndarray, level: float) -> None:
    finite = sigmas.ndim == 1 and len(sigmas) >= 2 and np.isfinite(sigmas).all()
    if not finite or not (np.diff(sigmas) > 0).all() or sigmas[0] <= 0:
        raise ValueError(
            f"sigmas must be at least two positive, increasing levels, got {sigmas.tolist()}"
        )
    if retained.ndim != 2 or len(retained) != len(sigmas) or retained.shape[1] == 0:
        raise ValueError(
            f"retained has shape {retained.shape}; ({len(sigmas)}, N) with N >= 1 is needed"
        )
    if not ((retained >= 0) & (retained <= 1)).all():
        raise ValueError("retained must hold booleans or probabilities in [0, 1], without NaN")
    if not 0.5 <= level < 1:
        raise ValueError(
            f"level = {level} must lie in [0.5, 1): it is the midpoint between 1 and the floor 2 "
            "level - 1"
        )
