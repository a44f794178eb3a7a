"""How the shipped networks were made: `uturn train --profile laptop` (or `make train`)."""

from ..support.places import RUNS
from .classifier import (
    CLASSIFIERS,
    ClassifierRecipe,
    ClassifierTrainer,
    jitter,
    shift_and_mirror,
    train_classifier,
)
from .muon import Muon, matrices
from .recipes import DECAYS, RECIPES, Recipe, Stage, recipe_for
from .resumable import STOPPED, Resumable
from .shipping import is_better_trained, shipped_record, train_profile
from .trainer import LOSS_COLUMNS, Trainer, edm_loss, halves_are_fast

__all__ = [
    "CLASSIFIERS",
    "ClassifierRecipe",
    "ClassifierTrainer",
    "DECAYS",
    "LOSS_COLUMNS",
    "Muon",
    "RECIPES",
    "RUNS",
    "Recipe",
    "Resumable",
    "STOPPED",
    "Stage",
    "Trainer",
    "edm_loss",
    "halves_are_fast",
    "is_better_trained",
    "jitter",
    "matrices",
    "recipe_for",
    "shift_and_mirror",
    "shipped_record",
    "train_classifier",
    "train_profile",
]
