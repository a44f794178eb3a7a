"""Checks of lesson 1, "Noise and denoising": each names its closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers import GaussianMixtureDenoiser
from ..reports.exercises import Checked
from .answers import Fresh, grade, grade_numbers, normal, same_noise

Answer = Callable[..., Any] | None
LEVELS = [3.0, 2.0, 1.0, 0.3, 0.0]


def _columns(sigma: float | Tensor, x: Tensor) -> Tensor:
    """``sigma`` with axes of length 1 where ``x`` (B, *sample) has those of a sample."""
    return torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# ------------------------------------------------------------------------- 1: the forward process


def _noisy(x0: Tensor, sigma: float | Tensor, eps: Tensor) -> Tensor:
    return x0 + _columns(sigma, x0) * eps


def check_add_noise(answer: Answer) -> Checked:
    """x = x_0 + sigma eps; ``answer(x0, sigma, eps)``, ``x0`` and ``eps`` (B, *sample)."""
    images, eps = normal(3, 1, 4, 4).tanh(), normal(3, 1, 4, 4, seed=2)
    points = normal(5, 2), normal(5, 2, seed=2)
    each = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    return grade(
        answer,
        _noisy,
        {
            "no noise": (images, 0.0, eps),
            "points": (points[0], 3.0, points[1]),
            "images": (images, 0.5, eps),
            "one sigma for each image": (images, each, eps),
            "one sigma for each point": (points[0][:3], each, points[1][:3]),
        },
        [
            (
                "The noise has the standard deviation sigma, not the variance sigma.",
                lambda x, s, e: x + _columns(s, x).sqrt() * e,
            ),
            (
                "Sigma is the standard deviation of the noise: it is not squared here.",
                lambda x, s, e: x + _columns(s, x) ** 2 * e,
            ),
            (
                "The image is not shrunk: that belongs to the variance-preserving convention.",
                lambda x, s, e: _noisy(x, s, e) / (1 + _columns(s, x) ** 2).sqrt(),
            ),
            (
                "x_0 is not shrunk: sqrt(1 - sigma^2) belongs to the variance-preserving "
                "convention, where sigma stays below 1.",
                lambda x, s, e: (1 - _columns(s, x) ** 2).sqrt() * x + _columns(s, x) * e,
            ),
            (
                "A noisy image may leave [-1, 1]: nothing is clamped.",
                lambda x, s, e: _noisy(x, s, e).clamp(-1, 1),
            ),
            ("The noise is added, not subtracted.", lambda x, s, e: _noisy(x, s, -e)),
            ("The image itself is missing.", lambda x, s, e: _columns(s, x) * e),
        ],
    )


# ---------------------------------------------------------------- 2: the denoiser of a Gaussian


def check_gaussian_denoiser(answer: Answer) -> Checked:
    """D = mu + K (x - mu), K = lambda / (lambda + sigma^2); ``answer(x, sigma, mu, lam)``."""

    def kept(lam: float, sigma: float) -> float:
        return lam / (lam + sigma**2)

    x = normal(6)
    return grade(
        answer,
        lambda x, s, m, v: m + kept(v, s) * (x - m),
        {
            "a standard Gaussian": (x, 0.7, 0.0, 1.0),
            "another variance": (x, 0.7, 0.0, 3.0),
            "another mean": (x, 0.7, 2.0, 3.0),
        },
        [
            (
                "Lambda is a variance already: it is not squared.",
                lambda x, s, m, v: m + kept(v**2, s) * (x - m),
            ),
            (
                "Sigma is a standard deviation. What is the variance of the noise?",
                lambda x, s, m, v: m + v / (v + s) * (x - m),
            ),
            (
                "This is the share that is lost, not the share that is kept: try sigma = 0.",
                lambda x, s, m, v: m + (1 - kept(v, s)) * (x - m),
            ),
            (
                "A fraction is upside down: with much noise the guess should be near the mean.",
                lambda x, s, m, v: m + (x - m) / kept(v, s),
            ),
            (
                "The deviation from the mean is right, the mean itself is missing.",
                lambda x, s, m, v: kept(v, s) * (x - m),
            ),
            (
                "It shrinks towards 0. Where should a guess go that knows nothing?",
                lambda x, s, m, v: kept(v, s) * x,
            ),
            ("The noisy sample itself is not the best guess.", lambda x, s, m, v: x),
            (
                "A root too many: the conditional mean is linear in covariance over variance.",
                lambda x, s, m, v: m + kept(v, s) ** 0.5 * (x - m),
            ),
        ],
    )


# -------------------------------------------------------------- 3: a mean is not a sample


def check_spreads(variance_of_D: Any, error_of_D: Any, variance_of_y: Any) -> Checked:
    """lambda K, lambda (1 - K) and lambda for lambda = 9, sigma = 4."""
    lam, sigma = 9.0, 4.0
    kept = lam / (lam + sigma**2)
    of_D, error = lam * kept, lam * (1 - kept)
    return grade_numbers(
        [variance_of_D, error_of_D, variance_of_y],
        [of_D, error, lam],
        [
            ("The first two are exchanged.", [error, of_D, lam]),
            (
                "A draw from p(x_0 | x) is not the mean of p(x_0 | x): it varies more.",
                [of_D, error, of_D],
            ),
            (
                "For the third, x is random as well: it is not the variance at one given x.",
                [of_D, error, error],
            ),
            (
                "The third is the variance of a clean sample: the noise is gone.",
                [of_D, error, lam + sigma**2],
            ),
            (
                "D is a multiple of the noisy x, not of the clean x_0.",
                [kept**2 * lam, error, lam],
            ),
            (
                "D is a multiple of the noisy x, not of the clean x_0.",
                [kept**2 * lam, lam - kept**2 * lam, lam],
            ),
            (
                "These are standard deviations; variances are asked for.",
                [of_D**0.5, error**0.5, lam**0.5],
            ),
        ],
    )


# ------------------------------------------------------------------------------- 4: the score


def _clouds() -> GaussianMixtureDenoiser:
    means = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]])
    return GaussianMixtureDenoiser(torch.tensor([0.5, 0.3, 0.2]), means, torch.full((3,), 0.3))


def _slope_of_log_density(D: GaussianMixtureDenoiser, x: Tensor, sigma: float) -> Tensor:
    """By automatic differentiation: another way than Tweedie's formula."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(D.log_prob(x, sigma).sum(), x)[0]


