"""Exercises of the pages: answers are checked; a wrong one gets a hint, never the answer.

Each truth is a function below, registered for its page. Hints name the kind of error (sign, factor,
order, power).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from ..denoisers import GaussianMixtureDenoiser
from ..measures.correlation import gaussian_correlation
from ..measures.retention import agreement
from ..measures.theory import collapse_scale
from ..support import checks

LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # noise levels at which functions are compared
SIMPLE_FACTORS = (2, 3, 4, 5, 10, math.pi, math.sqrt(2), math.sqrt(3))

Truth = Callable[..., float | Sequence[float]]


@dataclass(frozen=True)
class Exercise:
    """What is right: a number or several (``of_sigma`` False), or a function of the noise level."""

    truth: Truth
    of_sigma: bool
    tolerance: float  # relative


@dataclass(frozen=True)
class Checked:
    """The outcome of a check: true when the answer is right. A notebook shows its text."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.text


EXERCISES: dict[str, Exercise] = {}


def exercise(
    page: str, of_sigma: bool = False, tolerance: float = 0.01
) -> Callable[[Truth], Truth]:
    """Register a truth for ``page`` ("fig09"). One exercise for each page."""

    def register(truth: Truth) -> Truth:
        if page in EXERCISES:
            raise ValueError(
                f"page = {page!r} has an exercise already; one for each page is allowed"
            )
        EXERCISES[page] = Exercise(truth, of_sigma, tolerance)
        return truth

    return register


def check_exercise(page: str, answer: object) -> Checked:
    """Is ``answer`` right? Says yes, or what kind of error it may be.

    ``answer``: a number, a sequence of numbers, or a function of one noise level, as the exercise
    of ``page`` asks; None is no answer yet. Raises ``ValueError`` for an unknown page,
    ``TypeError`` for an answer of another kind.
    """
    checks.one_of("page", page, EXERCISES)
    asked = EXERCISES[page]
    if answer is None:
        return Checked(False, "No answer yet.")
    if asked.of_sigma != callable(answer):
        needed = "a function of sigma" if asked.of_sigma else "a number, or several,"
        raise TypeError(f"answer: {needed} is needed, got {type(answer).__name__}")
    truth, given = _numbers(asked.truth, asked.of_sigma), _numbers(answer, asked.of_sigma)
    if given.shape != truth.shape:
        return Checked(
            False, f"Not yet. {len(truth)} number(s) are asked for, {len(given)} were given."
        )
    if not np.isfinite(given).all():
        return Checked(False, "Not yet. The answer is not finite.")
    if _near(given, truth, asked.tolerance):
        return Checked(True, "Right.")
    return Checked(False, f"Not yet. {hint(given, truth, asked.tolerance, asked.of_sigma)}")


def _numbers(source: Any, of_sigma: bool) -> np.ndarray:
    """A row of numbers: a function's values at ``LEVELS``, a truth's value, or the answer."""
    if of_sigma:
        values: object = [source(level) for level in LEVELS]
    else:
        values = source() if callable(source) else source
    try:
        return np.atleast_1d(np.asarray(values, dtype=float)).ravel()
    except (TypeError, ValueError) as error:
        raise TypeError(f"answer: numbers are needed, got {values!r}") from error


def _near(found: np.ndarray, truth: np.ndarray, tolerance: float) -> bool:
    return bool(
        np.allclose(found, truth, rtol=tolerance, atol=tolerance * np.abs(truth).max() / 10)
    )


def hint(given: np.ndarray, truth: np.ndarray, tolerance: float, of_sigma: bool = False) -> str:
    """The kind of error in ``given``, both (n,) finite, without a number of the truth."""

    def near(changed: np.ndarray) -> bool:
        return _near(changed, truth, tolerance)

    with np.errstate(all="ignore"):
        if near(-given):
            return "The sign is wrong."
        if (
            not of_sigma
            and len(truth) > 1
            and near(given[np.argsort(given)][np.argsort(np.argsort(truth))])
        ):
            return "These are the right numbers in another order."
        if near(1 / given):
            return "A fraction is upside down."
        if near(1 - given):
            return "This is the complement: what is lost instead of what is kept, or the reverse."
        if near(np.sqrt(given)) or near(given**2):
            return "A square, or a square root, is missing or too many."
        if _constant_factor(given, truth, tolerance):
            return "A constant factor is wrong."
        if of_sigma and _power(given) != _power(truth):
            return "At large sigma it changes with the wrong power of sigma."
        if _near(given, truth, 0.1):
            return "Close, but not within the tolerance: an approximation, or rounding."
        if (np.abs(np.log(np.abs(given / truth))) > math.log(5)).any():
            return "The order of magnitude is wrong: check units and limits."
    return "Go back to the definition, and try the limits of small and of large noise."


