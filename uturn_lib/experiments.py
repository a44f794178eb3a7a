"""The sweeps that several figures share, in independent chunks, each cached on disk by everything it depends on.

A chunk is a block of ground truths at one noise level. Its cache file is an npz that holds the result arrays and, as the JSON
text ``parameters``, all inputs: data and network fingerprints, noise level, steps, method, seed, sample indices, and the
version of the computation. The file's name is the hash of that text, so a changed input can never meet an old result.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import checks
from .data import ImageSet, load_data
from .denoisers import Denoiser, sigma_range
from .files import atomic_path
from .measures import retention
from .measures.estimate import Estimate
from .measures.gaussianity import ks_statistic
from .noise import SIGMA_MIN, karras_sigmas, proportional_steps
from .profiles import Profile, cache_folder, load_profile
from .progress import track
from .sampling import Churn, reverse
from .seeding import NoiseStream, sample_seeds
from .uturn import u_turn

# Raise the number when a computation changes its meaning: results cached under the old one are then left alone.
VERSIONS = {"u_turn": 1, "generation_ks": 1}
# The reverse legs are run on Karras grids with these constants; they are part of every key.
GRID = {"sigma_min": SIGMA_MIN, "rho": 7.0}


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
    def path(self) -> Path:
        """Where the result is kept."""
        return cache_folder() / self.experiment / f"{hashlib.sha256(self.text.encode()).hexdigest()[:32]}.npz"


@dataclass
class Workbench:
    """What an experiment needs: data and a score. Made by :func:`prepare` from a profile, or by hand for exact cases.

    ``make_denoiser`` is called when the first chunk has to be computed: a warm run draws its figures without a network.
    ``fingerprint`` identifies the denoiser in the cache keys.
    """

    make_denoiser: Callable[[], Denoiser]
    fingerprint: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 64
    # Chunks name their images by fingerprint; the images and labels themselves are kept here.
    sources: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The denoiser, made once."""
        return self.make_denoiser()

    @classmethod
    def around(cls, denoiser: Denoiser, **options: Any) -> Workbench:
        """A workbench around a denoiser at hand, which must have a ``fingerprint``."""
        if not getattr(denoiser, "fingerprint", None):
            raise ValueError(
                "denoiser has no fingerprint: cached results could not be told apart from another denoiser's"
            )
        return cls(partial(_same, denoiser), denoiser.fingerprint, **options)


def _same(value: Any) -> Any:
    return value


@dataclass
class Study(Workbench):
    """A workbench with the profile's data and classifier."""

    profile: Profile = None
    train: ImageSet = None
    test: ImageSet = None

    @cached_property
    def classifier(self):
        """The classifier of the profile."""
        from .networks import load_classifier

        return load_classifier(self.profile.classifier, self.device)

    @property
    def ground_truths(self) -> ImageSet:
        """The held-out images that are turned: class-balanced, the same for every figure."""
        return self.test.take(self.profile.ground_truths)

    @property
    def reference(self) -> Tensor:
        """All images (train, then test) among which a nearest neighbour is sought, (M, C, H, W)."""
        return torch.cat([self.train.images, self.test.images])


def prepare(profile: str, device: str = "auto") -> Study:
    """Data, network and classifier of a profile on ``device`` ("auto": cuda when present, else cpu).

    Raises ``ValueError`` for an unknown profile or device, ``FileNotFoundError`` for a missing checkpoint.
    """
    from .networks import load_denoiser, shipped_fingerprint

    chosen, where = load_profile(profile), checks.pick_device(device)
    return Study(
        make_denoiser=partial(load_denoiser, chosen.checkpoint, where),
        fingerprint=shipped_fingerprint(chosen.checkpoint),
        device=where,
        batch_size=chosen.batch_size,
        profile=chosen,
        train=load_data(chosen.dataset, "train"),
        test=load_data(chosen.dataset, "test"),
    )


# ---------------------------------------------------------------------------------------------- cache and map


def read_cached(chunk: Chunk) -> dict[str, np.ndarray] | None:
    """The stored result, or None. A damaged file is removed and counts as missing."""
    if not chunk.path.is_file():
        return None
    try:
        with np.load(chunk.path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop("parameters")) != chunk.text:
            raise ValueError("it was computed from other inputs")
        return arrays
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        warnings.warn(f"{chunk.path} is damaged and will be computed again: {error}", stacklevel=2)
        chunk.path.unlink(missing_ok=True)
        return None


