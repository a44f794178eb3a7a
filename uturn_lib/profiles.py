"""What to run at which scale. A notebook takes a profile's name; everything else follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from . import checks

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Profile:
    """Data, network and scale.

    ``sigmas``: turn levels of the sweeps; ``quality_sigmas``: those at which sets without ground truths are generated as well, a subset;
    ``ground_truths``: how many held-out images are turned; ``steps``: reverse steps from ``sigma_max`` (shorter legs take
    proportionally fewer); ``ode_steps``, ``ode_ground_truths``: the same for the deterministic sampler, which asks twice per step;
    ``ks_samples``: images per Gaussianity test, 256 as the authors', in ``ks_sets`` independent sets of ``ks_steps`` steps;
    ``repeats`` of each of ``repeated`` ground truths at ``repeat_sigmas``: statistics of single ground truths;
    ``affinity_fit``, ``affinity_held_out``: images for the affine regressions;
    ``chunk``: samples per cached piece of work; ``shown``: rows of an image grid.
    """

    name: str
    dataset: str
    checkpoint: str
    classifier: str
    sigmas: tuple[float, ...]
    quality_sigmas: tuple[float, ...]
    repeat_sigmas: tuple[float, ...]
    ground_truths: int
    steps: int
    ode_steps: int = 24
    ode_ground_truths: int = 100
    repeated: int = 20
    repeats: int = 16
    affinity_fit: int = 2000
    affinity_held_out: int = 500
    ks_samples: int = 256
    ks_sets: int = 4
    ks_steps: int = 32
    sigma_max: float = 80.0
    chunk: int = 80
    batch_size: int = 80
    shown: int = 10
    description: str = ""


PROFILES = {
    "laptop": Profile(
        name="laptop",
        dataset="mnist",
        checkpoint="mnist",
        classifier="mnist-classifier",
        sigmas=(0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 14.0, 30.0, 80.0),
        quality_sigmas=(1.0, 2.0, 4.0, 8.0, 14.0, 30.0, 80.0),
        repeat_sigmas=(0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 14.0),
        ground_truths=240,
        steps=48,
        description="5,000 MNIST digits, a network of 2 million parameters: minutes on a laptop's CPU",
    ),
}


def load_profile(name: str) -> Profile:
    """The profile called ``name``; ``ValueError`` lists the known ones."""
    checks.one_of("profile", name, PROFILES)
    return PROFILES[name]


def figure_folder(profile: str) -> Path:
    """Where the figures and claims of a profile go: figures/<profile>, or below ``$UTURN_FIGURES`` (relative to the project)."""
    return ROOT / (os.environ.get("UTURN_FIGURES") or "figures") / profile


def cache_folder() -> Path:
    """Where computed pieces are kept: .cache/uturn in the project, or ``$UTURN_CACHE`` (relative to the project)."""
    return ROOT / (os.environ.get("UTURN_CACHE") or ".cache/uturn")
