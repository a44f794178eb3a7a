"""Per-sample randomness: a sample depends on (seed, its global index) and on nothing else.

Noise is drawn by CPU generators and then moved to the device: the streams of GPU generators depend
on the card.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .support import checks

PURPOSES = {"forward": 1, "reverse": 2, "start": 3, "posterior": 4, "probe": 5}


def sample_seeds(seed: int, indices: Sequence[int] | Tensor, purpose: str = "reverse") -> list[int]:
    """One 64-bit seed per sample, hashed from (seed, global index, purpose).

    Different purposes ("forward", "reverse", "start", "posterior", "probe") give independent
    streams.
    """
    seed = checks.positive_int("seed", seed, minimum=0)
    checks.one_of("purpose", purpose, PURPOSES)
    code = PURPOSES[purpose]
    return [
        int(np.random.SeedSequence([seed, int(index), code]).generate_state(1, np.uint64)[0])
        for index in indices
    ]


class NoiseStream:
    """Standard normal noise for a batch, each sample from its own generator.

    ``stream.normal()`` returns the next draw (B, *sample_shape); ``stream.uniform()`` one number in
    [0, 1) per sample.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sample_shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ):
        self.generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds]
        self.sample_shape = tuple(sample_shape)
        self.device, self.dtype = torch.device(device), dtype

    def normal(self) -> Tensor:
        """(B, *sample_shape) independent N(0, 1), drawn in float32."""
        draws = np.empty((len(self.generators), *self.sample_shape), dtype=np.float32)
        for generator, row in zip(self.generators, draws, strict=True):
            generator.standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(draws).to(device=self.device, dtype=self.dtype)

    def uniform(self) -> Tensor:
        """(B,) uniform in [0, 1)."""
        draws = np.array([generator.random() for generator in self.generators])
        return torch.from_numpy(draws).to(device=self.device, dtype=self.dtype)


def starting_noise(
    sample_shape: Sequence[int], indices: Sequence[int], sigma: float, seed: int = 0
) -> Tensor:
    """Draws (B, *sample_shape) of N(0, sigma^2), float64, one for each of ``indices``: the same for
    every method and denoiser."""
    return sigma * NoiseStream(sample_seeds(seed, indices, "start"), sample_shape).normal()
