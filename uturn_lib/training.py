"""How the shipped networks were made: `python -m uturn_lib.training --profile laptop` (or `make train`).

The network is trained by denoising score matching with the EDM weighting (Karras et al. 2022, Section 5). Every batch
is drawn from (seed, step), so a run that was interrupted and resumed takes the same steps as one that was not.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import checks
from .data import ImageSet, load_data
from .files import atomic_path, read_json
from .networks import Classifier, EDMDenoiser, freeze, make_unet, save_classifier, save_denoiser
from .places import ROOT, TRAINED
from .profiles import machine
from .progress import bar, track

RUNS = ROOT / "runs"
LOSS_COLUMNS = ("images", "seconds", "train_loss", "held_out_loss", "best_average", "train_set_loss")
STOPPED = 60.0  # seconds: a step that takes longer was not at work but stopped from outside, and does not count as training time


# The learning rate, relative to its peak, after the part ``p`` of a stage.
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "linear": lambda p: 1 - p,
    "none": lambda p: 1.0,
}


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own learning-rate cycle: linear warm-up, then a cosine to zero.

    ``label_dropout`` is the share of images whose label is hidden: what is learnt of the unconditional score. ``decay`` is "cosine", "linear" (both
    to zero) or "none": then the rate stays constant after the warm-up and the average of the weights does the work of the decay, so that such a
    stage can be stopped at any time and continued later.
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
    """Everything that decides the weights. Noise levels are log-normal; ``images`` of a stage count training images seen."""

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
        """Of the shipped weights: half precision for photographs, whose networks are large; both are float32 when loaded."""
        return torch.float16 if self.dataset == "cifar10" else torch.float32

    def __post_init__(self) -> None:
        checks.one_of("optimizer", self.optimizer, ("adam", "muon"))

    @property
    def halflives(self) -> tuple[int, ...]:
        """Half-life, in images, of each average of the weights."""
        return self.ema_halflife if isinstance(self.ema_halflife, tuple) else (self.ema_halflife,)

    @property
    def fixed(self) -> dict[str, Any]:
        """What a saved state cannot be continued without, in JSON types: all but the stages, which may be changed or prolonged on the way."""
        return json.loads(json.dumps({key: value for key, value in asdict(self).items() if key != "stages"}))

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
    # 32 x 32 colour images on a CPU: 12 million parameters on 16 x 16 x 12 after unshuffling. The rate stays constant for as long as time is given
    # (`MINUTES=`); a last stage then lets it fall to zero. Chosen by runs of equal CPU time (mean held-out loss of 11 levels, one thread): Muon with
    # 5e-3 reached 0.47 after 7,600 images, with 1.5e-2 it was slower (0.67 against 0.60 after 3,800), and Adam with 6e-4 on a network of 4 million
    # parameters, at the same time, 0.70 after 10,600.
    "cifar10-cpu": Recipe(
        dataset="cifar10",
        stages=(Stage(50_000_000, 5e-3, label_dropout=0.3, warmup_images=5_000, decay="none"),),
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
    # The same data on a GPU, at full resolution: 18.5 million parameters (37 MB in half precision), 20 minutes of a large card.
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
        # With 30 % dropout alone the conditional samples became good long before the unconditional ones, so the second
        # stage hides most labels.
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
    """The name and the recipe of ``profile`` on ``device``: a profile may have one for CPUs and one for GPUs.

    Raises ``ValueError`` for a profile without recipe.
    """
    name = profile if profile in RECIPES else f"{profile}-{device.type}"
    checks.one_of(
        "profile", name if name in RECIPES else profile, sorted({key.split("-")[0] for key in RECIPES} | set(RECIPES))
    )
    return name, RECIPES[name]


def edm_loss(denoiser: EDMDenoiser, images: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    """Weighted denoising error per image (B,): ``(sigma^2 + s_d^2) / (sigma s_d)^2 * mean (D - x_0)^2``."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    weight = (sigma**2 + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data) ** 2
    denoised = denoiser.denoise(images + sigma * noise, sigma, labels)
    return (weight * (denoised - images) ** 2).flatten(1).mean(1)


