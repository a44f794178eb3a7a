"""Checks of lesson 3, "Memorization and speciation": each names its closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..reports.exercises import Checked
from .answers import Fresh, grade, grade_numbers, normal

Answer = Callable[..., Any] | None


# --------------------------------------------------------------------- 1: identity retention


def _distances(y0: Tensor, reference: Tensor) -> Tensor:
    return torch.cdist(y0.flatten(1), reference.flatten(1))


def _share(chosen: Tensor, own: Tensor) -> Tensor:
    return (chosen == own).double().mean()


def check_identity_retention(answer: Answer) -> Checked:
    """r = mean of [argmin_j |y_0 - reference_j| = own]; ``answer(y0, reference, own)``.

    ``y0`` (N, *sample), ``reference`` (M, *sample), ``own`` (N,) places in the reference.
    """
    points, images = 2 * normal(9, 2), normal(8, 1, 3, 3)
    far = torch.tensor([8, 1, 2, 0, 6, 5])
    own = torch.tensor([7, 1, 4, 6, 2])
    moved = points[far] + 2 * normal(6, 2, seed=2)
    noisy = 0.6 * images[own] + 2 * normal(5, 1, 3, 3, seed=3)
    return grade(
        answer,
        lambda y, ref, own: _share(_distances(y, ref).argmin(1), own),
        {
            "outputs equal to their ground truths": (points[far], points, far),
            "points": (moved, points, far),
            "images": (noisy, images, own),
        },
        [
            (
                "This compares the smallest distance with a place. *Where* is it smallest?",
                lambda y, ref, own: _share(_distances(y, ref).amin(1), own),
            ),
            (
                "Nearest in the sum of absolute differences. The Euclidean distance is asked for.",
                lambda y, ref, own: _share(
                    torch.cdist(y.flatten(1), ref.flatten(1), p=1).argmin(1), own
                ),
            ),
            (
                "The row of an output is not its ground truth's place in the reference: that is "
                "what own is for.",
                lambda y, ref, own: _share(_distances(y, ref).argmin(1), torch.arange(len(y))),
            ),
            (
                "This is the farthest reference image, not the nearest.",
                lambda y, ref, own: _share(_distances(y, ref).argmax(1), own),
            ),
            (
                "A large inner product is no small distance: lengths differ.",
                lambda y, ref, own: _share((y.flatten(1) @ ref.flatten(1).T).argmax(1), own),
            ),
            (
                "This is a number of outputs; their share is asked for.",
                lambda y, ref, own: (_distances(y, ref).argmin(1) == own).sum(),
            ),
            (
                "This asks whether an output equals its ground truth exactly. It only has to be "
                "nearer to it than to all others.",
                lambda y, ref, own: (_distances(y, ref[own]).diagonal() < 1e-6).double().mean(),
            ),
        ],
        otherwise="For one output, look at the row of its distances by hand: which is smallest, "
        "and which place does own name?",
    )


# ------------------------------------------------------------------------ 2: class retention


def check_class_retention(answer: Answer) -> Checked:
    """c = mean over samples of sum_k p_k^2; ``answer(p)``, ``p`` (B, K)."""
    sure = torch.eye(4, dtype=torch.float64)[:3]
    return grade(
        answer,
        lambda p: p.square().sum(1).mean(),
        {
            "classes that are known for sure": (sure,),
            "three classes": ((2 * normal(5, 3)).softmax(1),),
            "four classes": (normal(7, 4, seed=2).softmax(1),),
        },
        [
            (
                "This is the chance that the best guess is right. An output is no best guess but a "
                "draw.",
                lambda p: p.max(1).values.mean(),
            ),
            (
                "The posterior is averaged before two draws are made from it: both draws belong to "
                "the same noisy sample.",
                lambda p: p.mean(0).square().sum(),
            ),
            (
                "The two draws may agree in any of the classes: their chances add up, and are not "
                "averaged.",
                lambda p: p.square().mean(),
            ),
            ("The sum runs over the samples as well; their mean is asked for.", _sum_of_squares),
            (
                "One of the two draws is missing: a row of p adds up to 1 by itself.",
                lambda p: p.sum(1).mean(),
            ),
            (
                "A chance is no length: no root.",
                lambda p: p.norm(dim=1).mean(),
            ),
        ],
        otherwise="Work out one row by hand, such as (3/4, 1/4): when do two draws agree?",
    )


def _sum_of_squares(p: Tensor) -> Tensor:
    return p.square().sum()


# ----------------------------------------------------------- 3: how much the noise lets through


def check_information(answer: Answer) -> Checked:
    """I = sum log(1 + lambda_k / sigma^2) / 2 nats; ``answer(eigenvalues, sigma)``."""
    spectrum = torch.tensor([9.0, 4.0, 1.0, 0.25], dtype=torch.float64)
    return grade(
        answer,
        lambda v, s: 0.5 * torch.log1p(v / s**2).sum(),
        {
            "one coordinate": (spectrum[:1], 2.0),
            "several coordinates": (spectrum, 0.7),
            "much noise": (spectrum, 20.0),
        },
        [
            (
                "Sigma is a standard deviation and lambda is a variance: compare like with like.",
                lambda v, s: 0.5 * torch.log1p(v / s).sum(),
            ),
            (
                "Coordinates are independent, so their information adds up: the logarithm comes "
                "before the sum.",
                lambda v, s: 0.5 * torch.log1p(v.sum() / s**2),
            ),
            (
                "At large noise this is negative: the noisy sample contains the noise, too.",
                lambda v, s: 0.5 * (v / s**2).log().sum(),
            ),
            (
                "Signal and noise are exchanged: more noise should let less through.",
                lambda v, s: 0.5 * torch.log1p(s**2 / v).sum(),
            ),
            (
                "These are bits. Nats are asked for.",
                lambda v, s: 0.5 * torch.log2(1 + v / s**2).sum(),
            ),
            (
                "A factor: a volume is a product of standard deviations, not of variances.",
                lambda v, s: torch.log1p(v / s**2).sum(),
            ),
            (
                "The sum is missing its number of terms: this is the mean of one coordinate.",
                lambda v, s: 0.5 * torch.log1p(v / s**2).mean(),
            ),
        ],
    )


# ------------------------------------------------------------------------------ 4: two scales


def check_two_scales(floor: Any, sigma_s: Any, sigma_c: Any) -> Checked:
    """sum w^2; the root of the variance between the classes; I(sigma_c) = log n of one class.

    Two classes of 500 samples each, N(+-m, 1) in 10 dimensions, |m| = 6.
    """

    def collapse(count: int, power: float = 2 / 10) -> float:
        return float((count**power - 1) ** -0.5)

    right = (0.5, 6.0, collapse(500))

    def but(place: int, value: float) -> tuple[float, ...]:
        return (*right[:place], value, *right[place + 1 :])

    return grade_numbers(
        None if None in (floor, sigma_s, sigma_c) else (floor, sigma_s, sigma_c),
        right,
        [
            (
                "Number 1: at very large noise the output is a random sample. What is its class?",
                but(0, 0.0),
            ),
            (
                "Number 1: this is where T_s is read, half way between 1 and the floor.",
                but(0, 0.75),
            ),
            (
                "Number 1: each class is one way to agree, and there are two of them.",
                but(0, 0.25),
            ),
            ("Number 2: this is the distance of the means from each other.", but(1, 12.0)),
            ("Number 2: this is a variance; a noise level is asked for.", but(1, 36.0)),
            (
                "Number 2: this is the whole variance along m. That of one cloud does not separate "
                "classes.",
                but(1, 37**0.5),
            ),
            (
                "Number 3: while the class is known, only its own samples compete.",
                but(2, collapse(1000)),
            ),
            ("Number 3: this is a variance; a noise level is asked for.", but(2, right[2] ** 2)),
            ("Number 3: the factor 1/2 of the information is missing.", but(2, collapse(500, 0.1))),
            (
                "Number 3: this solves I = 10 ln(1 + 1/sigma^2) / 2 = 10: the level is that at "
                "which the information reaches the logarithm of a number of samples.",
                but(2, float((torch.e**2 - 1) ** -0.5)),
            ),
            (
                "Numbers 2 and 3 are exchanged: which of the two is lost first?",
                (right[0], right[2], right[1]),
            ),
        ],
    )


# --------------------------------------------------------------- 5: the score that memorises


def _memory(
    x: Tensor, s: float, images: Tensor, power: int = 2, factor: float = -0.5, axis: int = 1
) -> Tensor:
    """The closed form, with the ingredients of typical slips."""
    return (factor * torch.cdist(x, images) ** power / s**2).softmax(axis) @ images


def check_memorising_denoiser(answer: Answer) -> Checked:
    """D = sum_i softmax_i(-|x - y_i|^2 / (2 sigma^2)) y_i; ``answer(x, sigma, images)``.

    ``x`` (B, d), ``images`` (n, d).
    """
    images = normal(7, 3)
    x = images[:4] + 0.8 * normal(4, 3, seed=2)

    def nearest(x: Tensor, s: float, images: Tensor) -> Tensor:
        return images[torch.cdist(x, images).argmin(1)]

    return grade(
        answer,
        _memory,
        {
            "medium noise": (x, 0.8, images),
            "much noise": (x, 3.0, images),
            "hardly any noise": (x, 0.01, images),
        },
        [
            (
                "Distances enter squared.",
                lambda x, s, y: _memory(x, s, y, power=1),
            ),
            (
                "The factor 2 below sigma^2 is missing: the density of the noise has it.",
                lambda x, s, y: _memory(x, s, y, factor=-1.0),
            ),
            (
                "Sigma enters squared.",
                lambda x, s, y: _memory(x, s**0.5, y),
            ),
            (
                "The farthest images have the largest weights: a sign is wrong.",
                lambda x, s, y: _memory(x, s, y, factor=0.5),
            ),
            (
                "The weights of each *image* add up to 1. Those of each noisy sample should.",
                lambda x, s, y: _memory(x, s, y, axis=0),
            ),
            (
                "This is the nearest image. With noise, others may have been the clean one, too.",
                nearest,
            ),
            (
                "This is the mean of all stored images, whatever x is.",
                lambda x, s, y: y.mean(0).expand(len(x), -1),
            ),
        ],
        tolerance=1e-4,
    )


# ------------------------------------------------------------------------------ 6: a bootstrap


def _same_picks(seed: int = 0) -> Callable[[int, tuple[int, ...]], Tensor]:
    """pick(high, shape) -> integers below high, the same sequence for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda high, shape: torch.randint(high, shape, generator=generator)


