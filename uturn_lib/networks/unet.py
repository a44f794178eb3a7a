"""Our own networks: a diffusers U-Net under the preconditioning of Karras et al. (2022)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..support import checks
from ..support.files import atomic_path, sha256, write_json
from .base import SIGMA_RANGE, NetworkDenoiser, freeze
from .checkpoints import (
    WEIGHTS,
    built,
    checkpoint_fingerprint,
    image_shape,
    load_weights,
    read_checkpoint,
    sound,
    weights_in,
)


class EDMDenoiser(NetworkDenoiser):
    """A diffusers ``UNet2DModel`` F under the preconditioning of Karras et al. (2022), Table 1:

    ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = s_d^2 / (sigma^2 +
    s_d^2)``, ``c_out = sigma s_d / sqrt(sigma^2 + s_d^2)``, ``c_in = 1 / sqrt(sigma^2 + s_d^2)``,
    ``c_noise = ln(sigma) / 4``.

    One network serves two uses: with ``labels`` it is class-conditional, without them it gets the
    null class that it met in training through label dropout. Pixels are unshuffled by ``unshuffle``
    so that the U-Net works on a smaller grid with more channels, which costs far less on a CPU.

    Parameters
    ----------
    unet: U-Net on (B, C * unshuffle^2, H / unshuffle, W / unshuffle).
    sample_shape: (C, H, W) of the images, which are scaled to [-1, 1].
    num_classes: number of classes, 0 for an unconditional network.
    sigma_data: standard deviation s_d of the data.
    noise_scale: the U-Net's sinusoidal embedding gets ``noise_scale * c_noise``: it was designed
        for time steps of 0 to 1000, while c_noise spans less than 3.
    """

    def __init__(
        self,
        unet: nn.Module,
        sample_shape: tuple[int, ...],
        num_classes: int = 0,
        sigma_data: float = 0.5,
        unshuffle: int = 1,
        noise_scale: float = 100.0,
        sigma_range: tuple[float, float] = SIGMA_RANGE,
    ):
        super().__init__(unet, sample_shape, num_classes, sigma_range)
        self.sigma_data = sigma_data
        self.unshuffle = unshuffle
        self.noise_scale = noise_scale

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The formula itself, without checks: ``sigma`` (B, 1, 1, 1) in the dtype of ``x`` (used in
        training)."""
        variance = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance.sqrt()
        c_noise = sigma.clamp(min=1e-20).log() / 4
        output = self.raw(x / variance.sqrt(), c_noise.flatten(), labels)
        # Combined in the precision of x: a float64 sampler state keeps its digits around a float32
        # network.
        return c_skip * x + c_out * output.to(x.dtype)

    def raw(self, scaled: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The bare network F(c_in x, c_noise) in its own precision; (B, C, H, W) -> (B, C, H,
        W)."""
        dtype = next(self.unet.parameters()).dtype
        if self.num_classes and labels is None:
            labels = torch.full((len(scaled),), self.num_classes, device=scaled.device)
        patches = F.pixel_unshuffle(scaled.to(dtype), self.unshuffle).contiguous(
            memory_format=torch.channels_last
        )
        embedded = (self.noise_scale * c_noise).to(dtype)
        with self.at_precision(scaled.device):
            output = self.unet(patches, embedded, class_labels=labels).sample
        return F.pixel_shuffle(output.to(dtype), self.unshuffle)

    def config(self) -> dict[str, Any]:
        """What is needed to build the same network again (JSON types only)."""
        return {
            "architecture": "EDMDenoiser",
            "sample_shape": list(self.sample_shape),
            "num_classes": self.num_classes,
            "sigma_data": self.sigma_data,
            "unshuffle": self.unshuffle,
            "noise_scale": self.noise_scale,
            "sigma_range": list(self.sigma_range),
        }


def make_unet(sample_shape: tuple[int, ...], num_classes: int, unshuffle: int, **unet: Any) -> Any:
    """A diffusers ``UNet2DModel`` for images of ``sample_shape``, with one class more (the null
    class) if any."""
    from diffusers import UNet2DModel

    channels, height, _ = sample_shape
    channels = channels * unshuffle**2
    return UNet2DModel(
        sample_size=height // unshuffle,
        in_channels=channels,
        out_channels=channels,
        num_class_embeds=num_classes + 1 if num_classes else None,
        **unet,
    )


def save_denoiser(
    denoiser: EDMDenoiser,
    folder: str | Path,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write config.json and safetensors weights; ``training`` (recipe, duration, ...) is kept in
    the configuration.

    ``dtype`` is that of the file: float16 halves it; loaded again, the weights are float32. Raises
    ``ValueError`` where a weight does not fit into it.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    state = {
        name: value.detach().cpu().to(dtype).contiguous()
        for name, value in denoiser.unet.state_dict().items()
    }
    lost = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"dtype = {dtype}: {lost[0]} has values that it cannot hold")
    with atomic_path(weights) as temporary:
        save_file(state, str(temporary), metadata={"format": "pt"})
    unet = {key: value for key, value in denoiser.unet.config.items() if key != "_name_or_path"}
    section = denoiser.config() | {"weights_sha256": sha256(weights), "training": training or {}}
    write_json(folder / "config.json", {"_class_name": "UNet2DModel", **unet, "uturn": section})


def load_trained(folder: Path, device: torch.device) -> EDMDenoiser:
    """The network in a ``folder`` that :func:`save_denoiser` has written; errors as
    ``loader.load_denoiser``."""
    config, state = read_checkpoint(folder, WEIGHTS, "EDMDenoiser")
    with sound(folder):
        unet: Any = built(*described_unet(config), weights_in(state))
        denoiser = _preconditioned(unet, config["uturn"])
        load_weights(unet, state, folder)
        denoiser.fingerprint = checkpoint_fingerprint(config)
    return freeze(denoiser, device)


def described_unet(config: dict[str, Any]) -> tuple[Callable[[], nn.Module], int]:
    """What makes the ``UNet2DModel`` of a config.json, and the number of its blocks."""
    from diffusers import UNet2DModel

    make: Callable[..., Any] = UNet2DModel
    known = {k: v for k, v in config.items() if not k.startswith("_") and k != "uturn"}
    depth = checks.positive_int("layers_per_block", known.get("layers_per_block", 2))
    resolutions = len(known.get("block_out_channels", (224, 448, 672, 896)))  # as in diffusers
    return lambda: make(**known), depth * resolutions


def _preconditioned(unet: Any, section: dict[str, Any]) -> EDMDenoiser:
    shape, unshuffle = image_shape(section), checks.positive_int("unshuffle", section["unshuffle"])
    if unet.config.in_channels != shape[0] * unshuffle**2:
        raise ValueError(
            f"its U-Net takes {unet.config.in_channels} channels, not {shape[0]} * {unshuffle}^2"
        )
    low, high = (checks.noise_level("sigma_range", level) for level in section["sigma_range"])
    return EDMDenoiser(
        unet,
        shape,
        checks.positive_int("num_classes", section["num_classes"], minimum=0),
        checks.noise_level("sigma_data", section["sigma_data"], allow_zero=False),
        unshuffle,
        checks.noise_level("noise_scale", section["noise_scale"]),
        (low, high),
    )
