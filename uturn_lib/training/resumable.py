"""What every trainer shares: data, a state that can be resumed, a clock, a record."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ..data.sets import load_data
from ..support.files import DAMAGED, atomic_path
from ..support.machine import machine

STOPPED = 60.0  # seconds; a longer step means that the process was suspended: it is excluded
SCRAP_AGE = 3600.0  # seconds; no state takes so long to write


class Resumable(ABC):
    """Training of one network on ``dataset``; the state is kept in ``folder``/state.pt.

    ``identity`` is the part of the recipe that a saved state must share to be continued.
    """

    def __init__(self, dataset: str, identity: Any, folder: Path, device: torch.device):
        self.identity, self.folder, self.device = identity, folder, device
        self.train, self.test = load_data(dataset, "train"), load_data(dataset, "test")
        self.seconds = 0.0
        self._last = time.monotonic()

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Progress, weights and optimiser: tensors and numbers only, so that loading runs no
        code."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""

    def save(self) -> None:
        """Write the state, atomically."""
        state = {"recipe": self.identity, "seconds": self.seconds} | self.state()
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Load the saved state; False if there is none.

        Raises ``ValueError`` for the state of another recipe and for a damaged one.
        """
        path = self.folder / "state.pt"
        self._sweep()
        if not path.is_file():
            return False
        # On the CPU: optimisers keep their counters there, and the weights are copied anyway.
        with self._sound(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
            recipe, seconds = state["recipe"], float(state["seconds"])
        if recipe != self.identity:
            raise ValueError(
                f"{path} belongs to another recipe; remove {self.folder} to train anew"
            )
        with self._sound(path):
            self.load_state(state)
        self.seconds = seconds
        return True

    @contextmanager
    def _sound(self, path: Path) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            raise
        except (*DAMAGED, OSError) as error:  # torch makes "Invalid argument" of a cut file
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}); remove {self.folder} to "
                "train anew"
            ) from error

    def _sweep(self) -> None:
        """Remove what killed runs have left; a younger file may be that of a run at work."""
        for scrap in self.folder.glob(".state.*.pt"):
            with suppress(FileNotFoundError):  # another run may have renamed or removed it
                if time.time() - scrap.stat().st_mtime > SCRAP_AGE:
                    scrap.unlink()

    def start_clock(self) -> None:
        self._last = time.monotonic()

    def tick(self) -> None:
        """Add the time since the last tick to the training time."""
        now = time.monotonic()
        self.seconds, self._last = self.seconds + min(now - self._last, STOPPED), now

    def record(self) -> dict[str, Any]:
        """Training time and machine, for the checkpoint's config.json."""
        return {"minutes": round(self.seconds / 60, 1), "machine": machine(self.device)}
