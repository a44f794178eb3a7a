"""Curves read off publications: small CSV files in notebooks/published, each with its source in its first lines."""

from __future__ import annotations

import csv

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
