"""When does memory come? Small networks on subsets of the training images, measured on the way.

`uturn train --part memory`: the state is kept in runs/, the curves go to :data:`CURVES`.
"""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet, load_data
from ..measures import retention
from ..measures.estimate import Estimate, bootstrap_mean, interval, resampled_sums
from ..networks.base import SIGMA_RANGE, channels_last
from ..networks.fully_connected import FullyConnected
from ..networks.unet import EDMDenoiser
from ..noise import proportional_steps
from ..support.files import atomic_path
from ..support.places import CHECKPOINTS
from ..uturn import artificial_start, u_turn
from .recipes import Recipe, Stage
from .trainer import Trainer, edm_loss

CURVES = CHECKPOINTS / "mnist-memory" / "curves.csv"
COLUMNS = ("training_images", "images_seen", "quantity", "value", "low", "high")

# Noise levels around those where images are lost: a network of this width cannot output fine noise.
RECIPE = Recipe(
    dataset="mnist",
    stages=(Stage(2**22, 2e-3, label_dropout=1.0, warmup_images=5_000, decay="none"),),
    unet=dict(width=512, layers=3),
    unshuffle=1,
    log_sigma_mean=0.2,
    log_sigma_std=1.0,
)


@dataclass(frozen=True)
class MemoryPlan:
    """Training images of each network, and the images seen at which all are measured.

    ``turned`` training and as many held-out images are turned at ``sigmas``; ``free`` images are
    generated; ``losses`` images enter the loss. ``steps`` are those of a full run. A network whose
    loss gap has reached ``enough`` is not trained further.
    """

    counts: tuple[int, ...] = (100, 250, 640, 1600, 4500)
    times: tuple[int, ...] = (*(1000 * 2**k for k in range(2, 9)), 384_000, 512_000)
    sigmas: tuple[float, ...] = (0.5, 0.8, 1.2, 1.8, 2.8, 4.2)
    turned: int = 40
    free: int = 60
    losses: int = 500
    steps: int = 24
    enough: float = 0.2
    seed: int = 0


class SubsetTrainer(Trainer):
    """A fully connected denoiser without labels on the first ``count`` images of ``take``."""

    def __init__(self, recipe: Recipe, count: int, folder: Path, device: torch.device):
        super().__init__(recipe, folder, device, compiled=False)
        self.train = self.train.take(count)
        self.identity = self.identity | {"training_images": count}

    def _network(self) -> EDMDenoiser:
        shape = self.train.sample_shape
        network = FullyConnected(shape, **self.recipe.unet)
        return channels_last(EDMDenoiser(network, shape, 0, self.recipe.sigma_data), self.device)

    def train_until(self, images: int) -> None:
        """Train until ``images`` have been seen, and save the state."""
        while self.step * self.recipe.batch < images:
            self.update()
        self.save()


class Bounded:
    """A denoiser whose failures (NaN, infinity) become 0: what diverges is no copy.

    A fully connected network has no bound far from the data it was trained on.
    """

    def __init__(self, denoiser: Any):
        self.denoiser, self.sample_shape = denoiser, denoiser.sample_shape

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.nan_to_num(self.denoiser(x, sigma), nan=0.0, posinf=0.0, neginf=0.0)


