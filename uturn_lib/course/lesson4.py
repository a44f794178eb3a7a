"""Checks of lesson 4, "Is the score affine?": each names its closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..reports.exercises import Checked
from .answers import grade, grade_numbers, normal

Answer = Callable[..., Any] | None


# ---------------------------------------------------------------- 1: what is left unexplained


def _left(D: Tensor, guess: Tensor) -> Tensor:
    return (D - guess).square().sum() / (D - D.mean(0)).square().sum()


def check_unexplained(answer: Answer) -> Checked:
    """1 - R^2 = sum |D - g|^2 / sum |D - mean D|^2; ``answer(D, guess)``, both (N, d)."""
    D = normal(7, 3) + torch.tensor([0.0, 3.0, -5.0], dtype=torch.float64)
    near = D + 0.3 * normal(7, 3, seed=2)
    return grade(
        answer,
        _left,
        {
            "a perfect guess": (D, D),
            "a guess that is off": (D, near),
            "one coordinate": (D[:, 1:2], near[:, 1:2] + 0.2),
        },
        [
            ("This is R^2, the explained share; what is left is asked for.", _explained),
            (
                "One mean for all coordinates: each has its own.",
                lambda D, g: (D - g).square().sum() / (D - D.mean()).square().sum(),
            ),
            (
                "The reference is 0 and not the mean of D: a constant guess is free of charge.",
                lambda D, g: (D - g).square().sum() / D.square().sum(),
            ),
            (
                "This mean runs over the coordinates of a sample. The mean of D is a vector: it "
                "runs over the samples, axis 0.",
                lambda D, g: (D - g).square().sum() / (D - D.mean(1, keepdim=True)).square().sum(),
            ),
            (
                "The residuals have lost their mean: a guess that is off by a constant would be "
                "free of charge.",
                lambda D, g: (D - g).var(0).sum() / D.var(0).sum(),
            ),
            (
                "A variance of all entries takes one mean away, from the residuals as well. Take "
                "it from D alone, coordinate by coordinate.",
                lambda D, g: (D - g).var() / D.var(),
            ),
            (
                "These are lengths; squares are asked for.",
                lambda D, g: _left(D, g).sqrt(),
            ),
            (
                "The denominator holds the spread of the guess, not that of D.",
                lambda D, g: (D - g).square().sum() / (g - g.mean(0)).square().sum(),
            ),
            (
                "A mean of ratios: coordinates and samples count by their variance, so sum before "
                "you divide.",
                _mean_of_ratios,
            ),
            (
                "Not divided by anything: 1 - R^2 has no unit.",
                lambda D, g: (D - g).square().sum(),
            ),
        ],
        otherwise="Two sums of squares, one above, one below the line: what is subtracted from D "
        "in each?",
    )


def _explained(D: Tensor, guess: Tensor) -> Tensor:
    return 1 - _left(D, guess)


def _mean_of_ratios(D: Tensor, guess: Tensor) -> Tensor:
    return ((D - guess).square().sum(0) / (D - D.mean(0)).square().sum(0)).mean()


# ------------------------------------------------------------------- 2: the best affine guess


def _affine(x: Tensor, s: float, mean: Tensor, covariance: Tensor, noise: Tensor) -> Tensor:
    return mean + (x - mean) @ (covariance @ torch.linalg.inv(covariance + noise)).T


def check_affine_guess(answer: Answer) -> Checked:
    """mu + Sigma (Sigma + sigma^2 I)^-1 (x - mu); ``answer(x, sigma, mean, covariance)``."""
    x, spread = normal(5, 3), normal(3, 3, seed=2)
    covariance, mean = spread @ spread.T, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def unit(S: Tensor) -> Tensor:
        return torch.eye(len(S), dtype=S.dtype)

    def right(x: Tensor, s: float, m: Tensor, S: Tensor) -> Tensor:
        return _affine(x, s, m, S, s**2 * unit(S))

    return grade(
        answer,
        right,
        {
            "one coordinate of mean 0": (x[:, :1], 0.7, 0 * mean[:1], covariance[:1, :1]),
            "coordinates that depend on each other": (x, 0.7, 0 * mean, covariance),
            "another mean": (x, 2.0, mean, covariance),
        },
        [
            *[
                (
                    "A number added to a matrix goes into all of its entries. Noise of different "
                    "coordinates is independent.",
                    spread_out,
                )
                for spread_out in (
                    lambda x, s, m, S: _affine(x, s, m, S, s**2 + 0 * S),
                    lambda x, s, m, S: m + (x - m) @ S @ torch.linalg.inv(S + s**2),
                    lambda x, s, m, S: m + (x - m) @ torch.linalg.inv(S + s**2) @ S,
                )
            ],
            (
                "The noise has the variance sigma^2.",
                lambda x, s, m, S: _affine(x, s, m, S, s * unit(S)),
            ),
            (
                "It shrinks towards 0; without any information the guess is the mean.",
                lambda x, s, m, S: right(x, s, 0 * m, S),
            ),
            (
                "The deviation from the mean is right, the mean itself is missing.",
                lambda x, s, m, S: right(x, s, m, S) - m,
            ),
            (
                "This is the noise that is taken away, not what is kept: try sigma = 0.",
                lambda x, s, m, S: m + x - right(x, s, m, S),
            ),
            (
                "Matrices are divided entry by entry; an inverse is asked for.",
                lambda x, s, m, S: m + (x - m) @ (S / (S + s**2 * unit(S))),
            ),
            (
                "Only the variances are used: how the coordinates depend on each other is lost.",
                lambda x, s, m, S: right(x, s, m, S.diag().diag()),
            ),
            (
                "Here is an inverse where none belongs, or the other way round: test large noise.",
                lambda x, s, m, S: m + (x - m) @ torch.linalg.inv(S) @ (S + s**2 * unit(S)),
            ),
        ],
    )


# --------------------------------------------------------------------------- 3: the best line


def check_best_line(slope: Any, share: Any, error: Any) -> Checked:
    """lambda / (lambda + sigma^2); (C - C_G) / C; lambda (1 - K), for x_0 = +-2 and sigma = 2."""
    C, K, lam = 0.5504, 0.5, 4.0
    right = (K, (C - K) / C, lam * (1 - K))

    def but(place: int, value: float) -> tuple[float, ...]:
        return (*right[:place], value, *right[place + 1 :])

    return grade_numbers(
        None if None in (slope, share, error) else (slope, share, error),
        right,
        [
            (
                "Number 1: this is the slope of D at 0. The best line looks at all samples.",
                but(0, 1.0),
            ),
            ("Number 1: the variance of the data is not their value.", but(0, 2 / (2 + 4))),
            ("Number 2: what is left is measured in units of the variance of D.", but(1, C - K)),
            (
                "Number 2: divided by the line's part. The unit is the variance of D itself.",
                but(1, (C - K) / K),
            ),
            ("Number 2: this is the explained share.", but(1, K / C)),
            (
                "Number 3: this is the error of D. A line is no better than that.",
                but(2, lam * (1 - C)),
            ),
            (
                "Number 3: this is a share; the error has the unit of a variance.",
                but(2, 1 - K),
            ),
            (
                "Number 3: this is how far the line lies from D, not from x_0.",
                but(2, lam * (C - K)),
            ),
            ("Number 3: a root; the mean squared error is asked for.", but(2, 2**0.5)),
        ],
    )


# ------------------------------------------------------------------------- 4: start half way


def _start(eps: Tensor, scale: Tensor, mean: Tensor, V: Tensor) -> Tensor:
    return mean + (scale * eps) @ V.T


def check_g_start(answer: Answer) -> Checked:
    """mu + V sqrt(lambda + sigma_u^2) eps; ``answer(eps, sigma_u, mean, eigenvalues, V)``."""
    eps, mean = normal(5, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    values = torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)
    V, unit = torch.linalg.qr(normal(3, 3, seed=2)).Q, torch.eye(3, dtype=torch.float64)
    return grade(
        answer,
        lambda e, s, m, v, V: _start(e, (v + s**2).sqrt(), m, V),
        {
            "components along the axes": (eps, 0.7, 0 * mean, values, unit),
            "components in other directions": (eps, 0.7, 0 * mean, values, V),
            "another mean": (eps, 2.0, mean, values, V),
        },
        [
            (
                "Standard deviations are added. It is the variances that add up.",
                lambda e, s, m, v, V: _start(e, v.sqrt() + s, m, V),
            ),
            (
                "These are variances; eps takes a standard deviation.",
                lambda e, s, m, v, V: _start(e, v + s**2, m, V),
            ),
            (
                "Sigma_u is a standard deviation. What is the variance of the noise?",
                lambda e, s, m, v, V: _start(e, (v + s).sqrt(), m, V),
            ),
            (
                "These are draws of the data without noise.",
                lambda e, s, m, v, V: _start(e, v.sqrt(), m, V),
            ),
            (
                "This is the artificial start: the data do not enter.",
                lambda e, s, m, v, V: s * e,
            ),
            (
                "This start knows the mean of the data, but not their covariance.",
                lambda e, s, m, v, V: m + s * e,
            ),
            (
                "The mean of the data is missing.",
                lambda e, s, m, v, V: _start(e, (v + s**2).sqrt(), 0 * m, V),
            ),
            (
                "The rotation goes the wrong way: a column of V is a component.",
                lambda e, s, m, v, V: _start(e, (v + s**2).sqrt(), m, V.T),
            ),
            (
                "Rotated before it is scaled: an eigenvalue belongs to a component, not to a "
                "coordinate.",
                lambda e, s, m, v, V: m + (v + s**2).sqrt() * (e @ V.T),
            ),
            (
                "The result is still in components; it has to be turned back into coordinates.",
                lambda e, s, m, v, V: m + (v + s**2).sqrt() * e,
            ),
        ],
    )


# ---------------------------------------------------------------------------- 5: Heun's method


def _heun(
    D: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: Sequence[float], slip: str = ""
) -> Tensor:
    for s, t in zip(sigmas[:-1], sigmas[1:], strict=True):
        d = (x - D(x, s)) / s
        ahead = x + (t - s) * d
        level, below = (s if slip in ("both", "level") else t), (s if slip in ("both", "s") else t)
        d_ahead = ((x if slip == "old point" else ahead) - D(ahead, level)) / below
        if slip == "old point in D":
            d_ahead = (ahead - D(x, t)) / t
        slope = {"euler": d, "second": d_ahead, "sum": d + d_ahead}.get(slip, (d + d_ahead) / 2)
        x = (ahead if slip == "from the trial point" else x) + (t - s) * slope
    return x


def check_heun(answer: Answer) -> Checked:
    """x + (t - s) (d + d') / 2 with d' = (x' - D(x', t)) / t at x' = x + (t - s) d, in every step.

    ``answer(D, x, sigmas)``, ``sigmas`` above 0.
    """

    def gaussian(x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma**2)

    def two_points(x: Tensor, sigma: float) -> Tensor:
        return 2 * (2 * x / sigma**2).tanh()

    x = 2 * normal(6, 2)
    hints = {
        "s": "The slope at the trial point is divided by the level where the step began.",
        "both": "The slope at the trial point belongs to the level that it has reached, in both "
        "places.",
        "euler": "This is Euler's step: the second slope is not used, and the order is one.",
        "second": "Only the second slope is used; Heun's method takes both.",
        "sum": "Two slopes are added up: is it their mean?",
        "old point": "The numerator mixes two states: the trial point and the one before it.",
        "old point in D": "The denoiser is asked at the old state, but at the new level.",
        "from the trial point": "The mean slope is added to the trial point: the step is taken "
        "twice.",
    }
    return grade(
        answer,
        _heun,
        {
            "one step on Gaussian data": (gaussian, x, [2.0, 1.5]),
            "many steps on Gaussian data": (gaussian, x, [3.0, 2.0, 1.0, 0.5]),
            "two points": (two_points, x, [3.0, 2.0, 1.2]),
        },
        [(text, _with(slip)) for slip, text in hints.items()],
        untouched=_with("level"),
        otherwise="Read the loop aloud: for each slope, at which state is it taken, at which "
        "level, and how much of it enters the step?",
    )


def _with(slip: str) -> Callable[..., Tensor]:
    return lambda D, x, sigmas: _heun(D, x, sigmas, slip)


# ------------------------------------------------------------------------------ 6: the verdict


def _verdict(low: Tensor, high: Tensor, margin: float) -> float:
    if bool(((low > margin) | (high < -margin)).any()):
        return -1.0
    return float(((low >= -margin) & (high <= margin)).all())


def check_verdict(answer: Answer) -> Checked:
    """-1 if an interval lies outside [-margin, margin], 1 if all lie inside, else 0.

    ``answer(low, high, margin)``, ``low`` and ``high`` (S,).
    """

    def intervals(*ends: tuple[float, float]) -> tuple[Tensor, Tensor, float]:
        low, high = torch.tensor(ends, dtype=torch.float64).T
        return low.clone(), high.clone(), 0.05

    def all_inside(low: Tensor, high: Tensor, margin: float) -> bool:
        return bool(((low >= -margin) & (high <= margin)).all())

    def all_outside(low: Tensor, high: Tensor, margin: float) -> bool:
        return bool(((low > margin) | (high < -margin)).all())

    def undecided(low: Tensor, high: Tensor, margin: float) -> bool:
        inside = (low >= -margin) & (high <= margin)
        return not bool((inside | (low > margin) | (high < -margin)).all())

    return grade(
        answer,
        _verdict,
        {
            "narrow intervals near 0": intervals((-0.01, 0.02), (0.01, 0.04)),
            "intervals beyond the margin": intervals((0.06, 0.09), (0.07, 0.2)),
            "one interval beyond the margin": intervals((-0.01, 0.01), (0.06, 0.09)),
            "one below the negative margin": intervals((-0.01, 0.01), (-0.3, -0.2)),
            "wide intervals around 0": intervals((-0.3, 0.3), (-0.2, 0.3)),
            "an interval across the margin": intervals((-0.01, 0.01), (0.04, 0.09)),
            "an interval across the negative margin": intervals((-0.01, 0.01), (-0.09, -0.04)),
            "one beyond and one wide": intervals((-0.3, 0.3), (0.06, 0.09)),
        },
        [
            (
                "An interval that contains 0 counts as agreement. A wide one contains everything.",
                lambda a, b, m: 1.0 if bool(((a <= 0) & (b >= 0)).all()) else -1.0,
            ),
            (
                "There is no third answer: not shown to hold is not shown to fail.",
                lambda a, b, m: 1.0 if all_inside(a, b, m) else -1.0,
            ),
            (
                "The middle of an interval decides, as if the measurement were exact.",
                lambda a, b, m: 1.0 if bool((((a + b) / 2).abs() <= m).all()) else -1.0,
            ),
            (
                "All levels have to fail here before the claim does. It says: at every level.",
                lambda a, b, m: -1.0 if all_outside(a, b, m) else float(all_inside(a, b, m)),
            ),
            (
                "A wide interval at one level cannot save a claim that another level refutes.",
                lambda a, b, m: 0.0 if undecided(a, b, m) else _verdict(a, b, m),
            ),
            (
                "Not refuted is not shown: to hold, every interval has to lie inside the margin.",
                lambda a, b, m: 1.0 if _verdict(a, b, m) >= 0 else -1.0,
            ),
            *[
                ("The difference may be negative, too.", one_sided)
                for one_sided in (
                    lambda a, b, m: -1.0 if bool((a > m).any()) else float(bool((b <= m).all())),
                    lambda a, b, m: -1.0 if bool((a > m).any()) else float(all_inside(a, b, m)),
                    lambda a, b, m: -1.0 if _verdict(a, b, m) < 0 else float(bool((b <= m).all())),
                )
            ],
        ],
        otherwise="Take one interval at a time: wholly inside the margin, wholly outside, or "
        "across it? Then: what do all of them say together?",
    )
