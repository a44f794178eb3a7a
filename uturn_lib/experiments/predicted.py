"""Scales of noise that are predicted from the training images alone, with their intervals."""

from __future__ import annotations

import numpy as np

from ..measures import theory
from ..measures.estimate import Estimate, interval
from .study import Study


def predicted_scales(study: Study, seed: int = 0) -> dict[str, Estimate]:
    """Scales "collapse", "spectrum", "classes" by the formulas of ``measures.theory``.

    Intervals: bootstrap over the training images, their number n in the collapse kept. Raises
    ``ValueError`` for data whose top eigenvalue is not above 1 (:func:`speciation_from_spectrum`).
    """
    gaussian, images, count = study.gaussian, study.train.images, len(study.train)
    spectra = theory.resampled_spectra(images, gaussian.mean, gaussian.eigenvectors, seed)
    speciation = np.sqrt((spectra.max(1) - 1).clip(min=0))
    collapse = np.array([theory.collapse_scale(row, count) for row in spectra])
    values = gaussian.eigenvalues
    return {
        "collapse": Estimate(theory.collapse_scale(values, count), *interval(collapse)),
        "spectrum": Estimate(theory.speciation_from_spectrum(values), *interval(speciation)),
        "classes": theory.class_scale(images, study.train.labels, seed),
    }
