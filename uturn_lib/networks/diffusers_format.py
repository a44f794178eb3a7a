"""A discrete variance-preserving model (DDPM) as a continuous denoiser in sigma.

A DDPM network is trained on ``z = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` at t = 0, 1, ...
Divided by sqrt(abar_t) this is ``x = x_0 + sigma eps`` with ``sigma_t^2 = (1 - abar_t) / abar_t``,
so ``z = x / sqrt(1 + sigma^2)``. Between the levels of training the network is called at a real t
(its time embedding is smooth), interpolated in log(1 + sigma^2) = -log abar.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..support import checks
from ..support.files import read_json, sha256
from .base import NetworkDenoiser, freeze
from .checkpoints import WEIGHTS, check_outline, sound
from .unet import described_unet

PREDICTIONS = ("epsilon", "v_prediction", "sample")

# Schedulers of diffusers with the DDPM forward process.
SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)
MOST_STEPS = 100_000
SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def alphas_cumprod(scheduler: dict[str, Any]) -> Tensor:
    """abar_t (T,), float64, of a diffusers scheduler configuration.

    Raises ``ValueError`` for a scheduler with another forward process.
    """
    name = scheduler.get("_class_name")
    checks.one_of("scheduler", name, SCHEDULERS)
    import diffusers

    scheduler_class: Any = diffusers.DDPMScheduler

    known = {key: scheduler[key] for key in SCHEDULE if key in scheduler}
    checks.positive_int("num_train_timesteps", known.get("num_train_timesteps", 1000), minimum=2)
    if known.get("num_train_timesteps", 1000) > MOST_STEPS:
        raise ValueError(
            f"num_train_timesteps = {known['num_train_timesteps']} is more than {MOST_STEPS}"
        )
    try:
        # diffusers' own product is in float32
        return (1 - scheduler_class(**known).betas.double()).cumprod(0)
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the scheduler's configuration makes no schedule ({type(error).__name__}: {error})"
        ) from error


class DiscreteDenoiser(NetworkDenoiser):
    """A diffusers ``UNet2DModel`` that predicts the noise ("epsilon"), v ("v_prediction") or the
    image ("sample").

    With z = x / sqrt(1 + sigma^2): ``D = x - sigma eps``, ``D = (z - sigma v) / sqrt(1 + sigma^2)``
    (Salimans and Ho 2022), or D itself. ``alphas``: abar_t (T,), decreasing. ``interpolate``: ask
    at a real-valued step (default), or at the nearest whole one (:meth:`round_sigma`).
    ``sigma_range`` runs from the first to the last step. Raises ``ValueError`` for an unknown
    prediction or a schedule that does not decrease.
    """

    sigmas: Tensor

    def __init__(
        self, unet: Any, alphas: Tensor, prediction: str = "epsilon", interpolate: bool = True
    ):
        checks.one_of("prediction", prediction, PREDICTIONS)
        alphas = torch.as_tensor(alphas, dtype=torch.float64)
        # zero signal: a last step at sigma = infinity
        if alphas.ndim == 1 and len(alphas) and alphas[-1] == 0:
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
                f"the U-Net turns {config.in_channels} channels of size {size} into "
                f"{config.out_channels}; as many, or twice as many, and a size are needed"
            )
        height, width = (size, size) if isinstance(size, int) else size
        classes = config.num_class_embeds or 0
        super().__init__(
            unet,
            (config.in_channels, height, width),
            classes,
            (float(sigmas[0]), float(sigmas[-1])),
        )
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
        clock, wanted = (
            torch.log1p(self.sigmas**2),
            torch.log1p(torch.as_tensor(sigma).double() ** 2),
        )
        return self.sigmas[(clock - wanted[..., None]).abs().argmin(-1)]

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself; ``sigma`` (B, 1, 1, 1) in the dtype of ``x``."""
        root = (1 + sigma**2).sqrt()
        scaled, dtype = x / root, next(self.unet.parameters()).dtype
        picture = scaled.to(dtype).contiguous(memory_format=torch.channels_last)
        with self.at_precision(x.device):
            output = self.unet(
                picture, self.step_of(sigma).flatten().to(dtype), class_labels=labels
            ).sample
        output = output[:, : x.shape[1]].to(x.dtype)  # some networks predict a variance as well
        if self.prediction == "epsilon":
            return x - sigma * output
        if self.prediction == "v_prediction":
            return (scaled - sigma * output) / root
        return torch.where(sigma == 0, x, output)


def is_diffusers(folder: Path) -> bool:
    """Whether ``folder`` holds a foreign diffusers pipeline or U-Net."""
    if (folder / "model_index.json").is_file() or (folder / "unet" / "config.json").is_file():
        return True
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return (
        isinstance(config, dict)
        and config.get("_class_name") == "UNet2DModel"
        and "uturn" not in config
    )


def diffusers_parts(folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Folder of the U-Net, its configuration, and the scheduler's; with or without sub-folders."""
    unet = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler = scheduler if scheduler.is_file() else folder / "scheduler_config.json"
    for path in (unet / "config.json", scheduler):
        if not path.is_file():
            raise FileNotFoundError(f"checkpoint {folder} lacks {path.relative_to(folder)}")
        if not isinstance(read_json(path), dict):
            raise ValueError(f"{path} is not a configuration")
    return unet, read_json(unet / "config.json"), read_json(scheduler)


def _weights_file(folder: Path) -> Path:
    parts = sorted(path.name for path in folder.glob("*.index.json"))
    if parts:  # diffusers would prefer them to a single file beside them
        raise ValueError(
            f"checkpoint {folder} has its weights in several parts ({parts[0]}); one file is needed"
        )
    for name in (WEIGHTS, "diffusion_pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"checkpoint {folder} lacks {WEIGHTS}")


def diffusers_fingerprint(folder: Path) -> str:
    """SHA-256 of the weights and both configurations, without building the network."""
    unet, model, scheduler = diffusers_parts(folder)
    text = json.dumps([sha256(_weights_file(unet)), model, scheduler], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_diffusers(folder: Path, device: torch.device):
    """A ``UNet2DModel`` with a DDPM-type scheduler as a denoiser in sigma
    (:class:`DiscreteDenoiser`)."""
    from diffusers import UNet2DModel

    unet_folder, model, scheduler = diffusers_parts(folder)
    if model.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"{folder} holds a {model['_class_name']}; a UNet2DModel is needed")
    alphas, prediction = alphas_cumprod(scheduler), scheduler.get("prediction_type", "epsilon")
    weights = _weights_file(unet_folder)
    with sound(folder):  # before any memory is asked for; a weight takes a byte or more
        check_outline(*described_unet(model), weights.stat().st_size)
    # diffusers renames the parameters of old files; torch opens .bin files as bare weights only
    try:
        unet = UNet2DModel.from_pretrained(
            str(unet_folder),
            use_safetensors=weights.suffix == ".safetensors",
            low_cpu_mem_usage=False,
            local_files_only=True,
        )
    # diffusers raises many kinds; each means that the weights are not what config.json says
    except Exception as error:
        raise ValueError(
            f"{weights} cannot be loaded as its config.json describes ({type(error).__name__}: "
            f"{error})"
        ) from error
    with sound(folder):
        denoiser = DiscreteDenoiser(unet, alphas, prediction)
    denoiser.fingerprint = diffusers_fingerprint(folder)
    return freeze(denoiser, device)