def run_chunk(bench: Workbench, chunk: Chunk) -> dict[str, np.ndarray]:
    """The result of a chunk, from the cache or computed and stored."""
    arrays = read_cached(chunk)
    if arrays is None:
        arrays = EXPERIMENTS[chunk.experiment](bench, **chunk.inputs)
        with atomic_path(chunk.path) as temporary:
            np.savez(temporary, parameters=np.array(chunk.text), **arrays)
    return arrays


def run_chunks(
    bench: Workbench, chunks: list[Chunk], description: str, executor: Executor | None = None
) -> list[dict[str, np.ndarray]]:
    """All results in order. ``executor`` (concurrent.futures or anything with its ``map``) spreads them over workers."""
    work = (executor.map if executor else map)(partial(run_chunk, bench), chunks)
    return list(track(work, description, total=len(chunks)))


# ------------------------------------------------------------------------------------------------ experiments


@dataclass(frozen=True)
class Sweep:
    """U-Turns of the same N ground truths at S noise levels.

    ``sigmas`` (S,); ``x0`` (N, *sample); ``labels`` (N,); ``denoised``, ``y0`` (S, N, *sample), float32.
    """

    sigmas: tuple[float, ...]
    x0: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    denoised: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)


def u_turn_sweep(
    bench: Workbench,
    starts: ImageSet,
    sigmas: tuple[float, ...],
    steps: int,
    method: str = "sde",
    seed: int = 0,
    conditional: bool = False,
    sigma_max: float = 80.0,
    chunk: int = 50,
    executor: Executor | None = None,
) -> Sweep:
    """U-Turn every image of ``starts`` at every level of ``sigmas``.

    ``steps`` are those of a full run from ``sigma_max``; a leg from sigma_u takes proportionally fewer (``noise.proportional_steps``). ``conditional`` passes the images' labels to the denoiser.
    """
    chunk = checks.positive_int("chunk", chunk)
    blocks = [range(first, min(first + chunk, len(starts))) for first in range(0, len(starts), chunk)]
    names = [
        _register(bench, starts.images[block.start : block.stop], starts.labels[block.start : block.stop])
        for block in blocks
    ]
    common = {"denoiser": bench.fingerprint, "grid": GRID, "method": method, "seed": seed, "conditional": conditional}
    chunks = [
        Chunk(
            "u_turn",
            {
                **common,
                "sigma_u": float(sigma),
                "steps": proportional_steps(sigma, steps, sigma_max),
                "images": name,
                "first": block.start,
            },
        )
        for sigma in sigmas
        for name, block in zip(names, blocks, strict=True)
    ]
    results = run_chunks(bench, chunks, f"U-Turns ({method}{', class-conditional' if conditional else ''})", executor)
    rows = [results[i : i + len(blocks)] for i in range(0, len(results), len(blocks))]
    stacked = {
        name: torch.from_numpy(np.stack([np.concatenate([part[name] for part in row]) for row in rows]))
        for name in ("denoised", "y0")
    }
    return Sweep(tuple(sigmas), starts.images, starts.labels, **stacked)


def _register(bench: Workbench, images: Tensor, labels: Tensor) -> str:
    """Keep a block where its chunks find it, under a hash of its content: a longer list of images reuses the same blocks."""
    digest = hashlib.sha256(images.contiguous().numpy().tobytes() + labels.contiguous().numpy().tobytes()).hexdigest()
    bench.sources[digest] = images, labels
    return digest


def _compute_u_turn(
    bench: Workbench,
    images: str,
    first: int,
    sigma_u: float,
    steps: int,
    method: str,
    seed: int,
    conditional: bool,
    **_only_in_the_key: object,
) -> dict[str, np.ndarray]:
    x0, labels = bench.sources[images]
    turn = u_turn(
        bench.denoiser,
        x0,
        sigma_u,
        steps,
        method,
        seed,
        labels=labels if conditional else None,
        indices=range(first, first + len(x0)),
        batch_size=bench.batch_size,
    )
    return {"denoised": turn.denoised.float().numpy(), "y0": turn.y0.float().numpy()}


