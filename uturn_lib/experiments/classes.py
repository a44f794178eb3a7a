"""Class retention of the ideal U-Turn from below, by a classifier of noisy images.

No denoiser and no sampling: by detailed balance the retention is E sum_k p(k | x_u)^2, and any
classifier q gives a lower bound of it (``measures.class_bound.retention_bound``, with the proof).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from torch import Tensor

from ..data.sets import ImageSet
from ..measures.class_bound import bound_crossing, noises_per_image, readings
from ..measures.estimate import Estimate
from ..measures.retention import chance_level, retention_curve
from ..networks.loader import shipped_fingerprint
from ..networks.noise_classifier import (
    held_out_halves,
    load_noise_classifier,
    noisy_probabilities,
)
from .engine import Arrays, Plan, experiment, planned
from .study import Judge, Study


@experiment("bound", "agreement", "gap", "right", "calibration_error")
def noisy_classes(
    judge: Judge, images: Tensor, labels: Tensor, sigma: float, draws: int, seed: int
) -> Arrays:
    """``measures.class_bound.readings`` of ``images`` (N, *sample) at one noise level."""
    return readings(noisy_probabilities(judge.network, images, sigma, draws, seed), labels)


@dataclass(frozen=True)
class ClassBound:
    """What a classifier of noisy images says of the ideal U-Turn's class retention c*.

    At S levels for N held-out images: ``bound`` (S, N), whose mean over images is at most c* for
    every classifier; ``agreement`` (S, N), the second reading, at most c* for a calibrated one;
    ``gap`` (S, N), half their difference, zero on average for a calibrated one; ``right`` (S, N),
    share of right decisions; ``calibration_error`` (S,). ``classes``: their number.
    """

    sigmas: tuple[float, ...]
    classes: int
    bound: np.ndarray = field(repr=False)
    agreement: np.ndarray = field(repr=False)
    gap: np.ndarray = field(repr=False)
    right: np.ndarray = field(repr=False)
    calibration_error: np.ndarray = field(repr=False)

    @cached_property
    def curve(self) -> list[Estimate]:
        """The bound at each level, with its interval over images."""
        return retention_curve(self.bound)

    @cached_property
    def second_reading(self) -> list[Estimate]:
        """E sum_k q_k^2 at each level."""
        return retention_curve(self.agreement)

    @cached_property
    def calibration_gap(self) -> list[Estimate]:
        """E sum_k q_k^2 - E q_y at each level; above zero the classifier is too sure of itself."""
        return retention_curve(self.gap)

    @cached_property
    def accuracy(self) -> list[Estimate]:
        """Share of right decisions at each level."""
        return retention_curve(self.right)

    @cached_property
    def t_s(self) -> Estimate:
        """A lower bound of T_s: where :attr:`curve` falls through the midpoint of 1 and chance."""
        return bound_crossing(self.sigmas, self.bound, chance_level(self.classes))

    @cached_property
    def fitted_t_s(self) -> Estimate:
        """The same read from a logistic, as T_s of U-Turns is: for comparison with these."""
        return bound_crossing(self.sigmas, self.bound, chance_level(self.classes), fitted=True)


@planned
def class_bound(
    judge: Judge,
    data: ImageSet,
    sigmas: Sequence[float],
    draws: int | None = None,
    seed: int = 0,
) -> Plan[ClassBound]:
    """The bound for every image of ``data`` at every level.

    ``judge.network(x, sigma)`` gives probabilities (B, K). ``data``: images that the classifier was
    neither trained nor calibrated on. ``draws`` noises per image, the same at every level.
    """
    sigmas = tuple(float(sigma) for sigma in sigmas)
    draws = noises_per_image(len(data)) if draws is None else draws
    given = {"judge": judge, "images": data.images, "labels": data.labels}
    chunks = noisy_classes.chunks(
        [{"sigma": sigma} for sigma in sigmas], draws=draws, seed=seed, **given
    )

    def gather(results: list[Arrays]) -> ClassBound:
        levels = {
            name: np.stack([part[name] for part in results]) for name in noisy_classes.results
        }
        error = levels.pop("calibration_error")[:, 0]
        return ClassBound(sigmas, len(data.class_names), calibration_error=error, **levels)

    return Plan(chunks, "class retention from a classifier", gather)


def noise_judge(study: Study) -> Judge:
    """The noise classifier of the profile; ``FileNotFoundError`` without one."""
    name = study.profile.noise_classifier
    if name is None:
        raise FileNotFoundError(f"profile {study.profile.name} has no noise_classifier")
    return Judge(partial(load_noise_classifier, name, study.device), shipped_fingerprint(name))


def profile_class_bound(
    study: Study, sigmas: Sequence[float] | None = None, seed: int = 0
) -> ClassBound:
    """:func:`class_bound` of a profile's data at its levels.

    On the half of the held-out images that the classifier was not calibrated on; the profile's
    ground truths come first in it.
    """
    evaluation, _ = held_out_halves(study.test)
    sigmas = study.profile.sigmas if sigmas is None else sigmas
    return class_bound(noise_judge(study), evaluation, sigmas, seed=seed)


def shipped_class_bound(study: Study, seed: int = 0) -> ClassBound | None:
    """:func:`profile_class_bound`, or None where the profile's noise classifier is not there."""
    try:
        noise_judge(study)
    except FileNotFoundError:
        return None
    return profile_class_bound(study, seed=seed)