def _constant_factor(given: np.ndarray, truth: np.ndarray, tolerance: float) -> bool:
    """Is it the same factor everywhere? For a single number: one that is easily forgotten."""
    factor = (given @ truth) / (truth @ truth)
    if len(truth) > 1:
        return bool(factor > 0) and _near(given / factor, truth, tolerance)
    factors = np.array([*SIMPLE_FACTORS, *(1 / simple for simple in SIMPLE_FACTORS)])
    return bool((np.abs(factor / factors - 1) <= tolerance).any())


def _power(values: np.ndarray) -> float:
    """The power of sigma, to a half, with which ``values`` change between the last two levels."""
    slope = np.log(np.abs(values[-1] / values[-2])) / np.log(LEVELS[-1] / LEVELS[-2])
    return round(2 * slope) / 2


# ---------------------------------------------------------------------------------- the truths


@exercise("00", of_sigma=True)
def kept_of_a_gaussian(sigma: float) -> float:
    """E[y_0 | x_0] / x_0 for data N(0, 1): E[y_0 | x_u] = K x_u, with K = 1 / (1 + sigma^2)."""
    return 1 / (1 + sigma**2)


@exercise("fig01")
def plateaus_of_three_clouds() -> tuple[float, ...]:
    """Class retention sum_k p(k | x_u)^2 with none, two, and all three of the clouds merged."""
    weights = np.array([0.4, 0.35, 0.25])
    pair = (weights[:2] ** 2).sum() / weights[:2].sum()
    return 1.0, float(pair + weights[2]), float((weights**2).sum())


@exercise("fig02", tolerance=0.03)
def lilliefors_one_per_cent() -> float:
    """D (sqrt n - 0.01 + 0.85 / sqrt n) = 1.035 at 1 %, fitted (Stephens 1974, Table 1A)."""
    root = math.sqrt(1024)
    return 1.035 / (root - 0.01 + 0.85 / root)


@exercise("fig03")
def level_of_a_shorter_score() -> float:
    """Where |sigma s| = sigma / sqrt(lambda + sigma^2) is 0.9, for lambda = 4."""
    return math.sqrt(4 * 0.9**2 / (1 - 0.9**2))


@exercise("fig04", of_sigma=True)
def shift_of_the_deterministic_output(sigma: float) -> float:
    """sqrt(K) mu, mu = 3, lambda = 4: the probability flow maps x to mu + sqrt(K) (x - mu)."""
    return 3 * math.sqrt(4 / (4 + sigma**2))


@exercise("fig05", of_sigma=True)
def mean_output_with_the_wrong_label(sigma: float) -> float:
    """m + K (x_0 - m) with m = +2, the wrong cloud's mean, x_0 = -1, lambda = 1/2."""
    kept = 0.5 / (0.5 + sigma**2)
    return 2 + kept * (-1 - 2)


@exercise("fig06", of_sigma=True)
def spread_from_one_noisy_state(sigma: float) -> float:
    """sum lambda (1 - K) / sum lambda, lambda = 9, 1: the variance of x_0 given x_u, by mode."""
    return 1 - gaussian_correlation(torch.tensor([9.0, 1.0]), sigma)


@exercise("fig07")
def lowest_artificial_start() -> float:
    """Where mu^2 K^2 + lambda (1 - sqrt(1 - K^2))^2 is 0.01 lambda, for mu = 2, lambda = 1."""

    def distance(sigma: float) -> float:
        kept = 1 / (1 + sigma**2)
        return 4 * kept**2 + (1 - math.sqrt(1 - kept**2)) ** 2

    return float(brentq(lambda sigma: distance(sigma) - 0.01, 0.5, 50))


@exercise("fig08", of_sigma=True)
def deterministic_gaussian_correlation(sigma: float) -> float:
    """sum lambda sqrt(K) / sum lambda for the eigenvalues 9 and 1."""
    return gaussian_correlation(torch.tensor([9.0, 1.0]), sigma, method="ode")


@exercise("fig09")
def speciation_of_two_clouds(half_distance: float = 3.0, variance: float = 0.09) -> float:
    """Where E sum_k p(k | x_u)^2 crosses 3/4 for two equal clouds on a line, by quadrature."""
    means = torch.tensor([[-half_distance], [half_distance]])
    pair = GaussianMixtureDenoiser(
        torch.tensor([0.5, 0.5]), means, torch.tensor([variance, variance])
    )
    line = torch.linspace(-100, 100, 100_001, dtype=torch.float64)[:, None]
    step = float(line[1] - line[0])

    def retained(sigma: float) -> float:
        density = pair.log_prob(line, sigma).exp()
        return float((density * agreement(pair.responsibilities(line, sigma))).sum()) * step

    return float(
        brentq(lambda sigma: retained(sigma) - 0.75, half_distance / 10, 10 * half_distance / 3)
    )


