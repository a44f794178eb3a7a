"""A fully connected network with the interface of a U-Net: small enough to train many of them."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..support import checks


class FullyConnected(nn.Module):
    """Residual layers of one ``width`` on all pixels at once, told the noise level.

    Takes the place of the U-Net in ``unet.EDMDenoiser``; it has no classes and ignores labels.

    Parameters
    ----------
    sample_shape: (C, H, W) of the images.
    width, layers: units of a hidden layer, and number of residual layers.

    Raises ``ValueError`` for a width or number of layers below 1.
    """

    FREQUENCIES = 16  # of the embedding of the noise level, from 1 to e^3 in c_noise

    frequencies: Tensor

    def __init__(self, sample_shape: tuple[int, ...], width: int = 512, layers: int = 3):
        super().__init__()
        width, layers = checks.positive_int("width", width), checks.positive_int("layers", layers)
        pixels = torch.Size(sample_shape).numel()
        self.register_buffer("frequencies", torch.linspace(0, 3, self.FREQUENCIES).exp())
        self.pixels_in, self.pixels_out = nn.Linear(pixels, width), nn.Linear(width, pixels)
        self.level_in = nn.Linear(2 * self.FREQUENCIES, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        nn.init.zeros_(self.pixels_out.weight)  # it starts as the best multiple of x
        nn.init.zeros_(self.pixels_out.bias)

    def forward(
        self, x: Tensor, level: Tensor, class_labels: Tensor | None = None
    ) -> SimpleNamespace:
        """``sample`` (B, C, H, W) from ``x`` of that shape and ``level`` (B,), 100 c_noise."""
        angles = (level / 100)[:, None] * self.frequencies
        hidden = self.pixels_in(x.flatten(1)) + self.level_in(
            torch.cat([angles.sin(), angles.cos()], dim=1)
        )
        for layer in self.hidden:
            hidden = hidden + layer(F.silu(hidden))
        return SimpleNamespace(sample=self.pixels_out(F.silu(hidden)).reshape(x.shape))
