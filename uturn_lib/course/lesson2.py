"""Checks of lesson 2, "The U-Turn": each names its closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..measures import correlation
from ..reports.exercises import Checked
from .answers import Fresh, grade, grade_numbers, normal, same_noise

Answer = Callable[..., Any] | None


# ----------------------------------------------------------------------- 1: a U-Turn on paper


def _turn(x0: Tensor, s: float, lam: float, eps: Tensor, xi: Tensor, **slip: Any) -> Tensor:
    """The closed form, with the ingredients that ``slip`` replaces."""
    kept = lam / (lam + s**2)
    x_u = slip.get("x_u", x0 + s * eps)
    return slip.get("mean", kept) * x_u + slip.get("spread", (lam * (1 - kept)) ** 0.5) * xi


def check_exact_turn(answer: Answer) -> Checked:
    """y_0 = K x_u + sqrt(lambda (1 - K)) xi; ``answer(x0, sigma_u, lam, eps, xi)``."""
    x0, eps, xi = normal(6), normal(6, seed=2), normal(6, seed=3)

    def kept(lam: float, s: float) -> float:
        return lam / (lam + s**2)

    return grade(
        answer,
        _turn,
        {
            "variance 1": (x0, 0.7, 1.0, eps, xi),
            "another variance": (x0, 2.0, 3.0, eps, xi),
        },
        [
            (
                "The way out is missing: the guess is made from the noisy sample, not from x_0.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, x_u=x),
            ),
            (
                "This is the variance of the way back; the noise takes its standard deviation.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, spread=v * (1 - kept(v, s))),
            ),
            (
                "The way back makes as much noise as the way out. But x_0 is known better than "
                "that: the data have a variance of their own.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, spread=s),
            ),
            (
                "The noise of the way back has the variance of the data, as if x_u were not known.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, spread=v**0.5),
            ),
            (
                "This is the mean of the outputs. An output is a draw: xi is missing.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, spread=0.0),
            ),
            (
                "The mean is that of the ODE: which guess is made from x_u?",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, mean=kept(v, s) ** 0.5),
            ),
            (
                "This is the end of the ODE, not of the SDE.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, mean=kept(v, s) ** 0.5, spread=0.0),
            ),
            (
                "The noisy sample is not shrunk: then the outputs vary more than the data.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, mean=1.0),
            ),
            (
                "Sigma_u is a standard deviation, lambda a variance: what is added to lambda in K?",
                lambda x, s, v, e, n: _turn(
                    x, s, v, e, n, mean=v / (v + s), spread=(v * (1 - v / (v + s))) ** 0.5
                ),
            ),
            (
                "Way out and way back share their noise; they must be independent.",
                lambda x, s, v, e, n: _turn(x, s, v, e, e),
            ),
            (
                "The conditional variance has lost a factor: test whether y_0 has the variance of "
                "the data.",
                lambda x, s, v, e, n: _turn(x, s, v, e, n, spread=(1 - kept(v, s)) ** 0.5),
            ),
        ],
    )


# -------------------------------------------------------------------------- 2: a Markov chain


def _kernel(p: Tensor, Q: Tensor) -> Tensor:
    joint = p[:, None] * Q
    return Q @ (joint / joint.sum(0)).T


def check_turn_kernel(answer: Answer) -> Checked:
    """T_ij = sum_u Q_iu p_j Q_ju / sum_k p_k Q_ku; ``answer(p, Q)``, ``p`` (n,), ``Q`` (n, m)."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    Q = torch.softmax(normal(3, 5), 1)
    return grade(
        answer,
        _kernel,
        {"three letters and five symbols": (p, Q), "letters of the same size": (p * 0 + 1 / 3, Q)},
        [
            (
                "Bayes' rule needs the probabilities of the letters as well.",
                lambda p, Q: Q @ (Q / Q.sum(0)).T,
            ),
            (
                "This is Q Q^T. Either p was forgotten, or the joint probability was divided by "
                "its sum over the symbols; the posterior adds up to 1 over the letters, for each "
                "symbol.",
                lambda p, Q: Q @ Q.T,
            ),
            ("Row and column are exchanged: a row belongs to x_0.", lambda p, Q: _kernel(p, Q).T),
            (
                "The rows do not add up to 1: a joint probability stands where a posterior should.",
                lambda p, Q: Q @ (p[:, None] * Q).T,
            ),
            (
                "This is the probability of the pair, p_i T_ij; T is conditional on x_0.",
                lambda p, Q: p[:, None] * _kernel(p, Q),
            ),
        ],
        otherwise="Add up the rows: is each 1? Then do two letters and two symbols by hand.",
    )


