"""Train, measure and write the checkpoints of a profile."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..data.halves import held_out_halves
from ..networks.classifier import save_classifier
from ..networks.noise_classifier import save_noise_classifier
from ..networks.unet import save_denoiser
from ..support import checks
from ..support.files import read_json
from ..support.places import RUNS, TRAINED
from .calibration import calibrate
from .classifier import CLASSIFIERS, train_classifier
from .memory import CURVES, MemoryPlan, run_memory
from .memory import RECIPE as MEMORY
from .noise_trainer import NOISE_CLASSIFIERS, train_noise_classifier
from .recipes import recipe_for
from .trainer import Trainer


def shipped_record(folder: Path) -> dict[str, Any]:
    """The training record of the checkpoint in ``folder``; empty when there is none."""
    path = folder / "config.json"
    return read_json(path)["uturn"]["training"] if path.is_file() else {}


def is_better_trained(record: dict[str, Any], shipped: dict[str, Any]) -> bool:
    """Whether a network with ``record`` may replace the ``shipped`` one.

    Not if the recipe is the same and it has seen fewer images.
    """
    same = json.loads(json.dumps(record["recipe"])) == shipped.get("recipe")
    return not same or record["images_seen"] >= shipped.get("images_seen", 0)


def training_record(trainer: Trainer) -> dict[str, Any]:
    """How the network of ``trainer`` came about, for its config.json."""
    return {
        "recipe": asdict(trainer.recipe),
        "images_seen": trainer.step * trainer.recipe.batch,
        **trainer.record(),
        "torch": torch.__version__,
        "data_fingerprint": trainer.train.fingerprint,
        "loss": trainer.log,
    }


PARTS = ("all", "noise-classifier", "memory")


def train_profile(
    profile: str,
    device: torch.device,
    output: Path | None = None,
    minutes: float = math.inf,
    part: str = "all",
) -> None:
    """Train or resume the network of ``profile`` and its classifiers; measure and write them.

    ``part`` "noise-classifier": only that one, for ``minutes`` in all (default: its recipe's).
    "memory": the small networks of Figure B3, whose curves are written (digits only).

    After ``minutes`` the network is written as it is; the same command resumes. ``output`` defaults
    to the shipped checkpoints: there a network never replaces one of the same recipe that has seen
    more images (it goes to runs/), and a classifier is trained only if its recipe has changed.
    """
    from .card import write_classifier_card, write_denoiser_card

    checks.one_of("part", part, PARTS)
    name, recipe = recipe_for(profile, device)
    if part == "noise-classifier":
        ship_noise_classifier(recipe.dataset, device, output, minutes)
        return
    if part == "memory":
        checks.one_of("dataset of part 'memory'", recipe.dataset, (MEMORY.dataset,))
        curves = (output or TRAINED) / CURVES.parent.name / CURVES.name
        run_memory(MemoryPlan(), RUNS / CURVES.parent.name, curves, device, minutes)
        return
    asked, output = output, output or TRAINED
    output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    trainer = Trainer(recipe, RUNS / name, device)
    print(
        f"{'going on' if trainer.resume() else 'starting'} at {trainer.step * recipe.batch:,} of "
        f"{recipe.images:,} images; "
        f"state and loss in {trainer.folder}",
        flush=True,
    )
    if trainer.step < recipe.steps:
        trainer.run(minutes=minutes)
    folder = output / recipe.dataset
    record = training_record(trainer)
    if asked is None and not is_better_trained(record, shipped_record(folder)):
        folder = RUNS / name / "checkpoint"
        print(
            f"the shipped network has seen more images: this one goes to {folder}; load_denoiser "
            "takes that path"
        )
    save_denoiser(trainer.average, folder, record, recipe.file_dtype)
    classifier_folder = output / f"{recipe.dataset}-classifier"
    known = shipped_record(classifier_folder)
    if (
        any(
            known.get(key) != value
            for key, value in CLASSIFIERS[recipe.dataset].record().items()
            if key in known
        )
        or not known
    ):
        classifier, record = train_classifier(recipe.dataset, device)
        save_classifier(classifier, classifier_folder, record)
        write_classifier_card(classifier_folder, recipe.dataset)
    write_denoiser_card(folder, classifier_folder, recipe.dataset, device)
    print(f"wrote {folder}")
    noise_classifier = NOISE_CLASSIFIERS.get(recipe.dataset)
    shipped = shipped_record(output / f"{recipe.dataset}-noise-classifier")
    if noise_classifier is not None and shipped.get("recipe") != noise_classifier.fixed:
        ship_noise_classifier(recipe.dataset, device, asked)


def ship_noise_classifier(
    dataset: str, device: torch.device, output: Path | None = None, minutes: float | None = None
) -> Path:
    """Train or resume the noise classifier of ``dataset``, calibrate, measure and write it.

    ``minutes`` of training in all, by default the recipe's (``noise_trainer.run_recipe``).
    Calibrated on one half of the held-out images, measured on the other. Returns its folder in
    ``output``, as :func:`train_profile`; a shorter run does not replace a shipped longer one.
    """
    from .noise_card import measure_noise_classifier, write_noise_classifier_card

    recipe = NOISE_CLASSIFIERS[dataset]
    trainer = train_noise_classifier(dataset, device, minutes)
    evaluation, calibration = held_out_halves(trainer.test)
    classifier = calibrate(trainer.average, calibration, recipe.mirrored)
    record = {
        "recipe": trainer.recipe.fixed,
        "images_seen": trainer.step * recipe.batch,
        "decay_images": (trainer.decay or (0, 0))[1] * recipe.batch,
        **trainer.record(),
        "torch": torch.__version__,
        "data_fingerprint": trainer.train.fingerprint,
        "log": trainer.log,
        "held_out": measure_noise_classifier(classifier, evaluation),
    }
    name = f"{dataset}-noise-classifier"
    folder = (output or TRAINED) / name
    if output is None and not is_better_trained(record, shipped_record(folder)):
        folder = RUNS / name / "checkpoint"
        print(f"the shipped classifier has seen more images: this one goes to {folder}")
    save_noise_classifier(classifier, folder, record, recipe.file_dtype)
    write_noise_classifier_card(folder, dataset)
    print(f"wrote {folder}")
    return folder
