"""Pieces of work, each kept on disk by everything it depends on, and shared between processes.

A cache file is an npz that holds the result arrays and, as the JSON text ``parameters``, all inputs: data and network
fingerprints, noise level, steps, method, seed, sample indices, and the version of the computation. The file's name is the hash
of that text, so a changed input can never meet an old result. It also says how long the work took (``seconds``) and which state of the
library made it (``code``): with ``UTURN_CACHE_CODE=same`` only results of the present code are taken, as tests need it.

Several processes may work on the same list of pieces (two notebooks that need the same sweep, or the tasks of a cluster): a
piece that another one is computing is left for last, and then read.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..support import checks
from ..support.files import atomic_path
from ..support.places import PACKAGE, cache_folder
from ..support.progress import track

# Raise the number when a computation changes its meaning: results cached under the old one are then left alone.
VERSIONS = {
    "affinity": 2,
    "auxiliary_mixture": 2,
    "auxiliary_start": 2,
    "class_spectra": 1,
    "deviation": 2,
    "effect_map": 1,
    "empirical_retention": 1,
    "features": 2,
    "flow": 1,
    "flow_likelihood": 2,
    "from_start": 2,
    "generation_path": 1,
    "image_features": 1,
    "initial_laws": 2,
    "mixture_retention": 1,
    "paths": 2,
    "shapes": 1,
    "solver_errors": 1,
    "squared_distances": 2,
    "three_scores": 1,
    "transitions": 1,
    "u_turn": 2,
    "wall_times": 2,
}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """One piece of work: the name of the experiment and its inputs (JSON types only)."""

    experiment: str
    inputs: dict[str, Any]

    @property
    def text(self) -> str:
        """Canonical JSON of everything the result depends on."""
        return json.dumps(
            {"experiment": self.experiment, "version": VERSIONS[self.experiment], **self.inputs}, sort_keys=True
        )

    @property
    def name(self) -> str:
        """Hash of the inputs."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        return cache_folder() / self.experiment / f"{self.name}.npz"

    @property
    def lock(self) -> FileLock:
        """Held by the process that computes the chunk; the system releases it when that process dies."""
        folder = cache_folder() / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.experiment}-{self.name}.lock")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of what the library computes: its source as syntax trees, in which comments, docstrings and layout do not appear."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [statement for statement in body if not _is_text(statement)]
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {ast.dump(tree)}".encode())
    return digest.hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a mere string: a docstring."""
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _same_code_only() -> bool:
    """Whether results that another state of the library made must not be taken (``UTURN_CACHE_CODE`` = "same")."""
    wanted = os.environ.get("UTURN_CACHE_CODE") or "any"
    checks.one_of("UTURN_CACHE_CODE", wanted, ("any", "same"))
    return wanted == "same"


def read_cached(chunk: Chunk) -> Arrays | None:
    """The stored result, or None. A damaged file is removed and counts as missing."""
    same = _same_code_only()
    if not chunk.path.is_file():
        return None
    try:
        with np.load(chunk.path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop("parameters")) != chunk.text:
            raise ValueError("it was computed from other inputs")
        arrays.pop("seconds", None)
        code = str(arrays.pop("code", ""))
        return None if same and code != code_digest() else arrays
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        warnings.warn(f"{chunk.path} is damaged and will be computed again: {error}", stacklevel=2)
        chunk.path.unlink(missing_ok=True)
        return None


def run_chunk(compute: Callable[[Chunk], Arrays], chunk: Chunk, wait: bool = True) -> Arrays | None:
    """The result of a chunk, from the cache or computed and stored.

    With ``wait=False`` a chunk that another process is computing gives None instead.
    """
    arrays = read_cached(chunk)
    if arrays is not None:
        return arrays
    try:
        with chunk.lock.acquire(timeout=-1 if wait else 0):
            arrays = read_cached(chunk)  # it may have been stored while we waited
            if arrays is None:
                begun = time.monotonic()
                arrays = compute(chunk)
                _store(chunk, arrays, time.monotonic() - begun)
            return arrays
    except Timeout:
        return None


def _store(chunk: Chunk, arrays: Arrays, seconds: float) -> None:
    about = {"parameters": chunk.text, "code": code_digest(), "seconds": seconds}
    with atomic_path(chunk.path) as temporary:
        np.savez(temporary, **{name: np.array(value) for name, value in about.items()}, **arrays)


def run_chunks(
    compute: Callable[[Chunk], Arrays], chunks: list[Chunk], description: str, executor: Executor | None = None
) -> list[Arrays]:
    """All results in order. ``executor`` (concurrent.futures or anything with its ``map``) spreads them over workers."""
    if executor is not None:
        return list(track(executor.map(partial(run_chunk, compute), chunks), description, total=len(chunks)))
    results: dict[int, Arrays] = {}
    for number, arrays in track(_in_any_order(compute, chunks), description, total=len(chunks)):
        results[number] = arrays
    return [results[number] for number in range(len(chunks))]


def _in_any_order(compute: Callable[[Chunk], Arrays], chunks: list[Chunk]) -> Iterator[tuple[int, Arrays]]:
    """Number and result of every chunk; those that other processes are computing come last."""
    elsewhere = []
    for number, chunk in enumerate(chunks):
        arrays = run_chunk(compute, chunk, wait=False)
        if arrays is None:
            elsewhere.append(number)
        else:
            yield number, arrays
    for number in elsewhere:
        yield number, run_chunk(compute, chunks[number])


def remember(experiment: str, inputs: dict[str, Any], compute: Callable[[], Arrays]) -> Arrays:
    """The result of a single computation, from the cache or made by ``compute`` and stored under ``inputs``."""
    return run_chunk(lambda chunk: compute(), Chunk(experiment, inputs))


def block_ranges(count: int, size: int) -> list[range]:
    """``count`` samples in ranges of ``size`` (the last may be shorter)."""
    size = checks.positive_int("chunk", size)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def stack_levels(results: list[Arrays], blocks: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Results of ``blocks`` chunks per level, level by level, as tensors (S, N, ...)."""
    rows = [results[i : i + blocks] for i in range(0, len(results), blocks)]
    return {
        name: torch.from_numpy(np.stack([np.concatenate([part[name] for part in row]) for row in rows]))
        for name in names
    }
