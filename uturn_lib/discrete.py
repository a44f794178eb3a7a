"""A discrete variance-preserving model (DDPM) as a continuous denoiser in sigma.

A DDPM network was trained on ``z = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` at whole steps t = 0, 1, ... Divided by sqrt(abar_t) this is our
``x = x_0 + sigma eps`` with ``sigma_t = sqrt((1 - abar_t) / abar_t)``: the same state on another scale, ``z = x / sqrt(1 + sigma^2)``. Between the steps the network is
asked at a real-valued step (its time embedding is a smooth function), interpolated in log(1 + sigma^2), which is linear in the logarithm of abar.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .networks import NetworkDenoiser
from .support import checks

PREDICTIONS = ("epsilon", "v_prediction", "sample")
# Schedulers of diffusers that share the DDPM forward process; which of them comes with the weights does not matter here.
SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
              "UniPCMultistepScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler")  # fmt: skip
MOST_STEPS = 100_000
SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


def alphas_cumprod(scheduler: dict[str, Any]) -> Tensor:
    """abar_t (T,), float64, of a diffusers scheduler configuration. Raises ``ValueError`` for a scheduler with another forward process."""
    name = scheduler.get("_class_name")
    checks.one_of("scheduler", name, SCHEDULERS)
    from diffusers import DDPMScheduler

    known = {key: scheduler[key] for key in SCHEDULE if key in scheduler}
    checks.positive_int("num_train_timesteps", known.get("num_train_timesteps", 1000), minimum=2)
    if known.get("num_train_timesteps", 1000) > MOST_STEPS:
        raise ValueError(f"num_train_timesteps = {known['num_train_timesteps']} is more than {MOST_STEPS}")
    try:
        return (1 - DDPMScheduler(**known).betas.double()).cumprod(0)  # diffusers' own product is in float32
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the scheduler's configuration makes no schedule ({type(error).__name__}: {error})"
        ) from error


class DiscreteDenoiser(NetworkDenoiser):
    """A diffusers ``UNet2DModel`` that predicts the noise ("epsilon"), v ("v_prediction") or the image ("sample").

    With z = x / sqrt(1 + sigma^2): ``D = x - sigma eps``, ``D = (z - sigma v) / sqrt(1 + sigma^2)`` (Salimans and Ho 2022), or D itself.
    ``alphas``: abar_t (T,), decreasing. ``interpolate``: ask at a real-valued step (default), or at the nearest whole one (:meth:`round_sigma`).
    ``sigma_range`` runs from the first to the last step. Raises ``ValueError`` for an unknown prediction or a schedule that does not decrease.
    """

    def __init__(self, unet: nn.Module, alphas: Tensor, prediction: str = "epsilon", interpolate: bool = True):
        checks.one_of("prediction", prediction, PREDICTIONS)
        alphas = torch.as_tensor(alphas, dtype=torch.float64)
        if alphas.ndim == 1 and len(alphas) and alphas[-1] == 0:  # zero signal: a last step at sigma = infinity
            alphas = alphas[:-1]
        if (
            alphas.ndim != 1
            or len(alphas) < 2
            or not bool((alphas.diff() < 0).all())
            or not bool(1 > alphas[0])
            or not bool(alphas[-1] > 0)
        ):
            raise ValueError("alphas must be a decreasing list of numbers between 0 and 1")
        sigmas = ((1 - alphas) / alphas).sqrt()
        config, size = unet.config, unet.config.sample_size
        if size is None or config.out_channels not in (config.in_channels, 2 * config.in_channels):
            raise ValueError(
                f"the U-Net turns {config.in_channels} channels of size {size} into {config.out_channels}; as many, or twice as many, and a size are needed"
            )
        height, width = (size, size) if isinstance(size, int) else size
        classes = config.num_class_embeds or 0
        super().__init__(unet, (config.in_channels, height, width), classes, (float(sigmas[0]), float(sigmas[-1])))
        self.prediction, self.interpolate, self.needs_labels = prediction, interpolate, classes > 0
        self.register_buffer("sigmas", sigmas, persistent=False)

    def step_of(self, sigma: Tensor) -> Tensor:
        """The real-valued step at ``sigma`` (any shape), float64, between 0 and T - 1."""
        clock, wanted = torch.log1p(self.sigmas**2), torch.log1p(sigma.double() ** 2)
        right = torch.searchsorted(clock, wanted).clamp(1, len(clock) - 1)
        low, high = clock[right - 1], clock[right]
        step = right - 1 + ((wanted - low) / (high - low)).clamp(0, 1)
        return step if self.interpolate else step.round()

    def round_sigma(self, sigma: float | Tensor) -> Tensor:
        """The noise level of the nearest whole step (nearest in log(1 + sigma^2))."""
        clock, wanted = torch.log1p(self.sigmas**2), torch.log1p(torch.as_tensor(sigma).double() ** 2)
        return self.sigmas[(clock - wanted[..., None]).abs().argmin(-1)]

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself; ``sigma`` (B, 1, 1, 1) in the dtype of ``x``."""
        root = (1 + sigma**2).sqrt()
        scaled, dtype = x / root, next(self.unet.parameters()).dtype
        picture = scaled.to(dtype).contiguous(memory_format=torch.channels_last)
        with self.at_precision(x.device):
            output = self.unet(picture, self.step_of(sigma).flatten().to(dtype), class_labels=labels).sample
        output = output[:, : x.shape[1]].to(x.dtype)  # some networks predict a variance as well
        if self.prediction == "epsilon":
            return x - sigma * output
        if self.prediction == "v_prediction":
            return (scaled - sigma * output) / root
        return torch.where(sigma == 0, x, output)
