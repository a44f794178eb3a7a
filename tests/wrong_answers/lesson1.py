"""Typical wrong answers of lesson 1: check -> (answer, words that its hint must have)."""

from itertools import pairwise

import torch


def columns(sigma, x):
    return torch.as_tensor(sigma).reshape(-1, *[1] * (x.ndim - 1))


def images_only(x0, sigma, eps):
    """Right for images: sigma gets three axes, however many a sample has."""
    sigma = torch.as_tensor(sigma)
    return x0 + (sigma[:, None, None, None] if sigma.ndim else sigma) * eps


def variance_preserving(x0, sigma, eps):
    """The other convention; a plain number becomes complex where sigma > 1, a tensor nan."""
    sigma = sigma if isinstance(sigma, float) else columns(sigma, x0)
    return x0 * (1 - sigma**2) ** 0.5 + sigma * eps


def each_coordinate(x, sigma, weights, means, variance):
    offsets = x[:, None] - means
    width = variance + sigma**2
    r = torch.softmax(weights.log()[:, None] - offsets**2 / (2 * width), 1)  # no sum over the plane
    return (r * (means + variance / width * offsets)).sum(1)


def distance_not_squared(x, sigma, weights, means, variance):
    width = variance + sigma**2
    r = torch.softmax(weights.log() - torch.cdist(x, means) / (2 * width), 1)
    return r @ means * sigma**2 / width + x * variance / width


def mixture(x, sigma, weights, means, variance, width=None, kept=None):
    """The right denoiser without softmax, as students often write it, and its errors."""
    width = variance + sigma**2 if width is None else width
    squares = torch.stack([((x - mean) ** 2).sum(1) for mean in means], dim=1)
    squares = squares - squares.min(dim=1, keepdim=True).values
    r = weights * torch.exp(-squares / (2 * width))
    r = r / r.sum(1, keepdim=True)
    kept = variance / (variance + sigma**2) if kept is None else kept
    return sum(r[:, k : k + 1] * (mean + kept * (x - mean)) for k, mean in enumerate(means))


def softmax_over_samples(x, sigma, weights, means, variance):
    exponents = weights.log() - torch.cdist(x, means) ** 2 / (2 * (variance + sigma**2))
    r = torch.softmax(exponents, 0)
    kept = variance / (variance + sigma**2)
    return r @ means * (1 - kept) + kept * x * r.sum(1, keepdim=True)


def underflow(x, sigma, weights, means, variance):
    r = weights * torch.exp(-(torch.cdist(x, means) ** 2) / (2 * (variance + sigma**2)))
    return (r / r.sum(1, keepdim=True)) @ means


def sampler(step):
    """A sampler of the steps step(x, score, s, t, xi)."""

    def run(D, x, sigmas, noise):
        for s, t in pairwise(sigmas):
            x = step(x, (D(x, s) - x) / s**2, s, t, noise(x))
        return x

    return run