def check_score(answer: Answer) -> Checked:
    """The slope of the exact log density of three clouds; ``answer(D, x, sigma)``, ``x`` (B, 2)."""
    D, x = _clouds(), 2 * normal(7, 2)
    return grade(
        answer,
        _slope_of_log_density,
        {"weak noise": (D, x, 0.5), "strong noise": (D, x, 3.0)},
        [
            (
                "The sign is wrong: the score points to where samples are more likely.",
                lambda D, x, s: (x - D(x, s)) / s**2,
            ),
            (
                "This is minus the mean of eps: one power of sigma is missing.",
                lambda D, x, s: (D(x, s) - x) / s,
            ),
            (
                "This is the mean of eps. The score has another sign and another power of sigma.",
                lambda D, x, s: (x - D(x, s)) / s,
            ),
            (
                "Direction and sign are right; the noise level is missing.",
                lambda D, x, s: D(x, s) - x,
            ),
            (
                "D itself is the best guess. The score is about the way from x to it.",
                lambda D, x, s: D(x, s) / s**2,
            ),
        ],
    )


# --------------------------------------------------------------- 5: the denoiser of a mixture


def _mixture(
    x: Tensor, sigma: float, weights: Tensor, means: Tensor, variance: float, **slip: Any
) -> Tensor:
    """The closed form, with the ingredients that ``slip`` replaces."""
    width = slip.get("width", variance + sigma**2)
    offsets = x[:, None] - means
    exponents = -offsets.square().sum(-1) / (slip.get("half", 2) * width)
    exponents = exponents + slip.get("log_weights", weights.log())
    r = torch.softmax(exponents, dim=slip.get("axis", 1))
    if slip.get("hard"):
        r = torch.nn.functional.one_hot(r.argmax(1), len(means)).to(x.dtype)
    kept = slip.get("kept", variance / (variance + sigma**2))
    if slip.get("each_coordinate"):
        single = weights.log()[:, None] - offsets.square() / (2 * width)  # (B, n, 2)
        return (single.softmax(1) * (means + kept * offsets)).sum(1)
    if slip.get("not_squared"):
        r = torch.softmax(weights.log() - offsets.norm(dim=-1) / (2 * width), 1)
    return (r[..., None] * (means + kept * offsets)).sum(1)


def check_mixture_denoiser(answer: Answer) -> Checked:
    """D = sum_k r_k [m_k + K (x - m_k)]; ``answer(x, sigma, weights, means, variance)``.

    ``x`` (B, 2), ``weights`` (n,), ``means`` (n, 2).
    """
    weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    means = torch.tensor([[-2.0, 0.0], [1.5, 1.0], [1.0, -2.5]], dtype=torch.float64)
    x = 2 * normal(5, 2)
    return grade(
        answer,
        _mixture,
        {
            "points between the clouds": (x, 1.2, weights, means, 0.5),
            "points far from all clouds": (40 * x, 0.8, weights, means, 0.5),
        },
        [
            (
                "The probabilities r should add up to 1 over the clouds, for each sample.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, axis=0),
            ),
            (
                "The clouds have a size of their own: their variance is missing in r.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, width=s**2),
            ),
            (
                "Seen through noise a cloud is wider: the noise is missing in r.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, width=v),
            ),
            (
                "Some clouds hold more samples than others: the weights are missing.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, log_weights=0.0),
            ),
            (
                "Softmax takes exponents: a weight enters it as a logarithm.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, log_weights=w),
            ),
            (
                "The exponent of a Gaussian has a factor that is missing here.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, half=1),
            ),
            (
                "Variances add up, standard deviations do not.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, width=(v**0.5 + s) ** 2),
            ),
            (
                "This mixes the centres of the clouds: x also says where in its cloud x_0 was.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, kept=0.0),
            ),
            (
                "Each coordinate has an r of its own here. A cloud is as likely as its distance in "
                "the plane says: over which axis is that summed?",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, each_coordinate=True),
            ),
            (
                "The exponent of a Gaussian holds the distance squared.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, not_squared=True),
            ),
            (
                "Sigma is a standard deviation, lambda a variance: what is added to lambda?",
                lambda x, s, w, m, v: _mixture(x, s**0.5, w, m, v),
            ),
            (
                "This chooses one cloud. A mean weighs all of them.",
                lambda x, s, w, m, v: _mixture(x, s, w, m, v, hard=True),
            ),
        ],
    )


