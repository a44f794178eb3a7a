"""Curves and numbers of publications.

Curves are small CSV files in notebooks/published (in a wheel: shipped/published), each with its
source in its first lines.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np

from ..support import checks
from ..support.places import PUBLISHED


def load_curves(name: str) -> dict[str, np.ndarray]:
    """Columns of the file <name>.csv as float arrays; lines that start with # tell the source."""
    checks.one_of("published curve", name, sorted(path.stem for path in PUBLISHED.glob("*.csv")))
    with open(PUBLISHED / f"{name}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {column: np.array([float(row[column]) for row in rows]) for column in rows[0]}


@dataclass(frozen=True)
class Speciation:
    """A published speciation scale in our units of sigma.

    Two classes; read where the class is kept with probability 0.775.
    """

    name: str
    predicted: float
    measured: float
    source: str = "Biroli, Bonnaire, de Bortoli, Mezard (2024), from their saved results"


# By data set; for the others none is published.
SPECIATION = {
    "mnist": Speciation("MNIST", 5.2, 5.0),
    "cifar10": Speciation("CIFAR-10 horse/car", 8.0, 6.1),
}


@dataclass(frozen=True)
class Trajectories:
    """Published shape of CIFAR-10 trajectories: EDM network, Euler, 20 calls, 50,000 of them.

    Means with standard deviations over trajectories; images in [-1, 1].
    """

    # at sigma, value, standard deviation
    deviation_x: tuple[float, float, float] = (12.0, 14.0, 3.7)
    deviation_r: tuple[float, float, float] = (5.8, 5.5, 1.5)
    length_x: float = 4434.0
    length_r: float = 21.0
    norm_r: tuple[float, float] = (5.5, 24.0)  # at sigma = 80 and at the end
    least_cosine: float = 0.996
    fid: float = 6.07
    source: str = "Chen et al. (2023), arXiv 2305.19947, from the authors' notebook"


TRAJECTORIES = Trajectories()
TIME_SAVED = 0.27  # Prasad et al. (2023), arXiv 2312.14965, abstract: GLIDE
# Franzese et al. (2023), arXiv 2206.05173: CIFAR-10 with an auxiliary flow, for decreasing T
AUXILIARY_FIDS = (3.72, 5.44, 14.38)
