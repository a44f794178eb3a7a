"""Classifiers of noisy images, p(class | x, sigma), with their calibration.

A residual network that is told the noise level. The class retention of the ideal U-Turn follows
from it without any sampling (``experiments.class_bound``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoisers import per_sample
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..support.files import atomic_path, sha256, write_json
from .base import freeze
from .checkpoints import (
    built,
    checkpoint_fingerprint,
    find_checkpoint,
    image_shape,
    load_weights,
    read_checkpoint,
    sound,
    weights_in,
)

WEIGHTS = "model.safetensors"
SIGMA_RANGE = (0.05, 80.0)  # noise levels of training


class Block(nn.Module):
    """A residual block; ln sigma scales and shifts the channels between its two convolutions:

    ``y = skip(x) + conv2(relu((1 + a) norm2(conv1(relu(norm1(x)))) + b))``, (a, b) linear in the
    embedding of the noise level. A ``stride`` of 2 halves the resolution.
    """

    def __init__(self, before: int, after: int, stride: int, embedding: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.modulation = nn.Linear(embedding, 2 * after)
        same = before == after and stride == 1
        self.skip = None if same else nn.Conv2d(before, after, 1, bias=False)
        self.stride = stride
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        first = F.relu(self.norm1(x))
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
        second = F.relu(torch.addcmul(shift, self.norm2(self.conv1(first)), 1 + scale))
        if self.skip is not None:
            x = self.skip(F.avg_pool2d(first, self.stride) if self.stride > 1 else first)
        return x + self.conv2(second)


class NoiseClassifier(nn.Module):
    """A residual network for p(class | x, sigma).

    ``forward(x, sigma)``: ``x`` (B, C, H, W) = x_0 + sigma eps with images x_0 in [-1, 1],
    ``sigma`` (B,) -> logits (B, num_classes). As in the denoisers the input is scaled by ``c_in = 1
    / sqrt(sigma^2 + sigma_data^2)``, and the noise level enters as ``c_noise = ln(sigma) / 4``
    (Karras et al. 2022, Table 1), here as cosines and sines of it.

    Parameters
    ----------
    channels: of each resolution, from H/2 (the first convolution has stride 2) downwards.
    blocks: residual blocks of each resolution.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256),
        blocks: Sequence[int] = (1, 2, 1),
        sigma_data: float = 0.5,
        embedding: int = 64,
    ):
        super().__init__()
        if len(channels) != len(blocks) or not len(channels):
            raise ValueError(
                f"channels = {tuple(channels)} and blocks = {tuple(blocks)}: one of each per "
                "resolution is needed"
            )
        self.sample_shape, self.num_classes = tuple(sample_shape), num_classes
        self.channels, self.blocks = tuple(channels), tuple(blocks)
        self.sigma_data, self.embedding = sigma_data, embedding
        self.frequencies: Tensor
        frequencies = torch.arange(1, embedding // 2 + 1) * math.pi / 4  # c_noise spans about 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.conv_in = nn.Conv2d(sample_shape[0], channels[0], 4, stride=2, padding=1, bias=False)
        self.body = nn.ModuleList(self._blocks())
        self.norm = nn.BatchNorm2d(channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)
        nn.init.zeros_(self.head.weight)

    def _blocks(self) -> list[Block]:
        made, before = [], self.channels[0]
        for level, (after, count) in enumerate(zip(self.channels, self.blocks, strict=True)):
            for number in range(count):
                stride = 2 if level > 0 and number == 0 else 1
                made.append(Block(before, after, stride, self.embedding))
                before = after
        return made

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.clamp(min=SIGMA_RANGE[0])  # below it the network hears of the lowest level
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        embedded = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        c_in = (sigma**2 + self.sigma_data**2).rsqrt()
        h = self.conv_in(c_in[:, None, None, None] * x)
        for block in self.body:
            h = block(h, embedded)
        return self.head(F.relu(self.norm(h)).mean((2, 3)))


class CalibratedClassifier(nn.Module):
    """Calibrated probabilities: ``softmax(logits / T(sigma))`` of a :class:`NoiseClassifier`.

    ``ln T`` is linear in ln sigma between the ``knots`` (L,), increasing noise levels, with values
    ``log_temperatures`` (L,) there, and constant beyond them. Calling it with ``x`` (B, C, H, W) =
    x_0 + sigma eps and ``sigma``, a float or (B,), gives probabilities (B, num_classes). Raises
    ``TypeError`` and ``ValueError`` for ``x`` of another kind or shape, and for a sigma outside of
    ``sigma_range``; below the lowest level of training (0.05) the network is told that level.

    ``mirrored``: logits are means over x and its mirror image, at twice the cost. Where mirror
    images are as likely, p(class | x, sigma) has this symmetry; the network alone only nearly.
    """

    sigma_range = (0.0, SIGMA_RANGE[1])

    def __init__(
        self,
        network: NoiseClassifier,
        knots: Sequence[float],
        log_temperatures: Sequence[float],
        mirrored: bool = False,
    ):
        super().__init__()
        increasing = all(a < b for a, b in zip(knots, list(knots)[1:], strict=False))
        if len(knots) < 1 or not increasing or not knots[0] > 0:
            raise ValueError(f"knots = {list(knots)} must be positive, increasing noise levels")
        if len(log_temperatures) != len(knots) or not all(map(math.isfinite, log_temperatures)):
            raise ValueError(f"log_temperatures = {list(log_temperatures)}: one number per knot")
        self.network, self.mirrored = network, mirrored
        self.knots, self.log_temperatures = tuple(knots), tuple(log_temperatures)
        self.sample_shape, self.num_classes = network.sample_shape, network.num_classes
        self.fingerprint: str | None = None

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        checks.samples("x", x, self.sample_shape)
        levels = self._noise_levels(x, sigma)
        logits = self.logits(x.float(), levels)
        table = logits.new_tensor(self.log_temperatures)
        temperatures = (interpolation(levels, self.knots) @ table).exp()
        return (logits / temperatures[:, None]).softmax(1)

    def logits(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Before the temperature, without checks: ``sigma`` (B,) -> (B, num_classes)."""
        if not self.mirrored:
            return self.network(x, sigma)
        return (self.network(x, sigma) + self.network(x.flip(-1), sigma)) / 2

    def _noise_levels(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        levels = per_sample(sigma, x.float()).flatten().expand(len(x))
        high = self.sigma_range[1]
        if not bool((levels <= high * (1 + 1e-6)).all()):
            raise ValueError(
                f"sigma up to {float(levels.max()):g} leaves the range of this classifier, "
                f"[0, {high:g}]"
            )
        return levels

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.head.weight.device


@torch.no_grad()
def noisy_probabilities(
    classifier: Callable[[Tensor, float], Tensor],
    images: Tensor,
    sigma: float,
    draws: int = 1,
    seed: int = 0,
    batch_size: int = 250,
) -> Tensor:
    """q(x_0 + sigma eps), (draws, N, K) on the CPU, for ``images`` (N, *sample).

    ``classifier(x, sigma)`` gives probabilities (B, K). The noise of an image depends on (seed, its
    index): it is the same at every level.
    """
    checks.positive_int("draws", draws)
    seeds = sample_seeds(seed, range(len(images)), "forward")
    noise = NoiseStream(seeds, images.shape[1:], dtype=images.dtype)
    device = getattr(classifier, "device", images.device)
    found = []
    for _ in range(draws):
        noisy = images + sigma * noise.normal()
        parts = [classifier(part.to(device), sigma).cpu() for part in noisy.split(batch_size)]
        found.append(torch.cat(parts))
    return torch.stack(found)


def interpolation(sigma: Tensor, knots: Sequence[float]) -> Tensor:
    """Weights (B, L) of the ``knots`` (L,) in a linear interpolation in ln sigma, (B,); constant
    beyond them."""
    logs = torch.tensor(knots, dtype=torch.float64).log().to(sigma)
    at = sigma.clamp(knots[0], knots[-1]).log()
    hats = torch.zeros(len(sigma), len(knots), dtype=sigma.dtype, device=sigma.device)
    if len(knots) == 1:
        return hats + 1
    left = (torch.searchsorted(logs, at, right=True) - 1).clamp(0, len(knots) - 2)
    share = ((at - logs[left]) / (logs[left + 1] - logs[left])).clamp(0, 1)
    hats.scatter_(1, left[:, None], 1 - share[:, None])
    return hats.scatter_(1, left[:, None] + 1, share[:, None])


def save_noise_classifier(
    classifier: CalibratedClassifier,
    folder: str | Path,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write config.json and model.safetensors; matrices in ``dtype``, loaded again as float32.

    Vectors stay float32: running variances may leave the range of half precision.
    """
    folder, network = Path(folder), classifier.network
    weights = folder / WEIGHTS
    state = {
        name: value.detach().cpu().to(dtype if value.ndim > 1 else value.dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    lost = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"dtype = {dtype}: {lost[0]} has values that it cannot hold")
    with atomic_path(weights) as temporary:
        save_file(state, str(temporary))
    section = {
        "architecture": "NoiseClassifier",
        "sample_shape": list(network.sample_shape),
        "num_classes": network.num_classes,
        "channels": list(network.channels),
        "blocks": list(network.blocks),
        "sigma_data": network.sigma_data,
        "embedding": network.embedding,
        "knots": list(classifier.knots),
        "log_temperatures": list(classifier.log_temperatures),
        "mirrored": classifier.mirrored,
        "weights_sha256": sha256(weights),
        "training": training or {},
    }
    write_json(folder / "config.json", {"uturn": section})


def load_noise_classifier(
    name_or_path: str | Path, device: str | torch.device | None = None
) -> CalibratedClassifier:
    """Load a shipped noise classifier ("mnist-noise-classifier") or one in a local folder.

    Returns p(class | x, sigma) as a callable ``(x, sigma) -> probabilities (B, K)``
    (:class:`CalibratedClassifier`), in evaluation mode on ``device`` (default: cuda when present,
    else cpu). Opening it runs no code from it; errors as ``load_denoiser``.
    """
    device = checks.pick_device(device)
    folder = find_checkpoint(name_or_path)
    config, state = read_checkpoint(folder, WEIGHTS, "NoiseClassifier")
    section = config["uturn"]
    with sound(folder):
        network = built(lambda: _described(section), sum(section["blocks"]), weights_in(state))
        load_weights(network, state, folder)
        classifier = CalibratedClassifier(
            network,
            section["knots"],
            section["log_temperatures"],
            section.get("mirrored", False),
        )
        classifier.fingerprint = checkpoint_fingerprint(config)
    return freeze(classifier, device)


def _described(section: dict[str, Any]) -> NoiseClassifier:
    return NoiseClassifier(
        image_shape(section),
        checks.positive_int("num_classes", section["num_classes"]),
        section["channels"],
        section["blocks"],
        checks.noise_level("sigma_data", section["sigma_data"], allow_zero=False),
        section["embedding"],
    )