# --------------------------------------------------------------------- 3: the auto-correlation


def check_correlations(C_sde: Any, D_ratio: Any, C_ode: Any) -> Checked:
    """sum lambda K / sum lambda, twice, and sum lambda sqrt(K) / sum lambda; tolerance 1.5 %."""
    values, sigma = torch.tensor([9.0, 1.0]), 3.0
    sde, ode = (correlation.gaussian_correlation(values, sigma, method=m) for m in ("sde", "ode"))
    kept = values / (values + sigma**2)
    plain, plain_root = float(kept.mean()), float(kept.sqrt().mean())
    shrunk = float((values * kept**2).sum() / values.sum())
    total = 10 / (10 + sigma**2)
    mixed = values / (values + sigma)  # a variance and a standard deviation added
    units, units_root = (float((values * k).sum() / 10) for k in (mixed, mixed.sqrt()))
    units_ratio = float((mixed**2 * (values + sigma**2)).sum() / 10)
    return grade_numbers(
        [C_sde, D_ratio, C_ode],
        [sde, sde, ode],
        [
            (
                "A mean of two ratios: the coordinate with the larger variance counts more.",
                [plain, plain, plain_root],
            ),
            (
                "The first and the third are exchanged, or both are those of the ODE.",
                [ode, sde, sde],
            ),
            ("The second: D is a multiple of the noisy x_u, not of x_0.", [sde, shrunk, ode]),
            (
                "The coordinates do not mix: each has a K of its own.",
                [total, total, total**0.5],
            ),
            *[
                (
                    "Sigma_u is a standard deviation, lambda a variance: what is added to lambda "
                    "in K?",
                    [units, second, units_root],
                )
                for second in (units, units_ratio)
            ],
            ("The third is that of the SDE once more.", [sde, sde, sde]),
        ],
        tolerance=0.015,
    )


# ------------------------------------------------------------------- 4: the Gaussian's curve


def check_gaussian_correlation(answer: Answer) -> Checked:
    """C = sum lambda K / sum lambda; ``answer(eigenvalues, sigma_u)``, ``eigenvalues`` (d,)."""
    values = torch.tensor([9.0, 4.0, 1.0, 0.2], dtype=torch.float64)

    def truth(v: Tensor, s: float) -> Tensor:
        return torch.tensor(correlation.gaussian_correlation(v, s), dtype=torch.float64)

    def kept(v: Tensor, s: float) -> Tensor:
        return v / (v + s**2)

    return grade(
        answer,
        truth,
        {
            "one variance": (values[:1], 1.5),
            "four variances": (values, 1.5),
            "no turn at all": (values, 0.0),
        },
        [
            (
                "A plain mean over the coordinates: those with a larger variance count more.",
                lambda v, s: kept(v, s).mean(),
            ),
            (
                "The sums were taken too early: each coordinate has a K of its own.",
                lambda v, s: v.sum() / (v.sum() + s**2),
            ),
            (
                "The mean variance does not replace the variances.",
                lambda v, s: v.mean() / (v.mean() + s**2),
            ),
            (
                "This is the curve of the ODE.",
                lambda v, s: (v * kept(v, s).sqrt()).sum() / v.sum(),
            ),
            (
                "K enters once: given x_u the outputs have the mean D, and x_0 as well.",
                lambda v, s: (v * kept(v, s) ** 2).sum() / v.sum(),
            ),
            (
                "The noise has the variance sigma_u^2.",
                lambda v, s: (v * v / (v + s)).sum() / v.sum(),
            ),
            (
                "Eigenvalues of the covariance are variances already.",
                lambda v, s: (v**2 * kept(v**2, s)).sum() / (v**2).sum(),
            ),
            ("It is not divided by the variance of x_0.", lambda v, s: (v * kept(v, s)).sum()),
            (
                "The sum over the coordinates is missing.",
                lambda v, s: kept(v, s).sum(),
            ),
        ],
    )


