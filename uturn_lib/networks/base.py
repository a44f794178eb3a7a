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
    """A trained U-Net as a denoiser; kinds differ in :meth:`denoise`.

    ``sample_shape`` (C, H, W), images in [-1, 1]; ``num_classes``, 0 for none; ``sigma_range``:
    noise levels of training. Sigma = 0 is always allowed and returns ``x``.
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
        """E[x_0 | x] for ``x`` (B, C, H, W), ``sigma`` a float or (B,), ``labels`` (B,) or None
        (null class).

        Shape, dtype and device are those of ``x``; ``sigma`` = 0 returns ``x``. Raises
        ``ValueError`` for wrong shapes, labels, or a sigma outside the network's range.
        """
        checks.samples("x", x, self.sample_shape)
        labels = checks.labels(labels, len(x), self.num_classes, self.needs_labels)
        labels = None if labels is None else labels.to(x.device)
        return self.denoise(x, self._noise_levels(x, sigma), labels)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """D(x, sigma) without checks: ``sigma`` (B, 1, 1, 1) in the dtype of ``x``."""
        raise NotImplementedError

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The nearest noise level of training: ``sigma`` itself unless levels are discrete."""
        return torch.as_tensor(sigma)

    def at_precision(self, device: torch.device) -> AbstractContextManager:
        """Autocast to :attr:`precision`; without one, an outer autocast stays in effect."""
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
    """For a GPU, in place: the U-Net compiled, its matrix products in ``precision``.

    Weights, preconditioning and sampler state keep their precision; only F in ``D = c_skip x +
    c_out F`` is rounded, to about 0.4 %. The fingerprint changes with it. Raises ``ValueError`` for
    a precision other than bfloat16 or float16.
    """
    checks.one_of("precision", precision, (torch.bfloat16, torch.float16))
    denoiser.precision = precision
    if denoiser.fingerprint is not None:
        denoiser.fingerprint = accelerated_fingerprint(denoiser.fingerprint, precision)
    if compiled:
        denoiser.unet.compile()
    return denoiser


def accelerated_fingerprint(fingerprint: str, precision: torch.dtype = torch.bfloat16) -> str:
    """The fingerprint after :func:`accelerate`."""
    return f"{fingerprint} in {str(precision).removeprefix('torch.')}"


def freeze(module: Module, device: torch.device) -> Module:
    """``module`` on ``device`` in evaluation mode, without gradients, channels-last."""
    return channels_last(module.eval().requires_grad_(False), device)


def channels_last(module: Module, device: torch.device) -> Module:
    """``module`` on ``device`` in channels-last layout (faster convolutions), in place."""
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module
