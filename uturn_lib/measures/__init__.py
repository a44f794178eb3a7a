"""What is read off samples. Everything here takes plain tensors and knows nothing of networks."""

from . import (
    affinity,
    correlation,
    estimate,
    exchangeability,
    gaussianity,
    norms,
    quality,
    retention,
    theory,
)

__all__ = [
    "affinity",
    "correlation",
    "estimate",
    "exchangeability",
    "gaussianity",
    "norms",
    "quality",
    "retention",
    "theory",
]
