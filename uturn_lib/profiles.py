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

    ``sigmas``: turn levels of the sweeps; ``ground_truths``: how many held-out images are turned; ``steps``: reverse steps from
    ``sigma_max`` (shorter legs take proportionally fewer); ``ks_samples``: images per Gaussianity test, 256 as the authors', in ``ks_sets`` independent sets of ``ks_steps`` steps;
    ``chunk``: ground truths per cached piece of work; ``shown``: rows of an image grid.
    """

    name: str
    dataset: str
    checkpoint: str
    classifier: str
    sigmas: tuple[float, ...]
    ground_truths: int
    steps: int
    ks_samples: int = 256
    ks_sets: int = 4
    ks_steps: int = 32
    sigma_max: float = 80.0
    chunk: int = 75
    batch_size: int = 75
    shown: int = 10
    description: str = ""


PROFILES = {
    "laptop": Profile(
        name="laptop",
        dataset="mnist",
        checkpoint="mnist",
        classifier="mnist-classifier",
        sigmas=(0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 14.0, 30.0, 80.0),
        ground_truths=150,
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
