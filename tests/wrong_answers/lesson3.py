"""Typical wrong answers of lesson 3: check -> (answer, words that its hint must have)."""

import torch


def nearest(y0, reference):
    return torch.cdist(y0.flatten(1), reference.flatten(1)).argmin(1)


def nats(v, s):
    return 0.5 * torch.log1p(v / s**2).sum()


def memory(x, s, y):
    weights = (-torch.cdist(x, y).square() / (2 * s**2)).exp()
    return weights / weights.sum(1, keepdim=True) @ y


def softmax(exponent, axis=1):
    return lambda x, s, y: exponent(torch.cdist(x, y), s).softmax(axis) @ y


def outputs(kept, resamples, pick):
    return kept.flatten()[pick(kept.numel(), (resamples, kept.numel()))].mean(1)


def repeats(kept, resamples, pick):
    return kept[:, pick(kept.shape[1], (resamples, kept.shape[1]))].mean((0, 2))


def rows(kept, resamples, pick):
    return kept[pick(len(kept), (resamples, len(kept)))]


SIGMA_C = (500 ** (2 / 10) - 1) ** -0.5

WRONG = {
    "check_identity_retention": [
        (
            lambda y0, reference, own: (
                (nearest(y0, reference) == torch.arange(len(y0))).double().mean()
            ),
            "what own is for",
        ),
        (
            lambda y0, reference, own: (
                (torch.cdist(y0.flatten(1), reference.flatten(1)).argmax(1) == own).double().mean()
            ),
            "farthest",
        ),
        (
            lambda y0, reference, own: (
                (torch.cdist(y0.flatten(1), reference.flatten(1)).amin(1) == own).double().mean()
            ),
            "*Where* is it smallest",
        ),
        (
            lambda y0, reference, own: (
                (torch.cdist(y0.flatten(1), reference.flatten(1), p=1).argmin(1) == own)
                .double()
                .mean()
            ),
            "sum of absolute differences",
        ),
        (
            lambda y0, reference, own: (
                ((y0.flatten(1) @ reference.flatten(1).T).argmax(1) == own).double().mean()
            ),
            "inner product",
        ),
        (lambda y0, reference, own: (nearest(y0, reference) == own).sum(), "their share"),
        (lambda y0, reference, own: nearest(y0, reference) == own, "Is a sum missing"),
        (lambda y0, reference, own: (nearest(y0, reference) != own).double().mean(), "complement"),
        (
            lambda y0, reference, own: (
                ((y0 - reference[own]).flatten(1).norm(dim=1) < 1e-9).double().mean()
            ),
            "nearer to it than to all others",
        ),
        (
            lambda y0, reference, own: (
                (torch.cdist(y0.flatten(1), reference.flatten(1)).argmin(0) == own).double().mean()
            ),
            "stops with RuntimeError",
        ),
    ],
    "check_class_retention": [
        (lambda p: p.max(1).values.mean(), "best guess"),
        (lambda p: p.mean(0).square().sum(), "the same noisy sample"),
        (lambda p: p.square().mean(), "add up"),
        (lambda p: p.square().sum(), "mean is asked for"),
        (lambda p: p.square().sum(1), "Is a sum missing"),
        (lambda p: p.square().sum(1).sqrt().mean(), "no root"),
        (lambda p: 1 - p.square().sum(1).mean(), "complement"),
    ],
    "check_information": [
        (lambda v, s: 0.5 * torch.log1p(v / s).sum(), "like with like"),
        (lambda v, s: 0.5 * torch.log1p(v.sum() / s**2), "before the sum"),
        (lambda v, s: 0.5 * (v / s**2).log().sum(), "is negative"),
        (lambda v, s: 2 * nats(v, s), "standard deviations, not of variances"),
        (lambda v, s: nats(v, s) / 0.6931471805599453, "These are bits"),
        (lambda v, s: 0.5 * torch.log1p(s**2 / v).sum(), "exchanged"),
        (lambda v, s: -nats(v, s), "sign is wrong"),
        (lambda v, s: 0.5 * torch.log1p(v / s**2), "number is asked for"),
    ],
    "check_two_scales": [
        ((0.75, 6, SIGMA_C), "half way between 1 and the floor"),
        ((0.25, 6, SIGMA_C), "there are two of them"),
        ((0.5, 12, SIGMA_C), "distance of the means"),
        ((0.5, 36, SIGMA_C), "Number 2: this is a variance"),
        ((0.5, 6, 0.579), "only its own samples"),
        ((0.5, 6, 1.077), "factor 1/2"),
        ((0.5, SIGMA_C, 6), "exchanged"),
        ((0.5, 6, 0.6), "Right so far, but rounded too much"),
        ((0.5, 6, 5.0), "Look again at number 3"),
        ((0.5, None, SIGMA_C), "No answer yet"),
    ],
    "check_memorising_denoiser": [
        (memory, "hardly any noise: there are values that are not finite"),
        (softmax(lambda r, s: -r / (2 * s**2)), "enter squared"),
        (softmax(lambda r, s: -(r**2) / s**2), "factor 2"),
        (softmax(lambda r, s: -(r**2) / (2 * s)), "Sigma enters squared"),
        (softmax(lambda r, s: r**2 / (2 * s**2)), "farthest"),
        (softmax(lambda r, s: -(r**2) / (2 * s**2), axis=0), "Those of each noisy sample"),
        (lambda x, s, y: y[torch.cdist(x, y).argmin(1)], "nearest image"),
        (lambda x, s, y: y.mean(0).expand(len(x), -1), "mean of all stored"),
    ],
    "check_bootstrap_means": [
        (outputs, "No answer yet: the code still does"),
        (
            lambda kept, resamples, pick: kept.flatten()[
                pick(len(kept), (resamples, len(kept)))
            ].mean(1),
            "looked up in the flattened table",
        ),
        (
            lambda kept, resamples, pick: kept[pick(kept.numel(), (resamples, kept.numel()))],
            "stops with IndexError",
        ),
        (
            lambda kept, resamples, pick: kept[pick(len(kept), (resamples, kept.numel()))].mean(
                (1, 2)
            ),
            "As many ground truths are drawn as there are outputs",
        ),
        (
            lambda kept, resamples, pick: torch.stack(
                [kept[torch.randperm(len(kept))].mean() for _ in range(resamples)]
            ),
            "*with* replacement",
        ),
        (repeats, "for these images only"),
        (
            lambda kept, resamples, pick: rows(kept, 1, pick).mean().expand(resamples),
            "All resamples are the same",
        ),
        (
            lambda kept, resamples, pick: rows(kept, resamples, pick)[:, :, 0].mean(1),
            "Only one of the repeats",
        ),
        (lambda kept, resamples, pick: rows(kept, resamples, pick).mean(), "is asked for"),
        (
            lambda kept, resamples, pick: kept[
                torch.randint(len(kept), (resamples, len(kept)))
            ].mean((1, 2)),
            "random numbers from what is given",
        ),
        (
            lambda kept, resamples, pick: rows(kept, resamples, pick).mean(2),
            "a mean or a sum is missing",
        ),
    ],
}