@dataclass(frozen=True)
class Transitions:
    """T_m and T_s of a profile with everything they were read from; ``identity`` and ``same_class`` are (S, N) booleans."""

    sweep: Sweep = field(repr=False)
    identity: Tensor = field(repr=False)
    same_class: Tensor = field(repr=False)
    identity_curve: list[Estimate]
    class_curve: list[Estimate]
    t_m: Estimate
    t_s: Estimate
    log_gap: Estimate


def transitions(study: Study, seed: int = 0) -> Transitions:
    """The unconditional sweep over the profile's ground truths, and the identity and class retention of its outputs.

    Identity is sought among all images of the data set; the class is the profile's classifier's (definitions: ``measures.retention``).
    """
    starts, sigmas = study.ground_truths, study.profile.sigmas
    sweep = u_turn_sweep(
        study,
        starts,
        sigmas,
        study.profile.steps,
        seed=seed,
        sigma_max=study.profile.sigma_max,
        chunk=study.profile.chunk,
    )
    own = retention.nearest_index(starts.images, study.reference)  # where each ground truth stands in the reference
    identity = torch.stack([retention.identity_retained(y0, study.reference, own) for y0 in sweep.y0])
    same_class = torch.stack([retention.class_retained(study.classifier.predict(y0), starts.labels) for y0 in sweep.y0])
    level = retention.chance_level(len(starts.class_names))
    return Transitions(
        sweep,
        identity,
        same_class,
        retention.retention_curve(identity),
        retention.retention_curve(same_class),
        retention.transition(sigmas, identity),
        retention.transition(sigmas, same_class, level),
        retention.log_gap(sigmas, identity, same_class, level),
    )


def generation_ks(
    bench: Workbench,
    count: int,
    steps: int,
    sets: int = 4,
    sigma_max: float = 80.0,
    labels: Tensor | None = None,
    churn: Churn | None = None,
    seed: int = 0,
    mask: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """KS statistics of the pixels along full generations by the "edm" sampler, as in the authors' scripts.

    ``sets`` independent sets of ``count`` images are generated, so that the spread between sets says how sure a fraction is.
    ``labels`` (count,) classes or None; ``mask`` (*sample) booleans: the pixels to test, all by default. Returns the noise
    levels (S,) and the statistics (sets, S, pixels).
    """
    churn = churn or Churn()
    common = {
        "denoiser": bench.fingerprint,
        "grid": GRID,
        "count": count,
        "steps": steps,
        "sigma_max": sigma_max,
        "seed": seed,
        "labels": None if labels is None else labels.tolist(),
        "churn": asdict(churn),
        "mask": None if mask is None else mask.flatten().nonzero().flatten().tolist(),
    }
    chunks = [
        Chunk("generation_ks", {**common, "first": number * count})
        for number in range(checks.positive_int("sets", sets))
    ]
    results = run_chunks(bench, chunks, "generation and KS tests")
    return results[0]["sigma"], np.stack([result["statistics"] for result in results])


def _compute_generation_ks(
    bench: Workbench,
    first: int,
    count: int,
    steps: int,
    sigma_max: float,
    seed: int,
    labels: list[int] | None,
    churn: dict[str, float],
    mask: list[int] | None,
    **_only_in_the_key: object,
) -> dict[str, np.ndarray]:
    indices = range(first, first + count)
    checks.noise_level("sigma_max", sigma_max, highest=sigma_range(bench.denoiser)[1])
    noise = NoiseStream(sample_seeds(seed, indices, "start"), bench.denoiser.sample_shape, bench.device)
    classes = None if labels is None else torch.tensor(labels, device=bench.device)
    path = reverse(
        bench.denoiser,
        sigma_max * noise.normal(),
        karras_sigmas(steps, sigma_max),
        "edm",
        sample_seeds(seed, indices),
        classes,
        Churn(**churn),
    )
    sigmas, statistics = [], []
    for step in path:
        pixels = step.x.flatten(1) if mask is None else step.x.flatten(1)[:, mask]
        sigmas.append(step.sigma)
        statistics.append(ks_statistic(pixels).cpu().numpy())
    return {"sigma": np.array(sigmas), "statistics": np.array(statistics, dtype=np.float32)}


EXPERIMENTS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "u_turn": _compute_u_turn,
    "generation_ks": _compute_generation_ks,
}
