"""Training of the classifiers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.base import channels_last, freeze
from ..networks.classifier import Classifier
from ..support import checks
from ..support.places import RUNS
from ..support.progress import track
from .resumable import Resumable


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random rotations (12 degrees), scalings (10 %), shifts (2 of 32 pixels) of (B, C, H, W)."""
    count = len(images)
    angle, scale, right, down = (torch.rand(4, count, generator=generator) * 2 - 1) * torch.tensor(
        [[0.21], [0.1], [0.125], [0.125]]
    )
    cos, sin = angle.cos() / (1 + scale), angle.sin() / (1 + scale)
    matrices = torch.stack(
        [torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1
    )
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    # padding is 0, the background is -1
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def shift_and_mirror(images: Tensor, generator: torch.Generator, pixels: int = 3) -> Tensor:
    """Random shifts by up to ``pixels`` (reflected border) and flips of (B, C, H, W)."""
    count, _, height, width = images.shape
    down, right = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator)
    rows, columns = torch.arange(height) + down, torch.arange(width) + right  # (B, H), (B, W)
    columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    padded = F.pad(images, (pixels,) * 4, mode="reflect").permute(0, 2, 3, 1)
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ClassifierRecipe:
    """What decides a classifier's weights; AdamW with a one-cycle learning rate."""

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


class ClassifierTrainer(Resumable):
    """Trains a classifier and saves the state after each epoch; a resumed run takes the same
    steps."""

    def __init__(self, recipe: ClassifierRecipe, folder: Path, device: torch.device):
        super().__init__(recipe.dataset, repr(recipe.record()), folder, device)
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.classifier = Classifier(
            self.train.sample_shape, len(self.train.class_names), **recipe.network
        )
        channels_last(self.classifier, device)
        self.optimizer = torch.optim.AdamW(
            self.classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.rounds = len(self.train) // recipe.batch
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.learning_rate, total_steps=recipe.epochs * self.rounds
        )
        self.epoch = 0

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def update(self, images: Tensor, labels: Tensor) -> None:
        """One optimisation step on ``images`` (B, C, H, W) and ``labels`` (B,)."""
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(
            self.classifier(images),
            labels.to(self.device),
            label_smoothing=self.recipe.label_smoothing,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def run_epoch(self) -> None:
        """Every training image once; order and augmentation are drawn from (seed, epoch)."""
        recipe = self.recipe
        seed = recipe.seed * 1_000_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # for dropout
        self.classifier.train()
        order = torch.randperm(len(self.train), generator=generator)[: self.rounds * recipe.batch]
        description = f"classifier, epoch {self.epoch + 1} of {recipe.epochs}"
        for chosen in track(order.split(recipe.batch), description):
            images = recipe.augmentation(self.train.images[chosen], generator)
            self.update(images, self.train.labels[chosen])
            self.tick()
        self.epoch += 1

    def run(self, until: int | None = None) -> None:
        """Train to the end of the recipe, or for ``until`` epochs in all."""
        self.start_clock()
        while self.epoch < (self.recipe.epochs if until is None else until):
            self.run_epoch()
            self.save()

    def finished(self) -> tuple[Classifier, dict[str, Any]]:
        """The classifier (evaluation mode), and the record of its training and held-out
        accuracy."""
        freeze(self.classifier, self.device)
        correct = int((self.classifier.predict(self.test.images) == self.test.labels).sum())
        found = {"held_out_correct": correct, "held_out_count": len(self.test)}
        return self.classifier, self.recipe.record() | self.record() | found


def train_classifier(
    dataset: str, device: torch.device | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """Train or resume the classifier of ``dataset``; returns it with its record. State in runs/."""
    checks.one_of("dataset", dataset, CLASSIFIERS)
    trainer = ClassifierTrainer(
        CLASSIFIERS[dataset], RUNS / f"{dataset}-classifier", device or torch.device("cpu")
    )
    trainer.resume()
    trainer.run()
    return trainer.finished()
