"""Training of the classifiers of noisy images: a trunk of constant rate, then a final decay."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.base import channels_last
from ..networks.noise_classifier import SIGMA_RANGE, NoiseClassifier
from ..support import checks
from ..support.places import RUNS
from ..support.progress import bar
from .classifier import jitter, shift_and_mirror
from .muon import Muon, matrices
from .resumable import Resumable
from .trainer import halves_are_fast

WATCHED = (0.1, 0.5, 1.0, 2.0)  # levels of the log


@dataclass(frozen=True)
class NoiseRecipe:
    """What decides the weights.

    ``uniform_share`` of a batch has ln sigma uniform over the whole range, so that no level is
    unknown; the rest has ln sigma ~ N(``log_sigma_mean``, ``log_sigma_std``^2), where classes are
    decided: from nearly every image right to nearly chance. ``augment_below``: images with more
    noise are not augmented (None: all are). Rotated and shifted images have another law, which
    matters where only the coarsest features are left. ``halflife`` of the average of the
    weights in images. ``minutes`` is the usual duration, of which the final decay takes
    ``decay_share``: neither is part of what a saved state must share.
    """

    dataset: str
    augmentation: Callable[[Tensor, torch.Generator], Tensor]
    network: dict[str, Any]
    minutes: float
    log_sigma_mean: float
    log_sigma_std: float
    uniform_share: float = 0.2
    decay_share: float = 0.25
    batch: int = 256
    optimizer: str = "muon"
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup_images: int = 20_000
    halflife: int = 30_000
    seed: int = 0
    augment_below: float | None = None

    def __post_init__(self) -> None:
        checks.one_of("optimizer", self.optimizer, ("adam", "muon"))

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are as likely: the classifier is then made symmetric."""
        return self.augmentation is shift_and_mirror

    @property
    def file_dtype(self) -> torch.dtype:
        """Dtype of the matrices in the shipped file; loaded as float32."""
        return torch.float16

    def record(self) -> dict[str, Any]:
        """The recipe in JSON types."""
        return json.loads(json.dumps(asdict(self) | {"augmentation": self.augmentation.__name__}))

    @property
    def fixed(self) -> dict[str, Any]:
        """The part that a saved state must share: all but the duration."""
        record = self.record()
        free = ("minutes", "decay_share")
        return {key: record[key] for key in record if key not in free and record[key] is not None}


NOISE_CLASSIFIERS = {
    # After 88,000 images the bound fell through the level of T_s at 2.92 with augment_below = 2, at
    # 2.75 with every image rotated, scaled and shifted.
    "mnist": NoiseRecipe(
        "mnist",
        jitter,
        {"channels": (32, 64, 96), "blocks": (1, 1, 1)},
        minutes=5,
        log_sigma_mean=math.log(2.5),
        log_sigma_std=0.8,
        batch=128,
        halflife=10_000,
        warmup_images=5_000,
        augment_below=2.0,
    ),
    # 2.4 million parameters, in half precision 5 MB. In 3 minutes of one thread Muon reached
    # 61, 58, 51, 37 % right at sigma 0.1, 0.5, 1, 2 (54,500 images), AdamW with 3e-3
    # 47, 45, 41, 33 % (59,900 images).
    "cifar10": NoiseRecipe(
        "cifar10",
        shift_and_mirror,
        {"channels": (64, 160, 320), "blocks": (1, 2, 1)},
        minutes=150,
        log_sigma_mean=math.log(0.45),
        log_sigma_std=0.9,
    ),
}


def draw_sigmas(recipe: NoiseRecipe, generator: torch.Generator) -> Tensor:
    """Noise levels (batch,) of one step, one from each quantile (less variance between steps)."""
    low, high = map(math.log, SIGMA_RANGE)
    uniform = round(recipe.uniform_share * recipe.batch)
    u = torch.rand(recipe.batch, generator=generator)
    spread = (torch.arange(uniform) + u[:uniform]) / uniform
    normal = (torch.arange(recipe.batch - uniform) + u[uniform:]) / (recipe.batch - uniform)
    normal = math.sqrt(2) * torch.erfinv(2 * normal.clamp(1e-6, 1 - 1e-6) - 1)
    logs = torch.cat(
        [low + (high - low) * spread, recipe.log_sigma_mean + recipe.log_sigma_std * normal]
    )
    return logs.clamp(low, high).exp()


