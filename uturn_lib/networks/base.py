"""What all trained denoisers share: checks, noise levels, precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..denoisers import per_sample
from ..support import checks

SIGMA_RANGE = (0.0, 80.0)
Module = TypeVar("Module", bound=nn.Module)


class NetworkDenoiser(nn.Module):
    """A trained U-Net behind the denoiser interface: what all kinds of them share. They differ in
    :meth:`denoise`.

    ``sample_shape`` (C, H, W) of images in [-1, 1]; ``num_classes``, 0 for none; ``sigma_range``:
    the noise levels the network was made for. Sigma = 0 is always allowed and returns ``x``.
    """

    value_range = (-1.0, 1.0)
    unet: Any  # a module with attributes of its own: config, compile
    needs_labels = False  # whether it has classes and no null class

    def __init__(
        self,
        unet: nn.Module,
        sample_shape: tuple[int, ...],
        num_classes: int,
        sigma_range: tuple[float, float],
    ):
        super().__init__()
        self.unet = unet
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes
        low, high = sigma_range
        self.sigma_range = (low, high)
        self.fingerprint: str | None = None  # known once it is saved and loaded
        # Of the U-Net's products, where it differs from its weights (accelerate).
        self.precision: torch.dtype | None = None

    def forward(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        """Denoise ``x`` (B, C, H, W) at noise level ``sigma`` (float or (B,)); ``labels`` (B,) or
        None for the null class.

        Returns E[x_0 | x] with the shape, dtype and device of ``x``; ``sigma`` = 0 returns ``x``.
        Raises ``ValueError`` for wrong shapes, labels, or a sigma outside the network's range.
        """
        checks.samples("x", x, self.sample_shape)
        labels = checks.labels(labels, len(x), self.num_classes, self.needs_labels)
        labels = None if labels is None else labels.to(x.device)
        return self.denoise(x, self._noise_levels(x, sigma), labels)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself, without checks: ``sigma`` (B, 1, 1, 1) in the dtype of ``x``."""
        raise NotImplementedError

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level at which the network was trained: ``sigma`` itself, unless it
        knows only discrete ones."""
        return torch.as_tensor(sigma)

    def at_precision(self, device: torch.device) -> AbstractContextManager:
        """The U-Net's own precision; without one it leaves an autocast around it (training on a
        GPU) as it is."""
        return (
            nullcontext() if self.precision is None else torch.autocast(device.type, self.precision)
        )

    def _noise_levels(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        sigma = per_sample(sigma, x)
        low, high = self.sigma_range
        inside = (
            sigma.isfinite()
            & (sigma <= high * (1 + 1e-6))
            & ((sigma >= low * (1 - 1e-6)) | (sigma == 0))
        )
        if len(x) and not bool(inside.all()):
            raise ValueError(
                f"sigma in [{float(sigma.min()):g}, {float(sigma.max()):g}] leaves the range of "
                "this "
                f"network, [{low:g}, {high:g}]"
            )
        return sigma.expand(len(x), 1, 1, 1)


def accelerate(
    denoiser: NetworkDenoiser, precision: torch.dtype = torch.bfloat16, compiled: bool = True
) -> NetworkDenoiser:
    """The same denoiser for a GPU, in place: matrix products of the U-Net in ``precision``, the
    U-Net compiled.

    Weights, preconditioning and the sampler's state keep their precision; only F in ``D = c_skip x
    + c_out F`` is rounded, to about 0.4 %. The fingerprint says so: its results are not those of
    the denoiser in float32. Raises ``ValueError`` for another precision than bfloat16 or float16.
    """
    checks.one_of("precision", precision, (torch.bfloat16, torch.float16))
    denoiser.precision = precision
    if denoiser.fingerprint is not None:
        denoiser.fingerprint = accelerated_fingerprint(denoiser.fingerprint, precision)
    if compiled:
        denoiser.unet.compile()
    return denoiser


def accelerated_fingerprint(fingerprint: str, precision: torch.dtype = torch.bfloat16) -> str:
    """The fingerprint that :func:`accelerate` gives to the denoiser of ``fingerprint``."""
    return f"{fingerprint} in {str(precision).removeprefix('torch.')}"


def freeze(module: Module, device: torch.device) -> Module:
    """Evaluation mode, no gradients, channels-last (faster convolutions on CPU and GPU), on
    ``device``."""
    return channels_last(module.eval().requires_grad_(False), device)


def channels_last(module: Module, device: torch.device) -> Module:
    """``module`` on ``device`` in the layout in which convolutions are faster, in place."""
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module