@exercise("fig10", of_sigma=True)
def divergence_of_an_artificial_start(sigma: float) -> float:
    """KL[N(2, 1 + sigma^2) | N(0, sigma^2)] = (r - 1 - log r) / 2 + 2^2 / (2 sigma^2).

    With r = (1 + sigma^2) / sigma^2.
    """
    ratio = (1 + sigma**2) / sigma**2
    return (ratio - 1 - math.log(ratio)) / 2 + 2 / sigma**2


@exercise("fig14")
def affine_part_of_two_points() -> tuple[float, ...]:
    """1 - R^2 = (C - C_G) / C = (2/3) s^-4 for x_0 = +-1 at large s.

    C = E tanh^2 = s^-2 - s^-4 + (5/3) s^-6, C_G = 1 / (1 + s^2).
    """
    return 2 / 3, 4.0


@exercise("fig13")
def level_at_which_an_image_is_forgotten() -> float:
    """The counting argument: 20 / 2 log(1 + 1 / sigma^2) = log 5000."""
    return collapse_scale(torch.ones(20), 5000)


@exercise("fig12")
def repeats_for_a_known_time() -> float:
    """Fisher information of log T: sum over levels of R r (1 - r) / w^2 = R / (w delta), nearly.

    With w = 1/4 and levels delta = log(2) / 2 apart.
    """
    return 0.25 * math.log(2) / 2 / 0.02**2


@exercise("fig11")
def entropy_of_merged_clouds() -> tuple[float, ...]:
    """Bits of the weights of the merged clouds: the first two of 0.4, 0.35, 0.25, then all."""
    weights = np.array([0.4, 0.35, 0.25])
    merged = [weights[:2] / weights[:2].sum(), weights]
    return tuple(float(-(p * np.log2(p)).sum()) for p in merged)


@exercise("fig16", of_sigma=True)
def return_to_one_of_two_stored_numbers(sigma: float) -> float:
    """P(1 + sigma eps > 0): by symmetry the deterministic path never crosses 0."""
    return float(norm.cdf(1 / sigma))


@exercise("p2a", of_sigma=True)
def effect_of_a_step_without_denoiser(sigma: float) -> float:
    """K / (1 + K): Euler's step to sigma / 2 multiplies x by (1 + K) / 2, by 1/2 without D."""
    kept = 1 / (1 + sigma**2)
    return kept / (1 + kept)


@exercise("fig15", of_sigma=True)
def distance_of_two_deterministic_outputs(sigma: float) -> float:
    """sqrt(K), K = 4 / (4 + sigma^2): y_0 = sqrt(K) (x_0 + sigma eps), with the same eps."""
    return math.sqrt(4 / (4 + sigma**2))


@exercise("p2b")
def saving_of_a_schedule() -> tuple[float, float]:
    """f w with f = 0.80 x 0.75 of a call, w = 0.45 of the steps; the steps of 20 that remain."""
    saved = 0.80 * 0.75 * 0.45
    return saved, math.floor(20 * (1 - saved))


@exercise("p4a")
def best_time_of_a_network_that_errs(variance: float = 4.0, believed: float = 10.0) -> float:
    """T^2 = a lambda / (a - 2 lambda), where |K' - K| = K.

    K = lambda / (lambda + T^2), K' the same with the believed variance a.
    """
    return math.sqrt(believed * variance / (believed - 2 * variance))


@exercise("p4b")
def level_at_which_noise_is_enough(variance: float = 4.0, missing: float = 0.01) -> float:
    """Outputs have the variance lambda (1 - K^2), K = lambda / (lambda + T^2): K = 0.1."""
    kept = math.sqrt(missing)
    return math.sqrt(variance * (1 / kept - 1))


@exercise("p3a")
def half_way_of_the_denoising_trajectory(variance: float = 4.0) -> float:
    """r / r_0 = sqrt(lambda / (lambda + sigma^2)) = 1/2.

    Since r = lambda x / (lambda + sigma^2), and x grows like sqrt(lambda + sigma^2).
    """
    return math.sqrt(3 * variance)


