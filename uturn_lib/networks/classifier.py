"""Classifiers: their decision gives class retention, their features may give quality distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

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


class Classifier(nn.Module):
    """A small convolutional classifier.

    ``forward(images)`` (B, C, H, W) in [-1, 1] -> logits (B, num_classes); ``features`` -> (B,
    width), the input of the last layer. ``body`` is "separable" (few products, for digits) or
    "dense" (for photographs).
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_classes: int,
        channels: tuple[int, ...] = (24, 48, 96),
        width: int = 64,
        body: str = "separable",
    ):
        super().__init__()
        checks.one_of("body", body, BODIES)
        self.sample_shape, self.num_classes = tuple(sample_shape), num_classes
        self.channels, self.width, self.kind = tuple(channels), width, body
        layers, inputs = BODIES[body](sample_shape, self.channels)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(inputs, width))
        self.head = nn.Linear(width, num_classes)
        self.fingerprint: str | None = None

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width), float32, after the last rectifier."""
        checks.samples("images", images, self.sample_shape)
        return F.relu(self.body(images.float()))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """Most likely class (N,) of images (N, C, H, W)."""
        device = self.head.weight.device
        return torch.cat(
            [self(batch.to(device)).argmax(1).cpu() for batch in images.split(batch_size)]
        )

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """Features (N, width) of images (N, C, H, W), batch by batch."""
        device = self.head.weight.device
        return torch.cat(
            [self.features(batch.to(device)).cpu() for batch in images.split(batch_size)]
        )


def _separable(
    sample_shape: tuple[int, ...], channels: tuple[int, ...]
) -> tuple[list[nn.Module], int]:
    """Pairs of a full and a depthwise convolution, and the size of their output."""
    layers: list[nn.Module] = []
    for before, after in zip((sample_shape[0], *channels), channels, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return layers, channels[-1] * (sample_shape[1] // 2 ** len(channels)) ** 2


def _dense(sample_shape: tuple[int, ...], channels: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """A stem of 2 x 2 patches, two convolutions per resolution, global max pooling."""
    stem, *rest = channels
    layers: list[nn.Module] = [
        nn.Conv2d(sample_shape[0], stem, 2, bias=False),
        nn.BatchNorm2d(stem),
        nn.GELU(),
    ]
    for before, after in zip(channels, rest, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(after),
            nn.GELU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.GELU(),
        ]
    return [*layers, nn.AdaptiveMaxPool2d(1)], channels[-1]


BODIES = {"separable": _separable, "dense": _dense}


def save_classifier(
    classifier: Classifier, folder: str | Path, training: dict[str, Any] | None = None
) -> None:
    """Write config.json and model.safetensors."""
    folder = Path(folder)
    weights = folder / "model.safetensors"
    with atomic_path(weights) as temporary:
        save_file(
            {
                name: value.detach().cpu().contiguous()
                for name, value in classifier.state_dict().items()
            },
            str(temporary),
        )
    section = {
        "architecture": "Classifier",
        "sample_shape": list(classifier.sample_shape),
        "num_classes": classifier.num_classes,
        "channels": list(classifier.channels),
        "width": classifier.width,
        "body": classifier.kind,
        "weights_sha256": sha256(weights),
        "training": training or {},
    }
    write_json(folder / "config.json", {"uturn": section})


def load_classifier(
    name_or_path: str | Path, device: str | torch.device | None = None
) -> Classifier:
    """Load a shipped classifier ("mnist-classifier") or one in a local folder; errors as
    ``load_denoiser``."""
    device = checks.pick_device(device)
    folder = find_checkpoint(name_or_path)
    config, state = read_checkpoint(folder, "model.safetensors", "Classifier")
    section = config["uturn"]
    with sound(folder):
        classifier = built(lambda: _described(section), len(section["channels"]), weights_in(state))
        load_weights(classifier, state, folder)
        classifier.fingerprint = checkpoint_fingerprint(config)
    return freeze(classifier, device)


def _described(section: dict[str, Any]) -> Classifier:
    return Classifier(
        image_shape(section),
        checks.positive_int("num_classes", section["num_classes"]),
        tuple(section["channels"]),
        section["width"],
        section.get("body", "separable"),
    )
