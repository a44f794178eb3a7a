"""How the classifiers were trained."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.sets import load_data
from ..networks.base import freeze
from ..networks.classifier import Classifier
from ..support import checks
from ..support.files import atomic_path
from ..support.machine import machine
from ..support.places import RUNS
from ..support.progress import track


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
