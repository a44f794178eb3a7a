"""What is read off samples. Everything here takes plain tensors and knows nothing of networks."""

from . import (
    affinity,
    correlation,
    diffusion_time,
    estimate,
    exchangeability,
    gaussianity,
    norms,
    phases,
    quality,
    retention,
    theory,
    trajectory,
)

__all__ = [
    "affinity",
    "correlation",
    "diffusion_time",
    "estimate",
    "exchangeability",
    "gaussianity",
    "norms",
    "phases",
    "quality",
    "retention",
    "theory",
    "trajectory",
]
