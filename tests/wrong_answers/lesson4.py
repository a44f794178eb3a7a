"""Typical wrong answers of lesson 4: check -> (answer, words that its hint must have)."""

from itertools import pairwise

import torch


def spread(D):
    return (D - D.mean(0)).square()


def guess(noise):
    """The affine guess with another matrix noise(sigma, covariance) added."""
    return lambda x, s, m, S: m + (x - m) @ (S @ torch.linalg.inv(S + noise(s, S))).T


def unit(S):
    return torch.eye(len(S), dtype=S.dtype)


right_guess = guess(lambda s, S: s**2 * unit(S))


def start(scale, mean=lambda m: m, turn=lambda V: V.T):
    return lambda eps, s, m, v, V: mean(m) + (scale(v, s) * eps) @ turn(V)


def root(v, s):
    return (v + s**2).sqrt()


def heun(second, mean=lambda d, e: (d + e) / 2):
    """A step with another second slope second(D, x, ahead, s, t), and another mean of the two."""

    def answer(D, x, sigmas):
        for s, t in pairwise(sigmas):
            d = (x - D(x, s)) / s
            x = x + (t - s) * mean(d, second(D, x, x + (t - s) * d, s, t))
        return x

    return answer


def right_slope(D, x, ahead, s, t):
    return (ahead - D(ahead, t)) / t


def inside(low, high, margin):
    return bool(((low >= -margin) & (high <= margin)).all())


def outside(low, high, margin):
    return (low > margin) | (high < -margin)


WRONG = {
    "check_unexplained": [
        (lambda D, g: 1 - (D - g).square().sum() / spread(D).sum(), "explained share"),
        (lambda D, g: (D - g).square().sum() / (D - D.mean()).square().sum(), "each has its own"),
        (lambda D, g: (D - g).square().sum() / D.square().sum(), "reference is 0"),
        (
            lambda D, g: (D - g).square().sum() / (D - D.mean(1, keepdim=True)).square().sum(),
            "runs over the samples, axis 0",
        ),
        (lambda D, g: (D - g).var(0).sum() / D.var(0).sum(), "residuals have lost their mean"),
        (lambda D, g: (D - g).var() / D.var(), "variance of all entries"),
        (lambda D, g: (D - g).norm() / spread(D).sum().sqrt(), "squares are asked for"),
        (lambda D, g: (D - g).square().sum(0) / spread(D).sum(0), "Is a sum missing"),
        (lambda D, g: ((D - g).square().sum(0) / spread(D).sum(0)).mean(), "sum before you divide"),
        (lambda D, g: (D - g).square().sum() / spread(g).sum(), "not that of D"),
        (lambda D, g: (D - g).square().mean(0).sum() / D.var(0).sum(), "constant factor"),
    ],
    "check_affine_guess": [
        (guess(lambda s, S: s**2), "all of its entries"),
        (
            lambda x, s, m, S: m + (x - m) @ S @ torch.linalg.inv(S + s**2),
            "all of its entries",
        ),
        (guess(lambda s, S: s * unit(S)), "variance sigma^2"),
        (lambda x, s, m, S: right_guess(x, s, 0 * m, S), "shrinks towards 0"),
        (lambda x, s, m, S: right_guess(x, s, m, S) - m, "mean itself is missing"),
        (lambda x, s, m, S: m + x - right_guess(x, s, m, S), "not what is kept"),
        (lambda x, s, m, S: m + (x - m) @ (S / (S + s**2 * unit(S))), "entry by entry"),
        (lambda x, s, m, S: right_guess(x, s, m, torch.diag(S.diag())), "Only the variances"),
        (
            lambda x, s, m, S: (S @ torch.linalg.inv(S + s**2 * unit(S))) @ (x - m),
            "stops with RuntimeError",
        ),
    ],
    "check_best_line": [
        ((1.0, 0.0916, 2.0), "slope of D at 0"),
        ((0.5, 0.0504, 2.0), "units of the variance of D"),
        ((0.5, 0.1008, 2.0), "divided by the line's part"),
        ((0.5, 0.908, 2.0), "explained share"),
        ((0.5, 0.0916, 1.798), "error of D"),
        ((0.5, 0.0916, 0.5), "this is a share"),
        ((0.5, 0.09, 2.0), "Right so far, but rounded"),
        ((0.5, 0.0916, None), "No answer yet"),
    ],
    "check_g_start": [
        (start(lambda v, s: v.sqrt() + s), "variances that add up"),
        (start(lambda v, s: v + s**2), "takes a standard deviation"),
        (start(lambda v, s: (v + s).sqrt()), "variance of the noise"),
        (start(root, turn=lambda V: V), "wrong way"),
        (start(root, mean=lambda m: 0 * m), "mean of the data is missing"),
        (lambda eps, s, m, v, V: s * eps, "artificial start"),
        (lambda eps, s, m, v, V: m + root(v, s) * eps, "still in components"),
        (lambda eps, s, m, v, V: m + root(v, s) * (eps @ V.T), "Rotated before it is scaled"),
        (lambda eps, s, m, v, V: m + V @ (root(v, s) * eps), "stops with RuntimeError"),
    ],
    "check_heun": [
        (
            heun(lambda D, x, ahead, s, t: (ahead - D(ahead, s)) / t),
            "No answer yet: the code still does",
        ),
        (heun(lambda D, x, ahead, s, t: (ahead - D(ahead, t)) / s), "divided by the level"),
        (heun(lambda D, x, ahead, s, t: (ahead - D(ahead, s)) / s), "in both places"),
        (heun(lambda D, x, ahead, s, t: (ahead - D(x, t)) / t), "at the old state"),
        (heun(right_slope, lambda d, e: d), "Euler's step"),
        (heun(right_slope, lambda d, e: d + e), "is it their mean"),
        (heun(right_slope, lambda d, e: e), "takes both"),
    ],
    "check_verdict": [
        (
            lambda low, high, margin: 1 if bool(((low <= 0) & (high >= 0)).all()) else -1,
            "contains everything",
        ),
        (lambda low, high, margin: 1 if inside(low, high, margin) else -1, "no third answer"),
        (
            lambda low, high, margin: 1 if ((low + high).abs() / 2 <= margin).all() else -1,
            "middle of an interval",
        ),
        (
            lambda low, high, margin: (
                -1 if outside(low, high, margin).all() else int(inside(low, high, margin))
            ),
            "at every level",
        ),
        (
            lambda low, high, margin: -1 if (low > margin).any() else int((high <= margin).all()),
            "may be negative",
        ),
        (
            lambda low, high, margin: (
                -1 if (low > margin).any() else int(inside(low, high, margin))
            ),
            "may be negative",
        ),
        (
            lambda low, high, margin: (
                -1 if outside(low, high, margin).any() else int((high <= margin).all())
            ),
            "may be negative",
        ),
        (
            lambda low, high, margin: -1 if outside(low, high, margin).any() else 1,
            "Not refuted is not shown",
        ),
        (lambda low, high, margin: 0, "Take one interval at a time"),
        (lambda low, high, margin: "holds", "a number is asked for"),
        (lambda low, high, margin: -_sign(low, high, margin), "sign is wrong"),
    ],
}


def _sign(low, high, margin):
    return -1 if outside(low, high, margin).any() else int(inside(low, high, margin))
