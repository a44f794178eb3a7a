"""Recipes of the shipped networks: data, architecture, stages, noise levels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..support import checks

# The learning rate, relative to its peak, after the part ``p`` of a stage.
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "linear": lambda p: 1 - p,
    "none": lambda p: 1.0,
}


@dataclass(frozen=True)
class Stage:
    """A stage of training: linear warm-up, then ``decay`` of the learning rate.

    ``label_dropout``: share of images whose label is hidden (trains the unconditional score).
    ``decay`` "cosine" and "linear" go to zero. "none" keeps the rate constant: the weight average
    replaces the decay, so that the stage can be stopped and resumed at any time.
    """

    images: int
    learning_rate: float
    label_dropout: float
    warmup_images: int = 20_000
    decay: str = "cosine"

    def __post_init__(self) -> None:
        checks.one_of("decay", self.decay, DECAYS)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; sigma is log-normal in training."""

    dataset: str
    stages: tuple[Stage, ...]
    unet: dict[str, Any]
    unshuffle: int = 2
    sigma_data: float = 0.5
    batch: int = 128
    log_sigma_mean: float = -0.5
    log_sigma_std: float = 1.6
    ema_halflife: int | tuple[int, ...] = (
        25_000  # images; of several averages the one with the lowest held-out loss is shipped
    )
    seed: int = 0
    flips: bool = False
    optimizer: str = "adam"

    @property
    def file_dtype(self) -> torch.dtype:
        """Dtype of the shipped file: float16 for the larger networks; loaded as float32."""
        return torch.float16 if self.dataset == "cifar10" else torch.float32

    def __post_init__(self) -> None:
        checks.one_of("optimizer", self.optimizer, ("adam", "muon"))

    @property
    def halflives(self) -> tuple[int, ...]:
        """Half-life, in images, of each average of the weights."""
        return self.ema_halflife if isinstance(self.ema_halflife, tuple) else (self.ema_halflife,)

    @property
    def fixed(self) -> dict[str, Any]:
        """The part that a saved state must share, in JSON types: all but the stages.

        Stages may be changed or prolonged during training.
        """
        return json.loads(
            json.dumps({key: value for key, value in asdict(self).items() if key != "stages"})
        )

    @property
    def images(self) -> int:
        """Images seen in all stages."""
        return sum(stage.images for stage in self.stages)

    @property
    def steps(self) -> int:
        """Optimiser steps in all stages."""
        return sum(math.ceil(stage.images / self.batch) for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int, int]:
        """The stage of ``step``, the step within it, and its number of steps."""
        for stage in self.stages:
            steps = math.ceil(stage.images / self.batch)
            if step < steps:
                return stage, step, steps
            step -= steps
        raise ValueError(f"step lies {step} steps beyond the end of the recipe")


RECIPES = {
    # 32 x 32 colour images on a CPU: 12 million parameters on 16 x 16 x 12 after unshuffling. The
    # rate stays constant for as long as time is given (`MINUTES=`); a last stage then lets it fall
    # to zero. Chosen by short runs on one
    # thread (mean held-out loss of 11 levels): Muon with 5e-3 reached 0.60 after 3,800 images and
    # 0.47 after 7,600, with 1.5e-2 0.67 after 3,800. Adam with 6e-4 on a network of 4 million
    # parameters reached 0.70 after 10,600, but with a longer warm-up and average: no fair race.
    "cifar10-cpu": Recipe(
        dataset="cifar10",
        # At the constant rate the held-out loss stood nearly still after 200,000 images. What is
        # left of eight hours goes into a long linear decay.
        stages=(
            Stage(220_160, 5e-3, label_dropout=0.3, warmup_images=5_000, decay="none"),
            Stage(376_832, 5e-3, label_dropout=0.3, warmup_images=1, decay="linear"),
        ),
        unet=dict(
            block_out_channels=(96, 128, 192),
            layers_per_block=2,
            norm_num_groups=16,
            attention_head_dim=16,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        ),
        log_sigma_mean=-0.4,
        log_sigma_std=1.2,
        ema_halflife=(20_000, 60_000, 200_000),
        flips=True,
        optimizer="muon",
    ),
    # The same data on a GPU, at full resolution: 18.5 million parameters (37 MB in half precision),
    # 20 minutes of a large card.
    "cifar10-cuda": Recipe(
        dataset="cifar10",
        stages=(Stage(12_000_000, 8e-4, label_dropout=0.3, warmup_images=200_000),),
        unet=dict(
            block_out_channels=(128, 176, 176),
            layers_per_block=3,
            norm_num_groups=16,
            attention_head_dim=44,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            dropout=0.1,
        ),
        unshuffle=1,
        batch=512,
        log_sigma_mean=-1.2,
        log_sigma_std=1.2,
        ema_halflife=500_000,
        flips=True,
    ),
    "laptop": Recipe(
        dataset="mnist",
        # With 30 % dropout alone the conditional samples became good long before the unconditional
        # ones, so the second stage hides most labels.
        stages=(Stage(900_000, 1e-3, label_dropout=0.3), Stage(400_000, 8e-4, label_dropout=0.7)),
        unet=dict(
            block_out_channels=(32, 64, 80),
            layers_per_block=2,
            norm_num_groups=8,
            attention_head_dim=16,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            dropout=0.1,
        ),
    ),
}


def recipe_for(profile: str, device: torch.device) -> tuple[str, Recipe]:
    """Name and recipe of ``profile`` on ``device``; ``ValueError`` if it has none.

    A profile may have separate recipes for CPU and GPU.
    """
    name = profile if profile in RECIPES else f"{profile}-{device.type}"
    checks.one_of(
        "profile",
        name if name in RECIPES else profile,
        sorted({key.split("-")[0] for key in RECIPES} | set(RECIPES)),
    )
    return name, RECIPES[name]
