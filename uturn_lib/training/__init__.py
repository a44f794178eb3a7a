"""How the shipped networks were made: `uturn train --profile laptop` (or `make train`)."""

from ..support.places import RUNS
from .calibration import KNOTS, calibrate, fit_temperatures
from .classifier import (
    CLASSIFIERS,
    ClassifierRecipe,
    ClassifierTrainer,
    jitter,
    shift_and_mirror,
    train_classifier,
)
from .memory import MemoryPlan, memory_curves, run_memory
from .muon import Muon, matrices
from .noise_trainer import (
    NOISE_CLASSIFIERS,
    NoiseRecipe,
    NoiseTrainer,
    draw_sigmas,
    run_recipe,
    train_noise_classifier,
)
from .recipes import DECAYS, RECIPES, Recipe, Stage, recipe_for
from .resumable import STOPPED, Resumable
from .shipping import (
    is_better_trained,
    ship_noise_classifier,
    shipped_record,
    train_profile,
    training_record,
)
from .trainer import LOSS_COLUMNS, Trainer, edm_loss, halves_are_fast

__all__ = [
    "CLASSIFIERS",
    "ClassifierRecipe",
    "ClassifierTrainer",
    "DECAYS",
    "KNOTS",
    "LOSS_COLUMNS",
    "MemoryPlan",
    "Muon",
    "NOISE_CLASSIFIERS",
    "NoiseRecipe",
    "NoiseTrainer",
    "RECIPES",
    "RUNS",
    "Recipe",
    "Resumable",
    "STOPPED",
    "Stage",
    "Trainer",
    "calibrate",
    "draw_sigmas",
    "edm_loss",
    "fit_temperatures",
    "halves_are_fast",
    "is_better_trained",
    "jitter",
    "matrices",
    "memory_curves",
    "recipe_for",
    "run_memory",
    "run_recipe",
    "shift_and_mirror",
    "ship_noise_classifier",
    "shipped_record",
    "train_classifier",
    "train_noise_classifier",
    "train_profile",
    "training_record",
]
