"""Where files are: beside the code in a checkout, in the user's folders for a wheel.

A relative ``$UTURN_CACHE`` or ``$UTURN_FIGURES`` starts from the checkout, else from the current
folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

PACKAGE = Path(__file__).resolve().parent.parent


def find_checkout(package: Path = PACKAGE) -> Path | None:
    """The parent of ``package`` if it holds pyproject.toml and notebooks/, else None."""
    root = package.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


CHECKOUT = find_checkout()
ROOT = CHECKOUT or user_data_path("uturn", appauthor=False)  # figures/ and runs/ are written here
CHECKPOINTS = CHECKOUT / "checkpoints" if CHECKOUT else PACKAGE / "shipped" / "checkpoints"
PUBLISHED = CHECKOUT / "notebooks" / "published" if CHECKOUT else PACKAGE / "shipped" / "published"
RUNS = ROOT / "runs"  # unfinished training
TRAINED = ROOT / "checkpoints"  # networks trained here; in a checkout they are the shipped ones


def from_environment(variable: str, usual: Path) -> Path:
    """The folder named by the environment's ``variable``, else ``usual``."""
    named = os.environ.get(variable)
    return (CHECKOUT or Path.cwd()) / named if named else usual


def cache_folder() -> Path:
    """Cached results: ``$UTURN_CACHE``, .cache/uturn in a checkout, or the user's cache folder."""
    usual = (
        CHECKOUT / ".cache" / "uturn"
        if CHECKOUT
        else user_cache_path("uturn", appauthor=False) / "results"
    )
    return from_environment("UTURN_CACHE", usual)


def figure_folder(profile: str) -> Path:
    """Where the figures and claims of a profile go: figures/<profile>, or below ``$UTURN_FIGURES``.

    All parts of a composite write into its one folder.
    """
    usual = (
        "figures/custom" if os.environ.get("UTURN_SCALE") == "smoke" else "figures"
    )  # a smoke run must not replace results
    return from_environment("UTURN_FIGURES", ROOT / usual) / profile.partition("/")[0]


def reference_folder(profile: str) -> Path:
    """Where the committed figures and claims of a profile are: figures/reference/<profile>."""
    return ROOT / "figures" / "reference" / profile.partition("/")[0]


def needs_checkout(what: str) -> Path:
    """The checkout; ``FileNotFoundError`` if the package was installed without one."""
    if CHECKOUT is None:
        raise FileNotFoundError(
            f"{what} are not part of the installed package: clone the repository and run the "
            "command there"
        )
    return CHECKOUT
