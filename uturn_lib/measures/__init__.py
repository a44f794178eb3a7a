"""What is read off samples. Everything here takes plain tensors and knows nothing of networks."""

from . import correlation, estimate, exchangeability, gaussianity, quality, retention

__all__ = ["correlation", "estimate", "exchangeability", "gaussianity", "quality", "retention"]
