"""Typical wrong answers of lesson 1: check -> (answer, words that its hint must have)."""

import torch


def columns(sigma, x):
    return torch.as_tensor(sigma).reshape(-1, *[1] * (x.ndim - 1))


WRONG = {
    "check_add_noise": [
        (lambda x0, sigma, eps: x0 + sigma * eps, "one sigma for each image it stops with RuntimeError"),
        (lambda x0, sigma, eps: x0 + columns(sigma, x0) ** 2 * eps, "not squared"),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).clamp(-1, 1), "nothing is clamped"),
        (lambda x0, sigma, eps: x0 + columns(sigma, x0) * torch.randn_like(x0), "use the noise that is given"),
        (lambda x0, sigma, eps: x0.add_(columns(sigma, x0) * eps), "changes its input"),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).float(), "dtype is torch.float32"),
        (lambda x0, sigma, eps: (x0 + columns(sigma, x0) * eps).mean(0), "An axis got lost"),
        (lambda x0, sigma, eps: print(x0 + columns(sigma, x0) * eps), "is there a return"),
    ],
}