# ------------------------------------------------------------- 5: one call in place of a turn


def check_identity_ratio(answer: Answer) -> Checked:
    """sum |D|^2 / sum |x_0|^2 over batch and pixels; ``answer(x0, D)``, both (B, C, H, W)."""
    sizes = torch.tensor([0.2, 1, 2, 1, 3], dtype=torch.float64)
    x0 = normal(5, 1, 3, 4) * sizes.reshape(-1, 1, 1, 1)
    D = 0.5 * x0 + 0.3 * normal(5, 1, 3, 4, seed=2)

    def norms(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1)

    return grade(
        answer,
        lambda x, D: D.square().sum() / x.square().sum(),
        {"five images": (x0, D)},
        [
            (
                "A mean of ratios: an image that is nearly the mean counts far too much.",
                lambda x, D: (norms(D) / norms(x)).mean(),
            ),
            (
                "A mean of ratios of single pixels; sum first, then divide.",
                lambda x, D: (D**2 / x**2).mean(),
            ),
            (
                "This is <x_0, D>: it has the same mean for an exact D, but it is the other half "
                "of the proof.",
                lambda x, D: (x * D).sum() / x.square().sum(),
            ),
            (
                "Lengths, not their squares.",
                lambda x, D: D.square().sum().sqrt() / x.square().sum().sqrt(),
            ),
            (
                "Lengths, not their squares.",
                lambda x, D: norms(D).sqrt().sum() / norms(x).sqrt().sum(),
            ),
            (
                "The ratio is upside down.",
                lambda x, D: x.square().sum() / D.square().sum(),
            ),
            (
                "Squared sums, not sums of squares.",
                lambda x, D: D.sum() ** 2 / x.sum() ** 2,
            ),
            (
                "A variance takes another mean away, that of all pixels. The mean image is taken "
                "away already: squares are asked for.",
                lambda x, D: D.var() / x.var(),
            ),
            (
                "A variance takes another mean away, that of the batch. The mean image is taken "
                "away already: squares are asked for.",
                lambda x, D: D.var(0).sum() / x.var(0).sum(),
            ),
            ("It is not divided by the size of x_0.", lambda x, D: norms(D).mean()),
            ("It is not divided by the size of x_0.", lambda x, D: D.square().mean()),
        ],
        otherwise="Which number belongs above, which below the line, and over which axes is each "
        "summed?",
    )


# ------------------------------------------------------------------ 6: the bug in the U-Turn


def _steps(which: str) -> Callable[..., Tensor]:
    """U-Turns by the ancestral step whose way back draws its noise in the way ``which``."""

    def u_turn(D: Any, x0: Tensor, sigmas: Sequence[float], noise: Any) -> Tensor:
        early = noise(x0) if which == "early draw" else None
        eps = noise(x0)
        x = x0 + sigmas[0] * eps
        late = noise(x0) if which == "one draw" else eps
        once = late if early is None else early
        for s, t in zip(sigmas[:-1], sigmas[1:], strict=True):
            r = (t / s) ** 2
            xi = noise(x) if which == "fresh" else once
            size = 0.0 if which == "none" else t * (1 - r) ** 0.5
            x = r * x + (1 - r) * D(x, s) + size * xi
        return x

    return u_turn


def check_u_turn(answer: Answer) -> Checked:
    """x_t = r x + (1 - r) D + t sqrt(1 - r) xi with fresh xi, step by step with the same noise.

    ``answer(D, x0, sigmas, noise)``, ``noise(x)`` once for the way out and once for each step.
    """

    def D(x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma**2)

    x0, noise = normal(9, 1), Fresh(same_noise)
    cases = {
        "one step": (D, x0, [2.0, 0.0], noise),
        "many steps": (D, x0, [2.0, 1.5, 1.0, 0.5, 0.0], noise),
    }
    return grade(
        answer,
        _steps("fresh"),
        cases,
        [
            *[
                ("The steps share one draw: each needs its own.", _steps(which))
                for which in ("one draw", "early draw")
            ],
            (
                "The way back has no noise any more: its outputs vary less than the data.",
                _steps("none"),
            ),
        ],
        untouched=_steps("noise of the way out"),
        otherwise="For each random number: where is it drawn, how often, with which shape, and "
        "where is it used?",
    )
