"""Experiments: pure functions with results that are cached on disk.

The key is made of the inputs and the code. Processes share the cache.

    @experiment("y0", calls=lambda bench, images, steps: len(images) * steps)
    def turned(bench, images, sigma_u, steps): ...
        return {"y0": ...}

declares one. Its name is the function's, its inputs are the bound arguments, its results the named
arrays. ``turned.chunks`` says what is to be computed without computing it; :func:`run_chunks` finds
every chunk in the cache or computes it, here or in the workers of an executor.

A cache file is an npz that holds the result arrays, the ``seconds`` and denoiser ``calls`` they
took, and as the JSON text ``parameters`` all inputs and the digest of the code (:mod:`code`). Its
name is the hash of that text: a changed input or formula can never meet an old result.

Several processes may work on the same list of chunks (two notebooks that need the same sweep): a
chunk that another one is computing is left for last, and then read. Where ``$UTURN_SCHEDULER``
names a Dask scheduler, the chunks that are missing are computed by its workers (:mod:`cluster`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import update_wrapper
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..support import checks, cluster
from ..support.files import DAMAGED, atomic_path, check_unpacked
from ..support.hashes import content_hash
from ..support.places import cache_folder
from ..support.progress import track
from . import code

Arrays = dict[str, np.ndarray]
T = TypeVar("T")

EXPERIMENTS: dict[str, Experiment] = {}
BESIDE = ("parameters", "seconds", "calls")  # stored with the arrays


class Experiment:
    """A pure function with results that are kept; made by :func:`experiment`.

    Calling it gives the arrays, from the cache or computed.
    """

    def __init__(
        self,
        function: Callable[..., Arrays],
        results: tuple[str, ...],
        calls: Callable[..., int] | None,
    ):
        update_wrapper(self, function)
        self.name, self.function, self.results, self.calls = (
            function.__name__,
            function,
            results,
            calls,
        )
        self.signature = inspect.signature(function)

    def __call__(self, *values: Any, **arguments: Any) -> Arrays:
        (chunk,) = self.chunks([self.signature.bind(*values, **arguments).arguments])
        return run_chunk(chunk)

    def __reduce__(self) -> str:
        return self.name  # a pickle names it, as it names a function

    def chunks(self, rows: Iterable[Mapping[str, Any]], **common: Any) -> list[Chunk]:
        """One chunk for every row of arguments, each with the ``common`` ones as well.

        Raises ``TypeError`` for arguments that the function does not take, ``ValueError`` for those
        that have no name in a key.
        """
        inputs_of: dict[int, Any] = {}  # what many chunks share is hashed once
        made = []
        for row in rows:
            bound = self.signature.bind(**common, **row)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            for name, value in arguments.items():
                if id(value) not in inputs_of:
                    inputs_of[id(value)] = (
                        described(f"{self.name}: {name}", value),
                        value,
                    )  # kept: ids are used again
            made.append(
                Chunk(
                    self,
                    arguments,
                    {name: inputs_of[id(value)][0] for name, value in arguments.items()},
                )
            )
        return made

    def code(self, arguments: Mapping[str, Any]) -> str:
        """Digest of the code of the function and of the denoisers among its arguments."""
        return code.digest(*dict.fromkeys([self.function, *code_behind(arguments)]))


def experiment(
    *results: str, calls: Callable[..., int] | None = None
) -> Callable[[Callable[..., Arrays]], Experiment]:
    """Declare a function as an experiment with ``results``, the names of its arrays.

    ``calls``: how often it asks its denoiser, times the images of each call, from those of its
    arguments that it names; None: not at all. Raises ``ValueError`` for a result that is called as
    what is stored beside them (:data:`BESIDE`), or a second experiment of the same name.
    """
    for name in results:
        if name in BESIDE:
            raise ValueError(
                f"results: the name {name!r} is taken; other names than "
                f"{', '.join(BESIDE)} are allowed"
            )

    def declare(function: Callable[..., Arrays]) -> Experiment:
        made = Experiment(function, results, calls)
        known = EXPERIMENTS.setdefault(made.name, made)
        if known.function.__module__ != function.__module__:
            raise ValueError(
                f"two experiments are called {made.name}, in {known.__module__} and "
                f"{function.__module__}"
            )
        EXPERIMENTS[made.name] = made
        return made

    return declare


def described(name: str, value: Any) -> Any:
    """``value`` as JSON for a key.

    Numbers and text as they are, tensors by their content, an object with a ``fingerprint`` by
    that, other chunks by their names, dataclasses by their fields. Raises ``ValueError`` for
    anything else: results could not be told apart.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.integer, np.floating)):
        return value.item()
    if isinstance(value, Tensor):
        return f"{content_hash(value)} {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Chunk):
        return value.name
    if getattr(value, "fingerprint", None):
        return value.fingerprint
    if isinstance(value, Mapping):
        return {str(key): described(f"{name}[{key!r}]", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(f"{name}[{number}]", inner) for number, inner in enumerate(value)]
    if is_dataclass(value):
        return {
            item.name: described(f"{name}.{item.name}", getattr(value, item.name))
            for item in fields(value)
        }
    raise ValueError(
        f"{name} is a {type(value).__name__} without a fingerprint: cached results could "
        "not be told apart; "
        "numbers, text, tensors, dataclasses, and what has a fingerprint are allowed"
    )


def code_behind(value: Any) -> Iterator[Callable]:
    """The functions and classes that make the denoisers among arguments, however nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from code_behind(inner)
    elif getattr(value, "fingerprint", None):
        yield from code.makers(value)


@dataclass(frozen=True)
class Chunk:
    """One piece of work: an experiment and its arguments; ``inputs`` are these as JSON.

    It can be pickled.

    An argument that is a chunk stands for its results: it is run first, or read.
    """

    experiment: Experiment
    arguments: dict[str, Any] = field(repr=False)
    inputs: dict[str, Any]

    @property
    def text(self) -> str:
        """Canonical JSON of everything the result depends on."""
        if "sent" in vars(self):
            return vars(self)["sent"]
        known = {"experiment": self.experiment.name, "code": self.experiment.code(self.arguments)}
        return json.dumps(known | self.inputs, sort_keys=True)

    def __getstate__(self) -> dict[str, Any]:
        """With its text: code typed in a notebook cannot be read by the process it is sent to."""
        return vars(self) | {"sent": self.text}

    @property
    def code_digest(self) -> str:
        """Digest of the library's part of the code, which every worker must have alike."""
        behind = [self.experiment.function, *code_behind(self.arguments)]
        return code.digest(*dict.fromkeys(filter(code.of_library, behind)))

    @property
    def name(self) -> str:
        """Hash of :attr:`text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        return cache_folder() / self.experiment.name / f"{self.name}.npz"

    @property
    def lock(self) -> FileLock:
        """Held by the process that computes the chunk; released by the system when it dies."""
        folder = cache_folder() / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.experiment.name}-{self.name}.lock")

    @property
    def calls(self) -> int:
        """Calls of the denoiser, times the images of each."""
        count = self.experiment.calls
        return (
            0
            if count is None
            else count(*(self.arguments[name] for name in inspect.signature(count).parameters))
        )

    def compute(self) -> tuple[Arrays, float]:
        """The arrays, computed now, and the seconds; ``ValueError`` unless they are as declared."""
        begun = time.monotonic()
        arguments = {
            k: run_chunk(value) if isinstance(value, Chunk) else value
            for k, value in self.arguments.items()
        }
        arrays = self.experiment.function(**arguments)
        if set(arrays) != set(self.experiment.results):
            raise ValueError(
                f"{self.experiment.name} gave {', '.join(arrays)}; "
                f"declared: {', '.join(self.experiment.results)}"
            )
        return arrays, time.monotonic() - begun


def read_cached(chunk: Chunk) -> Arrays | None:
    """The stored result, or None. A damaged file counts as missing, and is replaced.

    It is not removed here: another process may just have put a whole one in its place.
    """
    path, text = chunk.path, chunk.text
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            check_unpacked(stored.zip)
            if str(stored["parameters"]) != text:
                raise ValueError("it was computed from other inputs")
            return {name: stored[name] for name in chunk.experiment.results}
    except (*DAMAGED, OSError) as error:
        warnings.warn(f"{path} is damaged and will be computed again: {error}", stacklevel=2)
        return None


@overload
def run_chunk(chunk: Chunk, wait: Literal[True] = True) -> Arrays: ...


@overload
def run_chunk(chunk: Chunk, wait: bool) -> Arrays | None: ...


def run_chunk(chunk: Chunk, wait: bool = True) -> Arrays | None:
    """The result of a chunk, from the cache or computed and stored.

    With ``wait=False`` a chunk that another process is computing gives None instead. Raises
    ``OSError`` where the cache cannot be written.
    """
    arrays = read_cached(chunk)
    if arrays is not None:
        return arrays
    try:
        with _writable_cache():
            held = chunk.lock.acquire(timeout=-1 if wait else 0)
        with held:
            arrays = read_cached(chunk)  # it may have been stored while we waited
            if arrays is None:
                arrays, seconds = chunk.compute()
                _store(chunk, arrays, seconds)
            return arrays
    except Timeout:
        return None


@contextmanager
def _writable_cache() -> Iterator[None]:
    """Say of an ``OSError`` which folder could not be written, and what to do."""
    try:
        yield
    except Timeout:  # another process holds the lock; a TimeoutError is an OSError
        raise
    except OSError as error:
        raise OSError(
            f"results cannot be kept in {cache_folder()} ({error.strerror or error}): make room or "
            "allow writing there, or set UTURN_CACHE to another folder"
        ) from error


def _store(chunk: Chunk, arrays: Arrays, seconds: float) -> None:
    # not durable: a checksum in the file tells whether it is whole when it is read
    with _writable_cache(), atomic_path(chunk.path, durable=False) as temporary:
        about = zip(BESIDE, (chunk.text, seconds, chunk.calls), strict=True)
        stored: dict[str, Any] = {name: np.array(value) for name, value in about} | arrays
        np.savez(temporary, **stored)


def run_chunks(
    chunks: Sequence[Chunk], description: str, executor: Executor | None = None
) -> list[Arrays]:
    """All results in order.

    ``executor`` (concurrent.futures or anything with its ``map``) spreads them over workers;
    without one, those of ``$UTURN_SCHEDULER`` if it is set, else this process computes them.
    """
    if executor is not None:
        return list(track(executor.map(run_chunk, chunks), description, total=len(chunks)))
    found = _by_workers(chunks) if os.environ.get(cluster.VARIABLE) else _in_any_order(chunks)
    results = dict(track(found, description, total=len(chunks)))
    return [results[number] for number in range(len(chunks))]


def _in_any_order(chunks: Sequence[Chunk]) -> Iterator[tuple[int, Arrays]]:
    """Number and result of every chunk; those that other processes are computing come last."""
    elsewhere = []
    for number, chunk in enumerate(chunks):
        arrays = run_chunk(chunk, wait=False)
        if arrays is None:
            elsewhere.append(number)
        else:
            yield number, arrays
    for number in elsewhere:
        yield number, run_chunk(chunks[number])


def _by_workers(chunks: Sequence[Chunk]) -> Iterator[tuple[int, Arrays]]:
    """Number and result of every chunk; what is not in the cache is computed by the workers."""
    missing = []
    for number, chunk in enumerate(chunks):
        arrays = read_cached(chunk)
        if arrays is None:
            missing.append(number)
        else:
            yield number, arrays
    if not missing:
        return
    folder = cache_folder().resolve()
    with cluster.mark(folder) as mark:
        tasks = [_task(chunks[number], folder, mark) for number in missing]
        for position, found in cluster.spread(at_worker, tasks):
            chunk = chunks[missing[position]]
            if found is not None and not chunk.path.is_file():
                _store(chunk, *found)
            yield missing[position], found[0] if found else _arrived(chunk)


LARGE = 2**16  # bytes of an argument that is sent by itself, once for all chunks that share it


@dataclass(frozen=True)
class Sent:
    """Stands for an argument that travels beside its chunk; ``place`` in the list of these."""

    place: int


def _task(chunk: Chunk, folder: Path, mark: str) -> cluster.Task:
    """The task that computes ``chunk``; a level of a sweep does not send its images again."""
    shared: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for name, value in chunk.arguments.items():
        # a workbench is sent once as well: its denoiser is then made once in every worker
        large = getattr(value, "fingerprint", None) or _bytes(value) > LARGE
        arguments[name] = Sent(len(shared)) if large else value
        if large:
            known = json.dumps([name, chunk.inputs[name]], sort_keys=True)
            shared[f"argument-{hashlib.sha256(known.encode()).hexdigest()}"] = value
    small = _with(chunk, arguments)
    key = f"{chunk.experiment.name}-{chunk.name}"
    return cluster.Task(key, (small, chunk.code_digest, folder, mark), shared)


def _with(chunk: Chunk, arguments: dict[str, Any]) -> Chunk:
    """``chunk`` with arguments that are the same in another form: it keeps text and name."""
    made = replace(chunk, arguments=arguments)
    vars(made)["sent"] = chunk.text
    return made


def _bytes(value: Any) -> int:
    """Of the tensors in an argument, however nested."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value) and not isinstance(value, (type, Chunk)):
        value = [getattr(value, item.name) for item in fields(value)]
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


def at_worker(
    chunk: Chunk, code_digest: str, folder: Path, mark: str, shared: Sequence[Any]
) -> tuple[Arrays, float] | None:
    """What a worker does with a chunk: store the result in ``folder``, or return it.

    ``folder`` is the cache of the process that sent the chunk. Where its ``mark`` is seen there,
    the result is stored by this worker, and None is returned. Elsewhere the arrays and seconds are
    returned. Raises ``RuntimeError`` where the library of this worker is another version.
    """
    arguments = {
        name: shared[value.place] if isinstance(value, Sent) else value
        for name, value in chunk.arguments.items()
    }
    chunk = _with(chunk, arguments)
    if chunk.code_digest != code_digest:
        raise RuntimeError(
            f"{chunk.experiment.name}: a worker has another version of uturn_lib than the process "
            "that asks; install the same one and start the workers again"
        )
    with cluster.ONE_AT_A_TIME:
        cluster.take_gpu()
        if not (folder / mark).is_file():
            return chunk.compute()
        with cluster.variable("UTURN_CACHE", str(folder)):
            run_chunk(chunk)
        return None


def _arrived(chunk: Chunk, patience: float = 30.0) -> Arrays:
    """The result that a worker has stored.

    Network file systems show new files late; one that does not come is computed here.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        arrays = read_cached(chunk)
        if arrays is not None:
            return arrays
        if chunk.path.parent.is_dir():
            os.listdir(chunk.path.parent)  # makes NFS look again
        time.sleep(0.2)
    warnings.warn(f"{chunk.path} was stored by a worker and is not seen here", stacklevel=2)
    return run_chunk(chunk)


@dataclass(frozen=True)
class Plan(Generic[T]):
    """A sweep that is not run yet: its chunks, and what is made of their results."""

    chunks: list[Chunk]
    description: str
    gather: Callable[[list[Arrays]], T]

    def run(self, executor: Executor | None = None) -> T:
        """What the sweep gives, computed where it is not known."""
        return self.gather(run_chunks(self.chunks, self.description, executor))


class planned(Generic[T]):  # noqa: N801  a decorator
    """Decorator of a function that returns a :class:`Plan`: a call runs the plan.

    ``executor=`` spreads the chunks over workers; ``.plan`` gives the plan without running it.
    """

    def __init__(self, function: Callable[..., Plan[T]]):
        update_wrapper(self, function)
        self.plan = function

    def __call__(self, *values: Any, executor: Executor | None = None, **arguments: Any) -> T:
        return self.plan(*values, **arguments).run(executor)


def block_ranges(count: int, size: int) -> list[range]:
    """``count`` samples in ranges of ``size`` (the last may be shorter)."""
    size = checks.positive_int("chunk", size)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def stack_levels(results: list[Arrays], blocks: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Results of ``blocks`` chunks per level, level by level, as tensors (S, N, ...)."""
    rows = [results[i : i + blocks] for i in range(0, len(results), blocks)]
    return {
        name: torch.from_numpy(
            np.stack([np.concatenate([part[name] for part in row]) for row in rows])
        )
        for name in names
    }