# ------------------------------------------------------------- 6: the bug in the SDE's sampler


def _euler_maruyama(drift: str, shake: str, last: bool = True) -> Callable[..., Tensor]:
    """Samplers of ``x + drift * score + sqrt(shake) * noise``, both given as formulas in s and t.

    ``last``: whether the step into 0 adds noise as well.
    """
    formulas: dict[str, Callable[[float, float], float]] = {
        "0": lambda s, t: 0.0,
        "s (s - t)": lambda s, t: s * (s - t),
        "2 s (s - t)": lambda s, t: 2 * s * (s - t),
        "4 s (s - t)": lambda s, t: 4 * s * (s - t),
        "2 (s - t)": lambda s, t: 2 * (s - t),
        "s^2 - t^2": lambda s, t: s**2 - t**2,
        "2 s (s - t)^2": lambda s, t: 2 * s * (s - t) ** 2,
        "[2 s (s - t)]^2": lambda s, t: (2 * s * (s - t)) ** 2,
        "-2 s (s - t)": lambda s, t: -2 * s * (s - t),
    }

    def sampler(D: Any, x: Tensor, sigmas: Sequence[float], noise: Any) -> Tensor:
        for s, t in zip(sigmas[:-1], sigmas[1:], strict=True):
            score = (D(x, s) - x) / s**2
            x = x + formulas[drift](s, t) * score
            if t > 0 or last:
                x = x + formulas[shake](s, t) ** 0.5 * noise(x)
        return x

    return sampler


def check_sde_sampler(answer: Answer) -> Checked:
    """x + 2 s (s - t) score + sqrt(2 s (s - t)) xi, step by step with the same xi.

    ``answer(D, x, sigmas, noise)``. The exact integral s^2 - t^2 of 2 sigma d sigma is as right,
    and noise in the step into 0 is optional.
    """

    def D(x: Tensor, sigma: float) -> Tensor:
        return 4 / (4 + sigma**2) * x

    both = ("2 s (s - t)", "s^2 - t^2")
    rights = [_euler_maruyama(a, b, c) for a in both for b in both for c in (True, False)]
    wrong = _euler_maruyama
    noise = Fresh(same_noise)
    return grade(
        answer,
        rights[0],
        {
            "one step": (D, normal(9), [2.0, 0.0], noise),
            "many steps": (D, normal(9), LEVELS, noise),
        },
        [
            (
                "Drift and noise fit each other now, but both are half of what the SDE asks for: "
                "compare term by term.",
                wrong("s (s - t)", "s (s - t)"),
            ),
            (
                "Without noise this is the ODE. Its variance is right, but it is not the SDE: two "
                "runs from the same x should differ.",
                wrong("s (s - t)", "0"),
            ),
            (
                "One big step gives the mean D of all that fits, not a sample.",
                lambda D, x, sigmas, noise: D(x, sigmas[0]),
            ),
            ("The drift is mended, but the noise is gone.", wrong("2 s (s - t)", "0")),
            (
                "The noise is a standard deviation: a root is missing.",
                wrong(both[0], "[2 s (s - t)]^2"),
            ),
            *[
                (
                    "The noise of a step has the *variance* |d sigma|: what is its standard "
                    "deviation?",
                    wrong(drift, "2 s (s - t)^2"),
                )
                for drift in ("s (s - t)", *both)
            ],
            ("The drift is too strong now.", wrong("4 s (s - t)", "2 s (s - t)")),
            (
                "The drift leads away from the data: a sign is wrong.",
                wrong("-2 s (s - t)", both[0]),
            ),
            (
                "The noise has lost a factor: compare with the square root in the SDE.",
                wrong("2 s (s - t)", "2 (s - t)"),
            ),
            (
                "The noise was right; it is the other term that is not.",
                wrong("s (s - t)", "4 s (s - t)"),
            ),
        ],
        also=rights[1:],
        untouched=wrong("s (s - t)", "2 s (s - t)"),
        otherwise="Compare the step term by term with the equation of the SDE: which factor "
        "belongs to the score, and which to the noise?",
    )
