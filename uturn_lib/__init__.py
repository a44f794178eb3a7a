"""U-Turn diffusion: the library behind the notebooks. docs/house.md shows where everything is.

Public names are listed in ``api.py`` and loaded when first used: ``uturn --help`` does not wait
for torch.

Threads: an OpenMP thread that waits for another one spins by default. On a busy machine that makes
small tensor operations many times slower. This package sets ``GOMP_SPINCOUNT``, so that a waiting
thread soon sleeps, unless ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` is set already. GNU's OpenMP
(torch on Linux) reads it once, when torch is loaded: if torch was imported before ``uturn_lib``,
set it in the shell.
"""

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if "OMP_WAIT_POLICY" not in os.environ:
    # Two processes of two threads on two busy cores: 9 calls of the digits network per second in
    # each, against 0.5 with 20000 or libgomp's default 300000. With 0 a busy machine is faster
    # still, but a quiet one is a tenth to a third slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# tqdm.auto warns when ipywidgets is absent; the text bar serves as well.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """A public name of ``api``, or a submodule (PEP 562)."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":  # the submodule exists and lacks a dependency
            raise
    # Not `from . import api`: that would ask this function for "api" again.
    return getattr(import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module(f"{__name__}.api").__all__})