@torch.no_grad()
def image_losses(denoiser: EDMDenoiser, images: Tensor, recipe: Recipe, seed: int = 0) -> Tensor:
    """Training loss of each of ``images`` (N,), the mean over about 1000 / N noise levels."""
    rng, count = np.random.default_rng(seed), len(images)
    draws = max(2, 1000 // count)
    levels = (rng.permutation(count * draws) + 0.5) / (count * draws)
    normal = math.sqrt(2) * torch.erfinv(torch.from_numpy(2 * levels - 1))
    sigma = (recipe.log_sigma_mean + recipe.log_sigma_std * normal).exp().float()
    total = torch.zeros(count)
    for part in sigma.reshape(draws, count):
        noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
        total += edm_loss(denoiser, images, part, noise, torch.zeros(count, dtype=torch.int64))
    return total / draws


def relative_gap(training: Tensor, held_out: Tensor, seed: int = 0) -> Estimate:
    """``1 - mean(training) / mean(held_out)`` of losses (N,), (M,): 0 without memory, at most 1."""
    a = resampled_sums(training, seed) / len(training)
    b = resampled_sums(held_out, seed + 1) / len(held_out)
    value = 1 - float(training.double().mean() / held_out.double().mean())
    return Estimate(value, *interval(1 - a / b))


def identity_kept(
    denoiser: Any, starts: Tensor, reference: Tensor, plan: MemoryPlan, seed: int
) -> Tensor:
    """Identity retention (S, N) of U-Turns of ``starts`` at the plan's levels."""
    own = retention.nearest_index(starts, reference)
    outputs = [
        u_turn(denoiser, starts, sigma, steps=proportional_steps(sigma, plan.steps), seed=seed).y0
        for sigma in plan.sigmas
    ]
    return torch.stack([retention.identity_retained(y0, reference, own) for y0 in outputs])


def memorization_times(
    denoiser: Any, seen: Tensor, held_out: Tensor, reference: Tensor, plan: MemoryPlan
) -> dict[str, Estimate]:
    """T_m of training images ``seen`` and of ``held_out`` ones, and the log of their ratio."""
    centres = [
        retention.bootstrap_centres(
            plan.sigmas, identity_kept(denoiser, starts, reference, plan, seed), seed=seed
        )
        for seed, starts in enumerate((seen, held_out), start=plan.seed)
    ]
    seen_t, held_out_t = (retention.crossing(plan.sigmas, each) for each in centres)
    ratio = retention.gap(plan.sigmas, centres[1], centres[0])
    return {"T_m_training": seen_t, "T_m_held_out": held_out_t, "T_m_log_ratio": ratio}


def memorised_fraction(denoiser: Any, training: Tensor, plan: MemoryPlan) -> Estimate:
    """Share of freely generated images that are copies of a training image.

    The criterion is ``retention.copied``; for free samples it is that of Bonnaire et al. (2025,
    arXiv 2505.17638), our reading.
    """
    free = artificial_start(denoiser, plan.free, SIGMA_RANGE[1], steps=plan.steps, seed=plan.seed)
    outputs = free.y0.clamp(-9, 9)  # what has diverged stays far from all images
    return retention.retention_curve(retention.copied(outputs, training)[None])[0]


def measures(
    denoiser: Any, training: ImageSet, held_out: ImageSet, reference: Tensor, plan: MemoryPlan
) -> dict[str, Estimate]:
    """Everything that tells memory from generalisation, by name, with 95 % intervals."""
    a, b = (
        image_losses(denoiser, part.images[: plan.losses], RECIPE) for part in (training, held_out)
    )
    seen, unseen = training.take(plan.turned).images, held_out.take(plan.turned).images
    bounded = Bounded(denoiser)
    return {
        "training_loss": bootstrap_mean(a),
        "held_out_loss": bootstrap_mean(b),
        "loss_gap": relative_gap(a, b),
        "memorised": memorised_fraction(bounded, training.images, plan),
    } | memorization_times(bounded, seen, unseen, reference, plan)


def run_memory(
    plan: MemoryPlan, folder: Path, curves: Path, device: torch.device, minutes: float = math.inf
) -> None:
    """Train a network for each of the plan's ``counts``; write ``curves``, one row per measure.

    Networks take turns, so that a run stopped after ``minutes`` has measured all of them up to the
    same training time. The state of each is in ``folder``; the same call goes on from there.
    """
    end = time.monotonic() + 60 * minutes
    trainers = {n: SubsetTrainer(RECIPE, n, folder / f"{n}", device) for n in plan.counts}
    for trainer in trainers.values():
        trainer.resume()
    held_out = trainers[plan.counts[0]].test
    reference = torch.cat([load_data(RECIPE.dataset).images, held_out.images])
    rows = read_rows(curves) if curves.is_file() else []
    done = {(row["training_images"], row["images_seen"]) for row in rows}
    for images, count in ((t, n) for t in plan.times for n in plan.counts):
        if (f"{count}", f"{images}") in done or last_gap(rows, count) >= plan.enough:
            continue
        if time.monotonic() > end:
            return
        trainer = trainers[count]
        trainer.train_until(images)
        found = measures(trainer.average.eval(), trainer.train, held_out, reference, plan)
        rows += [row_of(count, images, name, value) for name, value in found.items()]
        write_rows(curves, rows)
        print(count, images, *(f"{name} {value}" for name, value in found.items()), flush=True)


def last_gap(rows: list[dict[str, str]], count: int) -> float:
    """The last loss gap of the network of ``count`` training images; 0 before the first."""
    own = (f"{count}", "loss_gap")
    gaps = [r["value"] for r in rows if (r["training_images"], r["quantity"]) == own]
    return float(gaps[-1]) if gaps else 0.0


def row_of(count: int, images: int, quantity: str, found: Estimate) -> dict[str, str]:
    """A row of the curves, as text."""
    numbers = (f"{number:.4g}" for number in (found.value, found.low, found.high))
    return dict(zip(COLUMNS, (f"{count}", f"{images}", quantity, *numbers), strict=True))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file of curves."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a file of curves, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def memory_curves(path: Path = CURVES) -> dict[int, dict[str, tuple[list[int], list[Estimate]]]]:
    """Curves by number of training images and quantity: images seen, and estimates.

    Raises ``FileNotFoundError`` where there is no such file.
    """
    curves: dict[int, dict[str, tuple[list[int], list[Estimate]]]] = {}
    for row in read_rows(path):
        found = curves.setdefault(int(row["training_images"]), {})
        times, values = found.setdefault(row["quantity"], ([], []))
        times.append(int(row["images_seen"]))
        values.append(Estimate(*(float(row[name]) for name in ("value", "low", "high"))))
    return curves


def negative(curve: tuple[list[int], list[Estimate]]) -> tuple[list[int], list[Estimate]]:
    """The curve turned over: what falls, rises."""
    times, values = curve
    return times, [Estimate(-found.value, -found.high, -found.low) for found in values]