def matrices(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights of the inner convolutions and linear layers, which Muon orthogonalises, and all other parameters.

    First and last convolutions, embeddings, norms and biases are no maps between hidden layers: AdamW is for them (Jordan et al. 2024).
    """
    inner, outer = [], []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim >= 2 and not any(part in name for part in ("conv_in", "conv_out", "class_embedding"))
        (inner if hidden else outer).append(parameter)
    return inner, outer


class Muon:
    """``torch.optim.Muon`` on the inner weights of a network, each as a matrix (outputs, inputs x kernel), and AdamW on the rest.

    The matrices are views of the weights: a step changes the network in place. Its rate is scaled such that the same learning rate serves both.
    """

    def __init__(self, module: nn.Module, learning_rate: float):
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(f"optimizer = 'muon' needs torch 2.9 or newer; this is {torch.__version__}")
        self.inner, outer = matrices(module)
        self.views = [nn.Parameter(self._matrix(weight.detach())) for weight in self.inner]
        self.muon = torch.optim.Muon(self.views, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(outer, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.param_groups = self.muon.param_groups + self.adam.param_groups

    @staticmethod
    def _matrix(weight: Tensor) -> Tensor:
        """A view (outputs, kernel x inputs) of a weight in channels-last order; how the columns are ordered does not matter to Muon."""
        return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).view(len(weight), -1)

    def step(self) -> None:
        for view, weight in zip(self.views, self.inner, strict=True):
            view.grad = weight.grad.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight.grad
        self.muon.step()
        self.adam.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.inner:
            weight.grad = None
        self.adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def halves_are_fast(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32: on GPUs, and on CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 and newer
    return bool(capabilities.get("amx_tile") or capabilities.get("avx512_bf16"))


class Trainer:
    """Adam or Muon with warm-up and decay, exponential moving averages of the weights, state saved every minute.

    Where the processor has them, products are done in bfloat16 under float32 weights. ``compiled`` (default: on a GPU) compiles the loss.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, compiled: bool | None = None):
        self.recipe, self.folder, self.device = recipe, folder, device
        self.train = load_data(recipe.dataset, "train")
        self.test = load_data(recipe.dataset, "test")
        torch.manual_seed(recipe.seed)
        self.denoiser = self._network()
        self.averages = [self._network() for _ in recipe.halflives]
        for average in self.averages:
            average.load_state_dict(self.denoiser.state_dict())
        self.optimizer = self._optimizer()
        self.step, self.seconds = 0, 0.0
        self.log: list[dict[str, float]] = []
        self.halved = halves_are_fast(device) and recipe.dataset != "mnist"  # the digits network is too small to gain
        self.loss = torch.compile(edm_loss) if (device.type == "cuda" if compiled is None else compiled) else edm_loss

    def _optimizer(self) -> torch.optim.Optimizer | Muon:
        rate = self.recipe.stages[0].learning_rate
        if self.recipe.optimizer == "muon":
            return Muon(self.denoiser, rate)
        return torch.optim.Adam(self.denoiser.parameters(), lr=rate, betas=(0.9, 0.99))

    @property
    def average(self) -> EDMDenoiser:
        """The average of the weights with the lowest held-out loss when they were last compared (at first the shortest)."""
        return self.averages[int(self.log[-1].get("best_average", 0)) if self.log else 0]

    def _network(self) -> EDMDenoiser:
        recipe = self.recipe
        classes = len(self.train.class_names)
        unet = make_unet(self.train.sample_shape, classes, recipe.unshuffle, **recipe.unet)
        denoiser = EDMDenoiser(unet, self.train.sample_shape, classes, recipe.sigma_data, recipe.unshuffle)
        return denoiser.to(device=self.device, memory_format=torch.channels_last)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, noise levels, noise and labels of one step: a function of (seed, step) only."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        index = torch.from_numpy(rng.integers(len(self.train), size=recipe.batch))
        sigma = torch.from_numpy(np.exp(rng.normal(recipe.log_sigma_mean, recipe.log_sigma_std, recipe.batch)))
        noise = torch.from_numpy(rng.standard_normal((recipe.batch, *self.train.sample_shape), dtype=np.float32))
        labels = self.train.labels[index].clone()
        labels[torch.from_numpy(rng.random(recipe.batch) < recipe.stage_at(step)[0].label_dropout)] = len(
            self.train.class_names
        )
        images = self.train.images[index]
        if recipe.flips:
            flipped = torch.from_numpy(rng.random(recipe.batch) < 0.5)[:, None, None, None]
            images = torch.where(flipped, images.flip(-1), images)
        return tuple(value.to(self.device) for value in (images, sigma.float(), noise, labels))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then the stage's decay."""
        stage, within, steps = self.recipe.stage_at(step)
        warmup = min(1.0, (within + 1) * self.recipe.batch / stage.warmup_images)
        return stage.learning_rate * warmup * DECAYS[stage.decay](within / steps)

    def update(self) -> float:
        """One optimisation step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)  # for dropout: a resumed run draws the same masks
        batch = self.batch(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
            loss = self.loss(self.denoiser.train(), *batch).mean()
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.step}; resume with a lower learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return loss.item()

    def _update_average(self) -> None:
        seen = self.step * self.recipe.batch
        for average, halflife in zip(self.averages, self.recipe.halflives, strict=True):
            keep = 0.5 ** (
                self.recipe.batch / max(min(halflife, 0.05 * seen), 1e-8)
            )  # short at first, to forget the start
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(self.denoiser.parameters()), 1 - keep)

    @torch.no_grad()
    def validation(self, data: ImageSet, draws: int = 2, average: EDMDenoiser | None = None) -> float:
        """Loss of an averaged network on 500 images of ``data``, always with the same noise: comparable over time."""
        average = (average or self.average).eval()
        images, labels = data.images[:500].to(self.device), data.labels[:500].to(self.device)
        rng = np.random.default_rng(1234)
        total = 0.0
        for _ in range(draws):
            quantiles = (rng.permutation(len(images)) + 0.5) / len(images)
            normal = math.sqrt(2) * torch.erfinv(torch.from_numpy(2 * quantiles - 1))
            sigma = (self.recipe.log_sigma_mean + self.recipe.log_sigma_std * normal).exp().float().to(self.device)
            noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(self.device)
            for part in torch.arange(len(images), device=self.device).split(125):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
                    loss = edm_loss(average, images[part], sigma[part], noise[part], labels[part])
                total += loss.sum().item()
        return total / (draws * len(images))

    def measure(self) -> dict[str, float]:
        """Held-out loss of each average, which of them is best, and its loss on training images."""
        held_out = [self.validation(self.test, average=average) for average in self.averages]
        best = int(np.argmin(held_out))
        found = {"held_out_loss": round(held_out[best], 5), "best_average": best}
        return found | {"train_set_loss": round(self.validation(self.train, average=self.averages[best]), 5)}

    def save(self) -> None:
        """Write the whole state; tensors and numbers only, so that it can be read back without running code."""
        state = {
            "recipe": self.recipe.fixed,
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "denoiser": self.denoiser.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)
        with atomic_path(self.folder / "loss.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, LOSS_COLUMNS)
            writer.writeheader()
            writer.writerows(self.log)

    def resume(self) -> bool:
        """Continue from the saved state, if there is one for this recipe."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        state = torch.load(
            path, map_location="cpu", weights_only=True
        )  # Adam's counters stay there, the rest is copied
        if state["recipe"] != self.recipe.fixed:
            raise ValueError(f"{path} belongs to another recipe; remove {self.folder} to train anew")
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
        self.denoiser.load_state_dict(state["denoiser"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def run(self, save_every: float = 60.0, log_images: int = 25_000, minutes: float = math.inf) -> None:
        """Train to the end of the recipe, or for ``minutes``; interrupted at any moment, at most ``save_every`` seconds of work are lost."""
        display = bar(self.recipe.steps, "training", initial=self.step, unit="step", unit_scale=True)
        losses: list[float] = []
        begun = last_save = last = time.monotonic()
        finished = False
        while not finished:
            losses.append(self.update())
            now = time.monotonic()
            self.seconds, last = self.seconds + min(now - last, STOPPED), now
            display.update()
            display.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
            finished = self.step == self.recipe.steps or now - begun > 60 * minutes
            images = self.step * self.recipe.batch
            if images // log_images != (images - self.recipe.batch) // log_images or finished:
                self.log.append(
                    {
                        "images": images,
                        "seconds": round(self.seconds),
                        "train_loss": round(float(np.mean(losses)), 5),
                    }
                    | self.measure()
                )
                losses = []
                display.write(str(self.log[-1]))
            if now - last_save > save_every or finished:
                self.save()
                last_save = time.monotonic()
        display.close()


# ----------------------------------------------------------------------------------------------- classifier


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Small random rotations (12 degrees), scalings (10 %) and shifts (2 of 32 pixels) of digits (B, C, H, W)."""
    count = len(images)
    angle, scale, right, down = (torch.rand(4, count, generator=generator) * 2 - 1) * torch.tensor(
        [[0.21], [0.1], [0.125], [0.125]]
    )
    cos, sin = angle.cos() / (1 + scale), angle.sin() / (1 + scale)
    matrices = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # padding is 0, the background is -1


def shift_and_mirror(images: Tensor, generator: torch.Generator, pixels: int = 3) -> Tensor:
    """Random shifts by up to ``pixels`` (the border is mirrored) and left-right flips of photographs (B, C, H, W)."""
    count, _, height, width = images.shape
    down, right = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator)
    rows, columns = torch.arange(height) + down, torch.arange(width) + right  # (B, H), (B, W)
    columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    padded = F.pad(images, (pixels,) * 4, mode="reflect").permute(0, 2, 3, 1)
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides a classifier's weights; AdamW under one cycle of the learning rate."""

    dataset: str
    augmentation: Callable[[Tensor, torch.Generator], Tensor]
    network: dict[str, Any]
    epochs: int = 60
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """The recipe in JSON types."""
        return json.loads(json.dumps(asdict(self) | {"augmentation": self.augmentation.__name__}))


CLASSIFIERS = {
    "mnist": ClassifierRecipe("mnist", jitter, {}),
    "cifar10": ClassifierRecipe(
        "cifar10",
        shift_and_mirror,
        {"channels": (32, 64, 128, 256), "width": 128, "body": "dense"},
        epochs=18,
        batch=256,
        learning_rate=6e-3,
        weight_decay=0.05,
        label_smoothing=0.1,
    ),
}


class ClassifierTrainer:
    """Trains a classifier epoch by epoch; the state is saved after each, and a resumed run takes the same steps."""

    def __init__(self, recipe: ClassifierRecipe, folder: Path, device: torch.device):
        self.recipe, self.folder, self.device = recipe, folder, device
        self.train, self.test = load_data(recipe.dataset, "train"), load_data(recipe.dataset, "test")
        torch.manual_seed(recipe.seed)
        self.classifier = Classifier(self.train.sample_shape, len(self.train.class_names), **recipe.network)
        self.classifier.to(device=device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.rounds = len(self.train) // recipe.batch
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=recipe.epochs * self.rounds
        )
        self.epoch, self.seconds = 0, 0.0

    def _saved(self) -> dict[str, Any]:
        return {
            "recipe": repr(self.recipe.record()),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def resume(self) -> bool:
        """Continue from the saved state, if there is one for this recipe."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != repr(self.recipe.record()):
            raise ValueError(f"{path} belongs to another recipe; remove {self.folder} to train anew")
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return True

    def run_epoch(self) -> None:
        """Every training image once, in an order and with changes drawn from (seed, epoch)."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.epoch)
        torch.manual_seed(recipe.seed * 1_000_003 + self.epoch)  # for dropout
        self.classifier.train()
        order = torch.randperm(len(self.train), generator=generator)[: self.rounds * recipe.batch]
        for chosen in track(order.split(recipe.batch), f"classifier, epoch {self.epoch + 1} of {recipe.epochs}"):
            images = recipe.augmentation(self.train.images[chosen], generator).to(self.device)
            logits = self.classifier(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(
                logits, self.train.labels[chosen].to(self.device), label_smoothing=recipe.label_smoothing
            )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        self.epoch += 1

    def run(self, until: int | None = None) -> None:
        """Train to the end of the recipe, or for ``until`` epochs in all."""
        while self.epoch < (self.recipe.epochs if until is None else until):
            begun = time.monotonic()
            self.run_epoch()
            self.seconds += time.monotonic() - begun
            with atomic_path(self.folder / "state.pt") as temporary:
                torch.save(self._saved(), temporary)

    def finished(self) -> tuple[Classifier, dict[str, Any]]:
        """The classifier (evaluation mode) with a record of how it was made and of its held-out accuracy."""
        freeze(self.classifier, self.device)
        correct = int((self.classifier.predict(self.test.images) == self.test.labels).sum())
        return self.classifier, self.recipe.record() | {
            "minutes": round(self.seconds / 60, 1),
            "machine": machine(self.device),
            "held_out_correct": correct,
            "held_out_count": len(self.test),
        }


def train_classifier(dataset: str, device: torch.device | None = None) -> tuple[Classifier, dict[str, Any]]:
    """Train (or go on training) the classifier of ``dataset``; returns it with its record. State in runs/."""
    checks.one_of("dataset", dataset, CLASSIFIERS)
    trainer = ClassifierTrainer(CLASSIFIERS[dataset], RUNS / f"{dataset}-classifier", device or torch.device("cpu"))
    trainer.resume()
    trainer.run()
    return trainer.finished()


# --------------------------------------------------------------------------------------------- command line


def shipped_record(folder: Path) -> dict[str, Any]:
    """The training record of the checkpoint in ``folder``; empty when there is none."""
    path = folder / "config.json"
    return read_json(path)["uturn"]["training"] if path.is_file() else {}


def is_better_trained(record: dict[str, Any], shipped: dict[str, Any]) -> bool:
    """May a network with this record take the place of the shipped one? Not if it has the same recipe and has seen less."""
    same = json.loads(json.dumps(record["recipe"])) == shipped.get("recipe")
    return not same or record["images_seen"] >= shipped.get("images_seen", 0)


def train_profile(profile: str, device: torch.device, output: Path | None = None, minutes: float = math.inf) -> None:
    """Train (or go on training) the network of ``profile``, then its classifier, measure both and write the checkpoints.

    With ``minutes`` the training of the network stops when the time is up and it is written as it is then; the same command goes on from there.
    They are written to ``output``, by default among the shipped ones: there a short run does not replace a network of the same recipe that has seen more images
    (it is written to runs/ instead), nor is a classifier trained again whose recipe has not changed.
    """
    from .cards import write_classifier_card, write_denoiser_card

    name, recipe = recipe_for(profile, device)
    asked, output = output, output or TRAINED
    output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    trainer = Trainer(recipe, RUNS / name, device)
    print(
        f"{'going on' if trainer.resume() else 'starting'} at {trainer.step * recipe.batch:,} of {recipe.images:,} images; "
        f"state and loss in {trainer.folder}",
        flush=True,
    )
    if trainer.step < recipe.steps:
        trainer.run(minutes=minutes)
    folder = output / recipe.dataset
    record = {
        "recipe": asdict(recipe),
        "images_seen": trainer.step * recipe.batch,
        "minutes": round(trainer.seconds / 60, 1),
        "machine": machine(device),
        "torch": torch.__version__,
        "data_fingerprint": trainer.train.fingerprint,
        "loss": trainer.log,
    }
    if asked is None and not is_better_trained(record, shipped_record(folder)):
        folder = RUNS / name / "checkpoint"
        print(f"the shipped network has seen more images: this one goes to {folder}; load_denoiser takes that path")
    save_denoiser(trainer.average, folder, record, recipe.file_dtype)
    classifier_folder = output / f"{recipe.dataset}-classifier"
    known = shipped_record(classifier_folder)
    if (
        any(known.get(key) != value for key, value in CLASSIFIERS[recipe.dataset].record().items() if key in known)
        or not known
    ):
        classifier, record = train_classifier(recipe.dataset, device)
        save_classifier(classifier, classifier_folder, record)
        write_classifier_card(classifier_folder, recipe.dataset)
    write_denoiser_card(folder, classifier_folder, recipe.dataset, device)
    print(f"wrote {folder}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m uturn_lib.training", description="Train the networks of a profile."
    )
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time, with the network as it is then"
    )
    parser.add_argument("--output", type=Path, default=None, help="folder that receives the checkpoints")
    options = parser.parse_args(arguments)
    try:
        if not options.minutes > 0:
            raise ValueError(f"minutes = {options.minutes} must be positive")
        train_profile(options.profile, checks.pick_device(options.device), options.output, options.minutes)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last saved state", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