class NoiseTrainer(Resumable):
    """Cross entropy over noise levels; AdamW or Muon; an average of the weights is kept.

    The trunk has a constant rate and may be stopped and prolonged at any time. The decay starts
    from a copy of it in a folder of its own, so that the trunk can go on later from where it was.
    """

    def __init__(self, recipe: NoiseRecipe, folder: Path, device: torch.device):
        super().__init__(recipe.dataset, recipe.fixed, folder, device)
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.network, self.average = self._network(), self._network()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = self._optimizer()
        self.step = 0
        self.decay: tuple[int, int] | None = None  # first step and number of steps
        self.log: list[dict[str, float]] = []
        self.halved = halves_are_fast(device)
        self._order = lru_cache(maxsize=1)(self._new_order)

    def _network(self) -> NoiseClassifier:
        classes = len(self.train.class_names)
        network = NoiseClassifier(self.train.sample_shape, classes, **self.recipe.network)
        return channels_last(network, self.device)

    def _optimizer(self) -> torch.optim.Optimizer | Muon:
        recipe = self.recipe
        if recipe.optimizer == "muon":
            return Muon(self.network, recipe.learning_rate, recipe.weight_decay)
        inner, outer = matrices(self.network)
        groups = [
            {"params": inner, "weight_decay": recipe.weight_decay},
            {"params": outer, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99))

    def _new_order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.train), generator=generator)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy images, sigma and labels of one step: a function of (seed, step) only.

        Every image is seen once per epoch.
        """
        size = self.recipe.batch
        epoch, turn = divmod(step, len(self.train) // size)
        index = self._order(epoch)[turn * size : (turn + 1) * size]
        # Children of (seed, step), apart from those of (seed, epoch) above.
        (seed,) = np.random.SeedSequence([self.recipe.seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        plain = self.train.images[index]
        images = self.recipe.augmentation(plain, generator)
        sigma = draw_sigmas(self.recipe, generator)
        if self.recipe.augment_below is not None:
            low = (sigma < self.recipe.augment_below)[:, None, None, None]
            images = torch.where(low, images, plain)
        noise = torch.randn(images.shape, generator=generator)
        noisy = images + sigma[:, None, None, None] * noise
        where = self.device
        return noisy.to(where), sigma.to(where), self.train.labels[index].to(where)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, constant, and in the decay linear to zero."""
        rate = min(1.0, (step + 1) * self.recipe.batch / self.recipe.warmup_images)
        if self.decay is not None:
            first, steps = self.decay
            rate *= 1 - (step - first) / steps
        return self.recipe.learning_rate * rate

    def update(self) -> float:
        """One optimisation step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        noisy, sigma, labels = self.batch(self.step)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
            logits = self.network.train()(noisy, sigma)
        loss = F.cross_entropy(logits.float(), labels)
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"the loss is {loss.item()} at step {self.step}; use a lower learning rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        """Also the running statistics of the batch norms are averaged."""
        seen = self.step * self.recipe.batch
        # a short half-life at first: the average forgets the initial weights
        keep = 0.5 ** (self.recipe.batch / min(self.recipe.halflife, 0.05 * seen))
        new, old = self.network.state_dict(), self.average.state_dict()
        names = [name for name, value in new.items() if value.is_floating_point()]
        torch._foreach_lerp_([old[name] for name in names], [new[name] for name in names], 1 - keep)

    @torch.no_grad()
    def measure(self, count: int = 1000) -> dict[str, float]:
        """Accuracy of the average on held-out images at a few levels, the same noise each time."""
        images, labels = self.test.images[:count], self.test.labels[:count]
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1234))
        found = {}
        for sigma in WATCHED:
            right = 0
            for part in torch.arange(len(images)).split(250):
                noisy = (images[part] + sigma * noise[part]).to(self.device)
                levels = torch.full((len(part),), sigma, device=self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved):
                    logits = self.average.eval()(noisy, levels)
                right += int((logits.argmax(1).cpu() == labels[part]).sum())
            found[f"accuracy_{sigma:g}"] = right / len(images)
        return found

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "decay": self.decay,
            "log": self.log,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.step, self.decay, self.log = state["step"], state["decay"], state["log"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def run_trunk(self, minutes: float) -> None:
        """Train at constant rate until the training time reaches ``minutes`` in all."""
        self._run("trunk", lambda: self.seconds >= 60 * minutes)

    def run_decay(self, share: float) -> None:
        """Let the rate fall to zero; the last ``share`` of all steps.

        Resumes a decay that began at this step of the trunk.
        """
        first, steps = self.step, max(1, round(self.step * share / (1 - share)))
        self.folder = self.folder / f"decay-{first}"
        if not self.resume():
            self.decay = (first, steps)
        first, steps = self.decay or (first, steps)
        self._run("decay", lambda: self.step >= first + steps)

    def _run(
        self,
        stage: str,
        finished: Callable[[], bool],
        save_every: float = 60.0,
        log_images: int = 100_000,
    ) -> None:
        """Steps until ``finished``; the state is saved every ``save_every`` seconds."""
        display = bar(None, stage, initial=self.step, unit="step", unit_scale=True)
        losses: list[float] = []
        saved = time.monotonic()
        self.start_clock()
        while not finished():
            losses.append(self.update())
            self.tick()
            display.update()
            before, images = (step * self.recipe.batch for step in (self.step - 1, self.step))
            if images // log_images != before // log_images or finished():
                row = {"images": images, "seconds": round(self.seconds)}
                self.log.append(row | {"loss": round(float(np.mean(losses)), 4)} | self.measure())
                losses = []
                display.write(str(self.log[-1]))
            if time.monotonic() - saved > save_every or finished():
                self.save()
                saved = time.monotonic()
        display.close()


def run_recipe(
    recipe: NoiseRecipe, folder: Path, device: torch.device, minutes: float | None = None
) -> NoiseTrainer:
    """Train or resume ``recipe`` for ``minutes`` in all (default: the recipe's), decay included.

    Called again with more minutes the trunk goes on and is decayed anew; with fewer than it has
    had, it is decayed at once.
    """
    minutes = recipe.minutes if minutes is None or math.isinf(minutes) else minutes
    trainer = NoiseTrainer(recipe, folder, device)
    trainer.resume()
    trainer.run_trunk((1 - recipe.decay_share) * minutes)
    if trainer.step == 0:
        trainer.update()  # there is always something to decay
    trainer.run_decay(recipe.decay_share)
    return trainer


def train_noise_classifier(
    dataset: str, device: torch.device | None = None, minutes: float | None = None
) -> NoiseTrainer:
    """Train or resume the noise classifier of ``dataset``; state in runs/ (:func:`run_recipe`)."""
    checks.one_of("dataset", dataset, NOISE_CLASSIFIERS)
    folder = RUNS / f"{dataset}-noise-classifier"
    return run_recipe(NOISE_CLASSIFIERS[dataset], folder, device or torch.device("cpu"), minutes)
