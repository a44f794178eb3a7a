"""Denoising score matching with the EDM weighting (Karras et al. 2022, Section 5).

Every batch is drawn from (seed, step): a resumed run takes the same steps.
"""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..networks.base import channels_last
from ..networks.unet import EDMDenoiser, make_unet
from ..support.files import atomic_path
from ..support.progress import bar
from .muon import Muon
from .recipes import DECAYS, Recipe
from .resumable import Resumable

LOSS_COLUMNS = (
    "images",
    "seconds",
    "train_loss",
    "held_out_loss",
    "best_average",
    "train_set_loss",
)


def edm_loss(
    denoiser: EDMDenoiser, images: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor
) -> Tensor:
    """Weighted denoising error per image (B,): ``(sigma^2 + s_d^2) / (sigma s_d)^2 * mean (D -
    x_0)^2``."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    weight = (sigma**2 + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data) ** 2
    denoised = denoiser.denoise(images + sigma * noise, sigma, labels)
    return (weight * (denoised - images) ** 2).flatten(1).mean(1)


def halves_are_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are faster than float32: GPUs, CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return True
    capabilities: dict[str, bool] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # torch 2.9 and newer
    return bool(capabilities.get("amx_tile") or capabilities.get("avx512_bf16"))


class Trainer(Resumable):
    """Adam or Muon with warm-up, decay and exponential moving averages (EMA) of the weights.

    Products are in bfloat16 under float32 weights where that is faster. ``compiled`` (default: on a
    GPU) compiles the loss.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, device: torch.device, compiled: bool | None = None
    ):
        super().__init__(recipe.dataset, recipe.fixed, folder, device)
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.denoiser = self._network()
        self.averages = [self._network() for _ in recipe.halflives]
        for average in self.averages:
            average.load_state_dict(self.denoiser.state_dict())
        self.optimizer = self._optimizer()
        self.step = 0
        self.log: list[dict[str, float]] = []
        # the digits network is too small to gain
        self.halved = halves_are_fast(device) and recipe.dataset != "mnist"
        self.loss = (
            torch.compile(edm_loss)
            if (device.type == "cuda" if compiled is None else compiled)
            else edm_loss
        )

    def _optimizer(self) -> torch.optim.Optimizer | Muon:
        rate = self.recipe.stages[0].learning_rate
        if self.recipe.optimizer == "muon":
            return Muon(self.denoiser, rate)
        return torch.optim.Adam(self.denoiser.parameters(), lr=rate, betas=(0.9, 0.99))

    @property
    def average(self) -> EDMDenoiser:
        """The EMA with the lowest held-out loss at the last comparison (at first the shortest)."""
        return self.averages[int(self.log[-1].get("best_average", 0)) if self.log else 0]

    def _network(self) -> EDMDenoiser:
        recipe = self.recipe
        classes = len(self.train.class_names)
        unet = make_unet(self.train.sample_shape, classes, recipe.unshuffle, **recipe.unet)
        denoiser = EDMDenoiser(
            unet, self.train.sample_shape, classes, recipe.sigma_data, recipe.unshuffle
        )
        return channels_last(denoiser, self.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, sigma, noise and labels of one step: a function of (seed, step) only."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        index = torch.from_numpy(rng.integers(len(self.train), size=recipe.batch))
        sigma = torch.from_numpy(
            np.exp(rng.normal(recipe.log_sigma_mean, recipe.log_sigma_std, recipe.batch))
        )
        noise = torch.from_numpy(
            rng.standard_normal((recipe.batch, *self.train.sample_shape), dtype=np.float32)
        )
        labels = self.train.labels[index].clone()
        labels[
            torch.from_numpy(rng.random(recipe.batch) < recipe.stage_at(step)[0].label_dropout)
        ] = len(self.train.class_names)
        images = self.train.images[index]
        if recipe.flips:
            flipped = torch.from_numpy(rng.random(recipe.batch) < 0.5)[:, None, None, None]
            images = torch.where(flipped, images.flip(-1), images)
        where = self.device
        return images.to(where), sigma.float().to(where), noise.to(where), labels.to(where)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then the stage's decay."""
        stage, within, steps = self.recipe.stage_at(step)
        warmup = min(1.0, (within + 1) * self.recipe.batch / stage.warmup_images)
        return stage.learning_rate * warmup * DECAYS[stage.decay](within / steps)

    def update(self) -> float:
        """One optimisation step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        # for dropout: a resumed run draws the same masks
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        batch = self.batch(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
            loss = self.loss(self.denoiser.train(), *batch).mean()
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"the loss is {loss.item()} at step {self.step}; resume with a lower learning rate"
            )
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
            )  # a short half-life at first: the EMA forgets the initial weights
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(average.parameters()), list(self.denoiser.parameters()), 1 - keep
                )

    @torch.no_grad()
    def validation(
        self, data: ImageSet, draws: int = 2, average: EDMDenoiser | None = None
    ) -> float:
        """Loss of an EMA on 500 images of ``data``, with the same noise every time."""
        average = (average or self.average).eval()
        images, labels = data.images[:500].to(self.device), data.labels[:500].to(self.device)
        rng = np.random.default_rng(1234)
        total = 0.0
        for _ in range(draws):
            quantiles = (rng.permutation(len(images)) + 0.5) / len(images)
            normal = math.sqrt(2) * torch.erfinv(torch.from_numpy(2 * quantiles - 1))
            sigma = (
                (self.recipe.log_sigma_mean + self.recipe.log_sigma_std * normal)
                .exp()
                .float()
                .to(self.device)
            )
            noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(
                self.device
            )
            for part in torch.arange(len(images), device=self.device).split(125):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
                    loss = edm_loss(average, images[part], sigma[part], noise[part], labels[part])
                total += loss.sum().item()
        return total / (draws * len(images))

    def measure(self) -> dict[str, float]:
        """Held-out loss of each EMA, the best of them, and its loss on training images."""
        held_out = [self.validation(self.test, average=average) for average in self.averages]
        best = int(np.argmin(held_out))
        found = {"held_out_loss": round(held_out[best], 5), "best_average": best}
        return found | {
            "train_set_loss": round(self.validation(self.train, average=self.averages[best]), 5)
        }

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "log": self.log,
            "denoiser": self.denoiser.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.step, self.log = state["step"], state["log"]
        self.denoiser.load_state_dict(state["denoiser"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self) -> None:
        """Write the state, and the losses as loss.csv."""
        super().save()
        with (
            atomic_path(self.folder / "loss.csv") as temporary,
            open(temporary, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, LOSS_COLUMNS)
            writer.writeheader()
            writer.writerows(self.log)

    def run(
        self, save_every: float = 60.0, log_images: int = 25_000, minutes: float = math.inf
    ) -> None:
        """Train to the end of the recipe, or for ``minutes``.

        The state is saved every ``save_every`` seconds; losses are measured every ``log_images``.
        """
        display = bar(
            self.recipe.steps, "training", initial=self.step, unit="step", unit_scale=True
        )
        losses: list[float] = []
        begun = saved = time.monotonic()
        self.start_clock()
        finished = False
        while not finished:
            losses.append(self.update())
            self.tick()
            now = time.monotonic()
            display.update()
            display.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
            finished = self.step == self.recipe.steps or now - begun > 60 * minutes
            before, images = (step * self.recipe.batch for step in (self.step - 1, self.step))
            if images // log_images != before // log_images or finished:
                self.log.append(self._row(images, losses))
                losses = []
                display.write(str(self.log[-1]))
            if now - saved > save_every or finished:
                self.save()
                saved = time.monotonic()
        display.close()

    def _row(self, images: int, losses: list[float]) -> dict[str, float]:
        """A row of the log: the mean of ``losses`` since the last one, and what is measured now."""
        train_loss = round(float(np.mean(losses)), 5)
        row = {"images": images, "seconds": round(self.seconds), "train_loss": train_loss}
        return row | self.measure()