WRONG = {
    "check_add_noise": [
        (
            lambda x0, sigma, eps: x0 + sigma * eps,
            "one sigma for each image it stops with RuntimeError",
        ),
        (lambda x0, sigma, eps: x0 + columns(sigma, x0) ** 2 * eps, "not squared"),
        (lambda x0, sigma, eps: x0 + columns(sigma, x0) ** 0.5 * eps, "not the variance sigma"),
        (
            lambda x0, sigma, eps: (
                (x0 + columns(sigma, x0) * eps) / (1 + columns(sigma, x0) ** 2) ** 0.5
            ),
            "not shrunk",
        ),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).clamp(-1, 1), "nothing is clamped"),
        (
            lambda x0, sigma, eps: x0 + columns(sigma, x0) * torch.randn_like(x0),
            "random numbers from what is given",
        ),
        (
            lambda x0, sigma, eps: (
                x0 * (1 - columns(sigma, x0) ** 2).sqrt() + columns(sigma, x0) * eps
            ),
            "x_0 is not shrunk",
        ),
        (variance_preserving, "x_0 is not shrunk"),
        (images_only, "For one sigma for each point: the shape is"),
        (lambda x0, sigma, eps: x0.add_(columns(sigma, x0) * eps), "changes its input"),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).float(), "dtype is torch.float32"),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).mean(0), "An axis got lost"),
        (lambda x0, sigma, eps: print("x"), "is there a return"),
        (3.0, "A function is asked for"),
    ],
    "check_gaussian_denoiser": [
        (
            lambda x, sigma, mu, lam: mu + lam**2 / (lam**2 + sigma**2) * (x - mu),
            "a variance already",
        ),
        (lambda x, sigma, mu, lam: mu + lam / (lam + sigma) * (x - mu), "variance of the noise"),
        (
            lambda x, sigma, mu, lam: mu + sigma**2 / (lam + sigma**2) * (x - mu),
            "share that is lost",
        ),
        (lambda x, sigma, mu, lam: lam / (lam + sigma**2) * x, "shrinks towards 0"),
        (lambda x, sigma, mu, lam: lam / (lam + sigma**2) * (x - mu), "the mean itself is missing"),
        (lambda x, sigma, mu, lam: x, "noisy sample itself"),
        (
            lambda x, sigma, mu, lam: mu + (lam / (lam + sigma**2)) ** 0.5 * (x - mu),
            "root too many",
        ),
        (
            lambda x, sigma, mu, lam: x / (1 + sigma**2),
            "Right for a standard Gaussian, but not for another variance",
        ),
    ],
    "check_spreads": [
        ((5.76, 3.24, 9), "The first two are exchanged"),
        ((3.24, 5.76, 3.24), "it varies more"),
        ((3.24, 5.76, 5.76), "not the variance at one given x"),
        ((3.24, 5.76, 25), "the noise is gone"),
        ((0.36**2 * 9, 5.76, 9), "not of the clean x_0"),
        ((1.8, 2.4, 3), "standard deviations"),
        ((3.2, 5.8, 9), "Right so far, but rounded"),
        ((3.2, 4.0, 9), "Look again at number 1, 2"),
        ((3.24, 4.0, 9), "Look again at number 2"),
        ((1.0, 2.0, 4.0), "Begin with number 1"),
        ((3.24, None, 9), "No answer yet"),
        ((3.24, "a lot", 9), "Numbers are asked for"),
    ],
    "check_score": [
        (lambda D, x, sigma: (x - D(x, sigma)) / sigma**2, "sign is wrong"),
        (lambda D, x, sigma: (D(x, sigma) - x) / sigma, "one power of sigma is missing"),
        (lambda D, x, sigma: (x - D(x, sigma)) / sigma, "another sign and another power"),
        (lambda D, x, sigma: D(x, sigma) - x, "the noise level is missing"),
        (lambda D, x, sigma: (D(x, sigma) - x) / (2 * sigma**2), "constant factor"),
        (lambda D, x, sigma: (D(x, sigma) - x).norm(dim=1) / sigma**2, "An axis got lost"),
    ],
    "check_mixture_denoiser": [
        (softmax_over_samples, "over the clouds"),
        (lambda x, s, w, m, v: mixture(x, s, w, m, v, width=s**2), "their variance is missing"),
        (lambda x, s, w, m, v: mixture(x, s, w, m, v, width=v), "the noise is missing"),
        (lambda x, s, w, m, v: mixture(x, s, torch.ones(3), m, v), "weights are missing"),
        (
            lambda x, s, w, m, v: mixture(x, s, w, m, v, width=(v + s**2) / 2),
            "exponent of a Gaussian",
        ),
        (lambda x, s, w, m, v: mixture(x, s, w, m, v, kept=0), "mixes the centres"),
        (each_coordinate, "over which axis"),
        (distance_not_squared, "holds the distance squared"),
        (underflow, "far from all clouds: there are values that are not finite"),
        (lambda x, s, w, m, v: mixture(x, s, w, m, v).T, "Two axes are swapped"),
        (lambda x, s, w, m, v: x - m, "stops with RuntimeError"),
    ],
    "check_sde_sampler": [
        (
            sampler(lambda x, g, s, t, xi: x + s * (s - t) * g + (2 * s * (s - t)) ** 0.5 * xi),
            "No answer yet: the code still does",
        ),
        (sampler(lambda x, g, s, t, xi: x + s * (s - t) * g), "Without noise this is the ODE"),
        (
            sampler(lambda x, g, s, t, xi: x + s * (s - t) * g + (s * (s - t)) ** 0.5 * xi),
            "half of what the SDE asks",
        ),
        (
            sampler(lambda x, g, s, t, xi: x + 2 * s * (s - t) * g + 2 * s * (s - t) * xi),
            "a root is missing",
        ),
        (sampler(lambda x, g, s, t, xi: x + 2 * s * (s - t) * g), "the noise is gone"),
        (
            sampler(lambda x, g, s, t, xi: x - 2 * s * (s - t) * g + (2 * s * (s - t)) ** 0.5 * xi),
            "a sign is wrong",
        ),
        (
            sampler(
                lambda x, g, s, t, xi: (
                    x + 2 * s * (s - t) * g + (2 * s * (s - t)) ** 0.5 * torch.randn_like(x)
                )
            ),
            "random numbers from what is given",
        ),
        *[
            (
                sampler(
                    lambda x, g, s, t, xi, k=k: (
                        x + k * s * (s - t) * g + (2 * s) ** 0.5 * (s - t) * xi
                    )
                ),
                "what is its standard deviation",
            )
            for k in (1, 2)
        ],
        (lambda D, x, sigmas, noise: D(x, sigmas[0]), "One big step gives the mean"),
    ],
}
