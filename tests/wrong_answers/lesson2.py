"""Typical wrong answers of lesson 2: check -> (answer, words that its hint must have)."""

from itertools import pairwise

import torch


def turn(mean=None, spread=None, forward=True):
    """A U-Turn of Gaussian data with another mean or spread of the way back."""

    def answer(x0, sigma_u, lam, eps, xi):
        K = lam / (lam + sigma_u**2)
        x_u = x0 + sigma_u * eps if forward else x0
        m = K if mean is None else mean(K)
        return (
            m * x_u + ((lam * (1 - K)) ** 0.5 if spread is None else spread(lam, K, sigma_u)) * xi
        )

    return answer


def bayes(p, Q, axis, prior=True):
    joint = p[:, None] * Q if prior else Q
    return joint / joint.sum(axis, keepdim=True)


def u_turn(next_noise):
    """A U-Turn whose steps use next_noise(forward noise, noise, x)."""

    def answer(D, x0, sigmas, noise):
        eps = noise(x0)
        x = x0 + sigmas[0] * eps
        for s, t in pairwise(sigmas):
            r = (t / s) ** 2
            x = r * x + (1 - r) * D(x, s) + t * (1 - r) ** 0.5 * next_noise(eps, noise, x)
        return x

    return answer


def one_draw(D, x0, sigmas, noise):
    x = x0 + sigmas[0] * noise(x0)
    xi = noise(x0)
    for s, t in pairwise(sigmas):
        x = (t / s) ** 2 * x + (1 - (t / s) ** 2) * D(x, s) + t * (1 - (t / s) ** 2) ** 0.5 * xi
    return x


def draw_before_the_way_out(D, x0, sigmas, noise):
    xi = noise(x0)
    x = x0 + sigmas[0] * noise(x0)
    for s, t in pairwise(sigmas):
        r = (t / s) ** 2
        x = r * x + (1 - r) * D(x, s) + t * (1 - r) ** 0.5 * xi
    return x


def units_mixed(x0, sigma_u, lam, eps, xi):
    K = lam / (lam + sigma_u)
    return K * (x0 + sigma_u * eps) + (lam * (1 - K)) ** 0.5 * xi


def K(values, sigma):
    return values / (values + sigma**2)


WRONG = {
    "check_exact_turn": [
        (turn(forward=False), "way out is missing"),
        (turn(spread=lambda lam, K, s: lam * (1 - K)), "takes its standard deviation"),
        (turn(spread=lambda lam, K, s: s), "as much noise as the way out"),
        (turn(spread=lambda lam, K, s: 0), "An output is a draw"),
        (turn(spread=lambda lam, K, s: (1 - K) ** 0.5), "lost a factor"),
        (turn(mean=lambda K: K**0.5), "mean is that of the ODE"),
        (turn(mean=lambda K: 1), "not shrunk"),
        (units_mixed, "what is added to lambda"),
        (
            lambda x0, sigma_u, lam, eps, xi: turn()(x0, sigma_u, lam, eps, eps),
            "must be independent",
        ),
        (
            lambda x0, sigma_u, lam, eps, xi: turn()(x0, sigma_u, lam, eps, torch.randn_like(x0)),
            "random numbers from what is given",
        ),
    ],
    "check_turn_kernel": [
        (lambda p, Q: Q @ bayes(p, Q, 0, prior=False).T, "probabilities of the letters as well"),
        (lambda p, Q: Q @ bayes(p, Q, 1).T, "sum over the symbols"),
        (lambda p, Q: Q @ Q.T, "Either p was forgotten"),
        (lambda p, Q: bayes(p, Q, 0) @ Q.T, "Row and column are exchanged"),
        (lambda p, Q: Q @ (p[:, None] * Q).T, "rows do not add up to 1"),
        (lambda p, Q: Q @ bayes(p, Q, 0), "stops with RuntimeError"),
        (lambda p, Q: Q.T @ bayes(p, Q, 0), "(5, 5); (3, 3) is asked for"),
        (lambda p, Q: p[:, None] * (Q @ bayes(p, Q, 0).T), "probability of the pair"),
    ],
    "check_correlations": [
        ((0.30, 0.30, 0.51), "counts more"),
        ((0.67, 0.46, 0.46), "exchanged"),
        ((0.46, 0.226, 0.668), "not of x_0"),
        ((0.526, 0.526, 0.725), "each has a K of its own"),
        ((0.46, 0.46, 0.46), "once more"),
        ((0.70, 0.70, 0.829), "what is added to lambda"),
        ((0.70, 1.075, 0.829), "what is added to lambda"),
        ((0.5, 0.46, 0.67), "Right so far, but rounded"),
        ((0.46, 0.46, 0.9), "Look again at number 3"),
        ((None, 0.46, 0.668), "No answer yet"),
    ],
    "check_gaussian_correlation": [
        (lambda v, s: K(v, s).mean(), "A plain mean over the coordinates"),
        (lambda v, s: v.sum() / (v.sum() + s**2), "each coordinate has a K of its own"),
        (lambda v, s: (v * K(v, s) ** 0.5).sum() / v.sum(), "curve of the ODE"),
        (lambda v, s: (v * K(v, s) ** 2).sum() / v.sum(), "K enters once"),
        (lambda v, s: (v * K(v, s)).sum(), "not divided"),
        (lambda v, s: (v * v / (v + s)).sum() / v.sum(), "variance sigma_u^2"),
        (lambda v, s: v * K(v, s) / v.sum(), "Is a sum missing"),
    ],
    "check_identity_ratio": [
        (
            lambda x0, D: (D.flatten(1).square().sum(1) / x0.flatten(1).square().sum(1)).mean(),
            "counts far too much",
        ),
        (lambda x0, D: (x0 * D).sum() / (x0 * x0).sum(), "other half of the proof"),
        (lambda x0, D: D.var() / x0.var(), "A variance takes another mean away, that of all"),
        (lambda x0, D: D.var(0).sum() / x0.var(0).sum(), "that of the batch"),
        (lambda x0, D: D.norm() / x0.norm(), "Lengths, not their squares"),
        (lambda x0, D: x0.square().sum() / D.square().sum(), "upside down"),
        (lambda x0, D: D.square().sum((1, 2, 3)) / x0.square().sum((1, 2, 3)), "Is a sum missing"),
        (lambda x0, D: D.square().mean(), "not divided"),
    ],
    "check_u_turn": [
        (u_turn(lambda eps, noise, x: eps), "No answer yet: the code still does"),
        (draw_before_the_way_out, "each needs its own"),
        (one_draw, "each needs its own"),
        (u_turn(lambda eps, noise, x: 0), "no noise any more"),
        (u_turn(lambda eps, noise, x: torch.randn_like(x)), "random numbers from what is given"),
        (u_turn(lambda eps, noise, x: noise(x).mean() + 0 * x), "For each random number"),
    ],
}