@exercise("p3b")
def a_step_of_euler_and_of_heun(
    variance: float = 1.0, s: float = 2.0, t: float = 1.0
) -> tuple[float, float]:
    """x_t / x_s for D = K x: Euler t/s + (1 - t/s) K_s.

    Heun adds (s - t) / (2 t) (K_t euler - K_s).
    """
    K_s, K_t = variance / (variance + s**2), variance / (variance + t**2)
    euler = t / s + (1 - t / s) * K_s
    return euler, euler + (s - t) / (2 * t) * (K_t * euler - K_s)


@exercise("p3c")
def bandwidth_at_which_two_images_merge(distance: float = 6.0) -> float:
    """h = a: the map a tanh(a x / h^2) of images at +-a has the slope a^2 / h^2 at 0."""
    return distance / 2


@exercise("b1", tolerance=0.003)
def accuracy_that_proves_retention(classes: int = 10) -> tuple[float, float]:
    """Where 2 E q_y - E sum q^2 is (1 + 1/K) / 2.

    It is 2 a - 1 for sure guesses, a^2 + (1 - a)^2 / (K - 1) for calibrated ones.
    """
    midpoint = (1 + 1 / classes) / 2
    spread = brentq(lambda a: a**2 + (1 - a) ** 2 / (classes - 1) - midpoint, 1 / classes, 1)
    return (1 + midpoint) / 2, float(spread)


@exercise("b7", tolerance=0.02)
def entropy_of_two_points_in_much_noise(a: float = 2.0, sigma: float = 20.0) -> tuple[float, float]:
    """rate a^2 / sigma^2, since D is nearly 0 and D_k = +-a; known: its integral above, half of it.

    To first order in (a / sigma)^2.
    """
    rate = (a / sigma) ** 2
    return rate, rate / 2


@exercise("b4")
def susceptibility_of_whole_changes(sites: int = 100, share: float = 0.5) -> tuple[float, float]:
    """((1 - s) + P s (1 - q)) / (1 - q s), P sites, at q = 1/2 and q = 1.

    With probability q an image is replaced, and then each site differs with probability s.
    """
    at_half, at_all = (
        ((1 - share) + sites * share * (1 - q)) / (1 - q * share) for q in (0.5, 1.0)
    )
    return at_half, at_all


@exercise("b2")
def copies_by_accident(ratio: float = 1 / 3, rate: float = 0.01) -> tuple[float, float]:
    """In the plane ratio^2; the dimension d with ratio^d = rate.

    (r_1 / r_2)^d is uniform on [0, 1] where the density is locally constant.
    """
    return ratio**2, math.log(rate) / math.log(ratio)


@exercise("b6")
def attenuated(spread: float = 0.3, error: float = 0.15) -> tuple[float, float]:
    """Slope and R^2 of y = x on x + error: both are ``s^2 / (s^2 + e^2)``.

    The slope is cov / var of what is measured; R^2 = cov^2 / (var var), with cov = var y = s^2.
    """
    kept = spread**2 / (spread**2 + error**2)
    return kept, kept


@exercise("b8")
def gap_of_two_pixels(rho: float = 0.8, sigma: float = 1.0) -> float:
    """``s^2 / (1 + s^2)`` minus the mean of ``l s^2 / (l + s^2)`` over ``l = 1 +- rho``."""
    noise = sigma**2
    alone = noise / (1 + noise)
    return alone - sum(v * noise / (v + noise) for v in (1 + rho, 1 - rho)) / 2


@exercise("b5")
def turns_in_one(
    variances: tuple[float, float] = (4.0, 0.25), sigma: float = 1.0, turns: int = 3
) -> tuple[float, float]:
    """lambda / (lambda + s^2) = K^n, so s^2 = lambda ((1 + sigma^2 / lambda)^n - 1)."""
    strong, weak = (math.sqrt(v * ((1 + sigma**2 / v) ** turns - 1)) for v in variances)
    return strong, weak


@exercise("b3")
def passes_until_memory(
    images: float = 200.0, seen: float = 30_000.0, more: float = 800.0, learned: float = 8_000.0
) -> tuple[float, float]:
    """In proportion: the passes over the data, seen / images, are the same for all N."""
    passes = seen / images
    return passes * more, learned / passes


@exercise("b9")
def scales_of_two_clouds(
    distance: float = 2.0, variance: float = 0.09, count: int = 50
) -> tuple[float, float, float]:
    """Means +- m: ``Lambda = m^2 + v``, between classes ``m^2``, ``I = log(1 + Lambda/s^2) / 2``.

    So m, ``sqrt(Lambda - 1)``, and ``sqrt(Lambda / (n^2 - 1))``, where I = log n.
    """
    top = distance**2 + variance
    return distance, math.sqrt(top - 1), math.sqrt(top / (count**2 - 1))
