"""Curves read off publications: small CSV files in notebooks/published, each with its source in its first lines."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np

from . import checks
from .profiles import ROOT

FOLDER = ROOT / "notebooks" / "published"


def load_curves(name: str) -> dict[str, np.ndarray]:
    """Columns of notebooks/published/<name>.csv as float arrays; lines that start with # tell the source."""
    checks.one_of("published curve", name, sorted(path.stem for path in FOLDER.glob("*.csv")))
    with open(FOLDER / f"{name}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {column: np.array([float(row[column]) for row in rows]) for column in rows[0]}


@dataclass(frozen=True)
class Speciation:
    """A published speciation scale in our units of sigma: two classes, read where the class is kept with probability 0.775."""

    name: str
    predicted: float
    measured: float
    source: str = "Biroli, Bonnaire, de Bortoli, Mezard (2024), from their saved results"


SPECIATION = {
    "mnist": Speciation("MNIST", 5.2, 5.0),
    "cifar10": Speciation("CIFAR-10 horse/car", 8.0, 6.1),
}