def _resampled(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
    return kept[pick(len(kept), (resamples, len(kept)))].mean((1, 2))


def check_bootstrap_means(answer: Answer) -> Checked:
    """Means of N ground truths drawn with replacement, each with its R outputs.

    ``answer(kept, resamples, pick)``, ``kept`` (N, R); ``pick(high, shape)`` is called once, for
    the shape (resamples, N).
    """
    table = (normal(6, 5) + 1.5 * normal(6, 1, seed=2) > 0).double()

    def outputs(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        rows = pick(kept.numel(), (resamples, kept.numel()))
        return kept.flatten()[rows].mean(1)

    def repeats(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        columns = pick(kept.shape[1], (resamples, kept.shape[1]))
        return kept[:, columns].mean((0, 2))

    def one_resample(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        return kept[pick(len(kept), (len(kept),))].mean().expand(resamples)

    def both(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        rows = pick(len(kept), (resamples, len(kept)))
        columns = pick(kept.shape[1], (resamples, len(kept), kept.shape[1]))
        return kept[rows[:, :, None], columns].mean((1, 2))

    def single(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        return kept[pick(len(kept), (resamples, len(kept))), 0].mean(1)

    def flattened(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        return kept.flatten()[pick(len(kept), (resamples, len(kept)))].mean(1)

    def too_many(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        return kept[pick(len(kept), (resamples, kept.numel()))].mean((1, 2))

    def all_of_them(kept: Tensor, resamples: int, pick: Callable[..., Tensor]) -> Tensor:
        return kept.mean().expand(resamples)

    return grade(
        answer,
        _resampled,
        {
            "one output of each ground truth": (table[:, :1], 4, Fresh(_same_picks)),
            "several outputs of each": (table, 7, Fresh(_same_picks)),
        },
        [
            (
                "Ground truths are drawn now, but looked up in the flattened table: what does its "
                "entry number 5 belong to?",
                flattened,
            ),
            (
                "As many ground truths are drawn as there are outputs. A resample has the size of "
                "what was drawn at first.",
                too_many,
            ),
            (
                "Every resample has the mean of the table: each ground truth is in it once. It is "
                "drawn *with* replacement.",
                all_of_them,
            ),
            (
                "The ground truths stay the same, and their repeats are drawn. Then the interval "
                "is one for these images only.",
                repeats,
            ),
            ("All resamples are the same one: each needs a draw of its own.", one_resample),
            (
                "The repeats are drawn a second time within each ground truth. That adds variance "
                "which the ground truths have brought with them already.",
                both,
            ),
            ("Only one of the repeats is used.", single),
        ],
        untouched=outputs,
        otherwise="Say it in words: what is drawn, how many of them, and which entries of the "
        "table come with each draw?",
    )
