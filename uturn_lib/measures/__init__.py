"""What is read off samples. Everything here takes plain tensors and knows nothing of networks."""

from . import (
    affinity,
    correlation,
    departures,
    estimate,
    exchangeability,
    gaussianity,
    individuals,
    locality,
    norms,
    novelty,
    quality,
    regression,
    retention,
    theory,
    traits,
)

__all__ = [
    "affinity",
    "correlation",
    "departures",
    "estimate",
    "exchangeability",
    "gaussianity",
    "individuals",
    "locality",
    "norms",
    "novelty",
    "quality",
    "regression",
    "retention",
    "theory",
    "traits",
]
