"""The sweeps that several figures share: each in independent chunks, cached on disk (``cache``) and computed once.

A chunk is a block of samples at one noise level. It is named by all its inputs, so the same sweep can be interrupted,
continued, extended, or spread over processes.

====================  ==========================================================================================
u_turn_sweep          the same ground truths turned at every level; ``multi_class``, ``conditional``, ``repeated`` are
                      the profile's
start_sweep           samples that start without a ground truth at every level: artificial start or G-Turn
initial_laws          full runs from several laws at sigma_max with the same seeds
generation_path       what happens along the authors' reverse process: KS statistics, norms, correlations
affinity              how affine a denoiser is at every level
transitions           T_m and T_s of the multi-class sweep; ``class_gate``: whether T_s may be read
late_levels           where a late start is compared with as many calls from sigma_max, by ``shortened_runs``
====================  ==========================================================================================
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cache import Arrays, Chunk, remember, run_chunks
from .claims.verdicts import Gate, class_gate_of, margin, quality_gate
from .data.sets import ImageSet, load_data
from .denoisers import (
    ClassConditional,
    Denoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    covariance_eigenvalues,
    sigma_range,
)
from .empirical import EmpiricalDenoiser
from .measures import affinity as affinity_measure
from .measures import retention
from .measures.estimate import Estimate
from .measures.gaussianity import ks_statistic
from .measures.quality import class_distance
from .networks.features import (
    FeatureExtractor,
    ImageNetClassifier,
    Naming,
    extractor_fingerprint,
    feature_naming,
    imagenet_extractor,
)
from .noise import GRID, proportional_steps
from .profiles import Profile, load_profile
from .sampling import Churn, final, reverse, sampling_grid
from .seeding import NoiseStream, sample_seeds
from .support import checks
from .support.files import read_json
from .uturn import INITIAL_LAWS, artificial_start, g_turn, initial_state, posterior_draws, u_turn


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
    # Chunks name images and Gaussians by fingerprint; the things themselves are kept here.
    sources: dict[str, Any] = field(default_factory=dict, repr=False)

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
        from .networks.classifier import load_classifier

        if self.profile.classifier == ImageNetClassifier.name:
            return ImageNetClassifier(self.device)
        return load_classifier(self.profile.classifier, self.device)

    def features(self, images: Tensor) -> Tensor:
        """The features (..., F) of ``images`` (..., C, H, W) in which the profile measures quality, remembered by content."""
        found = self._all_features(images)
        return found if self.profile.feature_components is None else found @ self._leading

    def _all_features(self, images: Tensor) -> Tensor:
        flat = images.reshape(-1, *images.shape[-3:])
        if self.profile.features == "classifier":
            found = self._judged(flat)["features"]
        else:
            inputs = {"images": _digest(flat), "extractor": extractor_fingerprint(self.profile.features)}
            made = remember("image_features", inputs, lambda: {"features": self.extractor.extract(flat).numpy()})
            found = made["features"]
        return torch.from_numpy(found).reshape(*images.shape[:-3], -1)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The network behind :meth:`features`, where it is not the classifier."""
        return imagenet_extractor(self.profile.features, self.device)

    @property
    def naming(self) -> Naming:
        """What may be said of distances in :meth:`features`."""
        return feature_naming(self.profile.features, self.profile.feature_components)

    @cached_property
    def _reference_set(self) -> ImageSet:
        count = self.profile.feature_reference
        return self.train if count is None else self.train.take(count)

    @cached_property
    def _leading(self) -> Tensor:
        """The leading principal directions (F, components) of the training images' features: more than a small set can say anything about."""
        _, vectors = torch.linalg.eigh(torch.cov(self._all_features(self._reference_set.images).double().T))
        return vectors[:, -self.profile.feature_components :].float()

    @cached_property
    def real_features(self) -> Tensor:
        """Features (M, F) of the training images that generated ones are compared with."""
        return self.features(self._reference_set.images)

    def quality_gate(self, free: Estimate, floor: Estimate) -> Gate:
        """May a change of quality be judged? From the Frechet distances of free samples and of as many held-out images (``verdicts.quality_gate``)."""
        return quality_gate(free, floor, class_distance(self.real_features, self._reference_set.labels))

    @property
    def quality_group(self) -> int:
        """Images of each class in a set that is thinned to equal classes: five eighths of what there is of each class."""
        return max(2, 5 * self.profile.ground_truths // (8 * len(self.test.class_names)))

    def predict(self, images: Tensor) -> Tensor:
        """The classifier's classes (...) of ``images`` (..., C, H, W), remembered by content."""
        flat = images.reshape(-1, *images.shape[-3:])
        return torch.from_numpy(self._judged(flat)["predicted"]).reshape(images.shape[:-3])

    def classifier_features(self, images: Tensor) -> Tensor:
        """The classifier's features (..., F) of ``images`` (..., C, H, W), remembered by content; :meth:`features` may look elsewhere."""
        found = self._judged(images.reshape(-1, *images.shape[-3:]))["features"]
        return torch.from_numpy(found).reshape(*images.shape[:-3], -1)

    def _judged(self, flat: Tensor) -> Arrays:
        def judge() -> Arrays:
            return {
                "features": self.classifier.extract(flat).numpy(),
                "predicted": self.classifier.predict(flat).numpy(),
            }

        return remember("features", {"images": _digest(flat), "classifier": self.classifier_fingerprint}, judge)

    def balanced(self, images: Tensor, per_class: int) -> Tensor:
        """Indices of ``per_class`` of ``images`` (N, C, H, W) from each class (the classifier's), classes in turn, first come first served.

        Where a class has too few the next unused images fill the gap. Sets of the same size and nearly the same class balance can be compared;
        how the classes of small sets happen to fall would otherwise be most of their distance.
        """
        checks.positive_int("per_class", per_class)
        predicted, classes = self.predict(images), len(self.test.class_names)
        if per_class * classes > len(images):
            raise ValueError(
                f"per_class = {per_class}: {classes} classes need {per_class * classes} of {len(images)} images"
            )
        members = [(predicted == k).nonzero().flatten()[:per_class].tolist() for k in range(classes)]
        used = {index for rows in members for index in rows}
        spare = (index for index in range(len(images)) if index not in used)
        filled = [rows + [next(spare) for _ in range(per_class - len(rows))] for rows in members]
        return torch.tensor(filled).T.flatten()

    @property
    def classifier_fingerprint(self) -> str:
        """Of the profile's classifier, from its configuration alone; or of the one that was set by hand."""
        from .networks.loader import shipped_fingerprint

        if self.profile.classifier == ImageNetClassifier.name:
            return ImageNetClassifier().fingerprint
        at_hand = self.__dict__.get("classifier")
        return at_hand.fingerprint if at_hand is not None else shipped_fingerprint(self.profile.classifier)

    @property
    def classifier_score(self) -> tuple[int, int]:
        """On how many held-out images the profile's classifier was right, of how many (its training record; judged here where it has none)."""
        from .networks.checkpoints import find_checkpoint

        if self.profile.classifier == ImageNetClassifier.name:
            return int((self.predict(self.test.images) == self.test.labels).sum()), len(self.test)
        record = read_json(find_checkpoint(self.profile.classifier) / "config.json")["uturn"]["training"]
        return record["held_out_correct"], record["held_out_count"]

    @property
    def ground_truths(self) -> ImageSet:
        """The held-out images that are turned: class-balanced, the same for every figure."""
        return self.test.take(self.profile.ground_truths)

    @cached_property
    def reference(self) -> Tensor:
        """All images (train, then test) among which a nearest neighbour is sought, (M, C, H, W)."""
        return torch.cat([self.train.images, self.test.images])

    @cached_property
    def gaussian(self) -> GaussianDenoiser:
        """The Gaussian of the training images."""
        return GaussianDenoiser.fit(self.train.images)


def prepare(profile: str, device: str = "auto") -> Study:
    """Data, network and classifier of a profile on ``device`` ("auto": cuda when present, else cpu).

    Raises ``ValueError`` for an unknown profile or device, ``FileNotFoundError`` for a missing checkpoint.
    """
    from .networks.base import accelerated_fingerprint
    from .networks.loader import shipped_fingerprint

    where = checks.pick_device(device)
    chosen = load_profile(profile).on(where.type)
    fast = where.type == "cuda"
    fingerprint = shipped_fingerprint(chosen.checkpoint)
    train, test = load_data(chosen.dataset, "train"), load_data(chosen.dataset, "test")
    classes = len(train.class_names)
    if len(test.class_names) != classes:
        raise ValueError(
            f"{chosen.dataset} has {classes} classes of training and {len(test.class_names)} of held-out images"
        )
    return Study(
        make_denoiser=partial(
            _make_denoiser, chosen.checkpoint, where, fast, 0 if chosen.labels == "never" else classes
        ),
        fingerprint=accelerated_fingerprint(fingerprint) if fast else fingerprint,
        device=where,
        batch_size=chosen.batch_size,
        profile=chosen,
        train=train,
        test=test,
    )


def second_bench(study: Study) -> Workbench:
    """The network of the profile's second data set (Figure 16). Raises ``ValueError`` where the profile has none."""
    from .networks.base import accelerated_fingerprint
    from .networks.loader import shipped_fingerprint

    name, fast = study.profile.second_checkpoint, study.device.type == "cuda"
    if name is None:
        raise ValueError(f"profile {study.profile.name} has no second_checkpoint")
    fingerprint = shipped_fingerprint(name)
    return Workbench(
        partial(_make_denoiser, name, study.device, fast),
        accelerated_fingerprint(fingerprint) if fast else fingerprint,
        study.device,
        study.profile.batch_size,
    )


def _make_denoiser(checkpoint: str, device: torch.device, fast: bool, classes: int = 0) -> Denoiser:
    denoiser = _load_network(checkpoint, device, fast)
    if classes and denoiser.num_classes != classes:  # its labels would mean something else
        raise ValueError(f"checkpoint {checkpoint} knows {denoiser.num_classes} classes, the data have {classes}")
    return denoiser


def _load_network(checkpoint: str, device: torch.device, fast: bool) -> Denoiser:
    from .networks.base import accelerate
    from .networks.loader import load_denoiser

    if not fast:
        return load_denoiser(checkpoint, device)
    denoiser = accelerate(load_denoiser(checkpoint, device))
    try:  # compilation happens at the first call, and needs a compiler that not every machine has
        denoiser(torch.zeros(2, *denoiser.sample_shape, device=device), 1.0)
    except Exception as error:  # whatever the compiler raises; what the network itself raises comes again without it
        warnings.warn(f"the network is not compiled ({type(error).__name__}): slower, same results", stacklevel=2)
        denoiser = accelerate(load_denoiser(checkpoint, device), compiled=False)
    return denoiser


def _compute(bench: Workbench, chunk: Chunk) -> Arrays:
    return EXPERIMENTS[chunk.experiment](bench, **chunk.inputs)


def _run(bench: Workbench, chunks: list[Chunk], description: str, executor: Executor | None = None) -> list[Arrays]:
    return run_chunks(partial(_compute, bench), chunks, description, executor)


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _register(bench: Workbench, *tensors: Tensor) -> str:
    """Keep tensors where chunks find them, under a hash of their content: a longer list of images reuses the same blocks."""
    name = _digest(*tensors)
    bench.sources[name] = tensors
    return name


def _blocks(count: int, size: int) -> list[range]:
    size = checks.positive_int("chunk", size)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _stack(results: list[Arrays], blocks: int, names: Sequence[str]) -> dict[str, Tensor]:
    """Results of ``blocks`` chunks per level, level by level, as tensors (S, N, ...)."""
    rows = [results[i : i + blocks] for i in range(0, len(results), blocks)]
    return {
        name: torch.from_numpy(np.stack([np.concatenate([part[name] for part in row]) for row in rows]))
        for name in names
    }


# ---------------------------------------------------------------------------------------------------- U-Turns


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
    independent: bool = False,
) -> Sweep:
    """U-Turn every image of ``starts`` at every level of ``sigmas``.

    ``steps`` are those of a full run from ``sigma_max``; a leg from sigma_u takes proportionally fewer
    (``noise.proportional_steps``). ``conditional`` passes the images' labels to the denoiser. A ground truth meets the same noise
    at every level, which makes curves smooth; with ``independent`` every level has noise of its own, as statistics over
    levels need it.
    """
    blocks = _blocks(len(starts), chunk)
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
                "first": block.start + (level * len(starts) if independent else 0),
            },
        )
        for level, sigma in enumerate(sigmas)
        for name, block in zip(names, blocks, strict=True)
    ]
    results = _run(bench, chunks, f"U-Turns ({method}{', class-conditional' if conditional else ''})", executor)
    return Sweep(tuple(sigmas), starts.images, starts.labels, **_stack(results, len(blocks), ("denoised", "y0")))


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
) -> Arrays:
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


def profile_sweep(
    study: Study, starts: ImageSet | None = None, sigmas: Sequence[float] | None = None, **options: Any
) -> Sweep:
    """:func:`u_turn_sweep` at the profile's scale; by default over its ground truths and levels."""
    profile = study.profile
    options = {"steps": profile.steps, "sigma_max": profile.sigma_max, "chunk": profile.chunk} | options
    sigmas = profile.sigmas if sigmas is None else sigmas
    return u_turn_sweep(study, starts or study.ground_truths, tuple(float(s) for s in sigmas), **options)


def multi_class(study: Study, seed: int = 0) -> Sweep:
    """The profile's ground truths through the single score of all classes (no labels given; given to a network that knows no other way)."""
    return profile_sweep(study, seed=seed, conditional=study.profile.labels == "always")


def conditional(study: Study, seed: int = 0) -> Sweep:
    """The profile's ground truths, each with its label given to the class-conditional score."""
    return profile_sweep(study, seed=seed, conditional=True)


def deterministic(
    study: Study,
    seed: int = 0,
    sigmas: Sequence[float] | None = None,
    count: int | None = None,
    steps: int | None = None,
) -> Sweep:
    """Ground truths through the probability-flow ODE, single score of all classes; by default the profile's ``ode_ground_truths`` and
    ``ode_steps`` at all its levels."""
    starts = study.test.take(count or study.profile.ode_ground_truths)
    return profile_sweep(study, starts, sigmas, steps=steps or study.profile.ode_steps, method="ode", seed=seed)


def fresh_u_turn(bench: Workbench, x0: Tensor, sigma_u: float, steps: int, method: str, seed: int = 0) -> Tensor:
    """Outputs of U-Turns that are computed now, not read: to ask whether a run can be repeated."""
    return u_turn(bench.denoiser, x0, sigma_u, steps, method, seed, batch_size=bench.batch_size).y0


@dataclass(frozen=True)
class Repeats:
    """R independent U-Turns of each of N ground truths at S levels; ``y0`` (S, N, R, *sample)."""

    sigmas: tuple[float, ...]
    x0: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)


def repeated(
    study: Study,
    seed: int = 0,
    conditional: bool = False,
    sigmas: Sequence[float] | None = None,
    count: int | None = None,
    repeats: int | None = None,
) -> Repeats:
    """Many U-Turns of a few ground truths, independent at every level.

    By default the profile's ``repeated`` ground truths, ``repeats`` and ``repeat_sigmas``.
    """
    profile = study.profile
    few, repeats = study.test.take(count or profile.repeated), repeats or profile.repeats
    many = replace(few, images=few.images.repeat_interleave(repeats, 0), labels=few.labels.repeat_interleave(repeats))
    levels = tuple(sigmas or profile.repeat_sigmas)
    sweep = profile_sweep(study, many, levels, seed=seed, conditional=conditional, independent=True)
    shape = (len(levels), len(few), repeats, *few.sample_shape)
    return Repeats(levels, few.images, few.labels, sweep.y0.reshape(shape))


def return_paths(
    bench: Workbench,
    x_u: Tensor,
    sigma_u: float,
    steps: int,
    shown: int = 4,
    seed: int = 0,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What the denoiser believes on the way back from ``x_u`` (B, *sample): D at ``shown`` equally spaced steps
    (shown, B, *sample), and the outputs y_0 (B, *sample). ``labels`` (B,) or None."""
    inputs = {"denoiser": bench.fingerprint, "grid": GRID, "x_u": _digest(x_u), "sigma_u": sigma_u, "steps": steps}
    if labels is not None:
        inputs["labels"] = labels.tolist()

    def compute() -> Arrays:
        seeds = sample_seeds(seed, range(len(x_u)))
        classes = None if labels is None else labels.to(bench.device)
        states = list(
            reverse(
                bench.denoiser,
                x_u.double().to(bench.device),
                sampling_grid(bench.denoiser, steps, sigma_u, "sde"),
                "sde",
                seeds,
                classes,
            )
        )
        chosen = [states[int(part * (len(states) - 1) / shown)].denoised for part in range(shown)]
        return {"denoised": torch.stack(chosen).float().cpu().numpy(), "y0": states[-1].x.float().cpu().numpy()}

    stored = remember("paths", inputs | {"shown": shown, "seed": seed}, compute)
    return torch.from_numpy(stored["denoised"]), torch.from_numpy(stored["y0"])


# ------------------------------------------------------------------------------------------------- other starts


def start_sweep(
    study: Study,
    kind: str,
    sigmas: Sequence[float] | None = None,
    labels: Tensor | None = None,
    count: int | None = None,
    seed: int = 0,
    steps: Sequence[int] | None = None,
) -> Tensor:
    """Outputs (S, N, *sample) of ``kind`` "artificial" (N(0, sigma_u^2)) or "gaussian" (G-Turn) starts at every level.

    ``labels`` (N,) for class-conditional samples. By default as many as there are ground truths, at ``profile.quality_sigmas``, with
    steps as dense as those of the full run; ``steps`` (S,) sets them otherwise.
    """
    checks.one_of("kind", kind, ("artificial", "gaussian"))
    profile = study.profile
    count = profile.ground_truths if count is None else checks.positive_int("count", count)
    sigmas = [float(s) for s in (profile.quality_sigmas if sigmas is None else sigmas)]
    if labels is not None:
        labels = checks.labels(torch.as_tensor(labels), count, len(study.train.class_names))
    blocks = _blocks(count, profile.chunk)
    if steps is None:
        steps = [proportional_steps(sigma, profile.steps, profile.sigma_max) for sigma in sigmas]
    steps = [checks.positive_int("steps", number) for number in steps]
    if not sigmas or len(steps) != len(sigmas):
        raise ValueError(
            f"steps: {len(steps)} numbers for {len(sigmas)} noise levels; at least one, and one of each, is needed"
        )
    chunks = []
    for sigma, number in zip(sigmas, steps, strict=True):
        for block in blocks:
            inputs = {
                "denoiser": study.fingerprint,
                "grid": GRID,
                "gaussian": study.gaussian.fingerprint if kind == "gaussian" else None,
                "sigma_u": float(sigma),
                "steps": number,
                "seed": seed,
                "labels": None if labels is None else labels[block.start : block.stop].tolist(),
                "first": block.start,
                "count": len(block),
            }
            chunks.append(Chunk("from_start", inputs))
    what = "class-conditional" if labels is not None else "multi-class"
    results = _run(study, chunks, f"{'G-Turns' if kind == 'gaussian' else 'artificial starts'} ({what})")
    return _stack(results, len(blocks), ("y0",))["y0"]


def _compute_from_start(
    study: Study,
    gaussian: str | None,
    sigma_u: float,
    steps: int,
    seed: int,
    labels: list[int] | None,
    first: int,
    count: int,
    **_only_in_the_key: object,
) -> Arrays:
    options = {
        "steps": steps,
        "seed": seed,
        "labels": None if labels is None else torch.tensor(labels),
        "indices": range(first, first + count),
        "batch_size": study.batch_size,
    }
    if gaussian is None:
        turned = artificial_start(study.denoiser, count, sigma_u, **options)
    else:
        turned = g_turn(study.denoiser, study.gaussian, count, sigma_u, **options)
    return {"y0": turned.y0.cpu().numpy()}


def shortened_runs(study: Study, steps: Sequence[int], labels: Tensor | None = None, seed: int = 0) -> Tensor:
    """Full runs from sigma_max with fewer steps, (len(steps), N, *sample): what the same number of calls gives without a late start."""
    levels = [study.profile.sigma_max] * len(steps)
    return start_sweep(study, "artificial", levels, labels, seed=seed, steps=list(steps))


def initial_laws(study: Study, laws: Sequence[str], method: str = "sde", seed: int = 0) -> Tensor:
    """Full runs from sigma_max that differ in the law of their start only: outputs (laws, N, *sample), paired by their seeds.

    ``laws``: names of ``uturn.INITIAL_LAWS``; "data" uses training images. N is the profile's number of ground truths.
    """
    profile, starts = study.profile, study.train.take(study.profile.ground_truths)
    images, labels = starts.images, starts.labels if profile.labels == "always" else None
    for law in laws:
        checks.one_of("law", law, INITIAL_LAWS)
    name, blocks = _register(study, images), _blocks(len(images), profile.chunk)
    others = [law for law in laws if law != "noise" or method != "sde"]
    chunks = [
        Chunk(
            "initial_laws",
            {
                "denoiser": study.fingerprint,
                "grid": GRID,
                "law": law,
                "gaussian": study.gaussian.fingerprint,
                "images": name,
                "sigma_max": profile.sigma_max,
                "steps": profile.steps,
                "method": method,
                "seed": seed,
                "first": block.start,
                "count": len(block),
            }
            | ({} if labels is None else {"labels": labels[block.start : block.stop].tolist()}),
        )
        for law in others
        for block in blocks
    ]
    results = _run(study, chunks, f"full runs from {len(laws)} laws ({method})")
    outputs = dict(zip(others, _stack(results, len(blocks), ("y0",))["y0"], strict=True)) if others else {}
    if len(others) < len(laws):  # the usual start is the full run that other figures show as well
        outputs["noise"] = start_sweep(study, "artificial", [profile.sigma_max], labels, len(images), seed)[0]
    return torch.stack([outputs[law] for law in laws])


def _compute_initial_laws(
    study: Study,
    law: str,
    images: str,
    sigma_max: float,
    steps: int,
    method: str,
    seed: int,
    first: int,
    count: int,
    labels: list[int] | None = None,
    **_only_in_the_key: object,
) -> Arrays:
    indices = range(first, first + count)
    classes = None if labels is None else torch.tensor(labels, device=study.device)
    x0 = study.sources[images][0][first : first + count]
    eps = NoiseStream(sample_seeds(seed, indices, "start"), x0.shape[1:]).normal()
    start = initial_state(law, eps, sigma_max, study.gaussian, x0).to(study.device)
    path = reverse(
        study.denoiser,
        start,
        sampling_grid(study.denoiser, steps, sigma_max, method),
        method,
        sample_seeds(seed, indices),
        classes,
    )
    return {"y0": final(path).float().cpu().numpy()}


# ------------------------------------------------------------------------------------------- along a generation


@dataclass(frozen=True)
class GenerationPath:
    """What was read off along K independent sets of B generated images at S noise levels.

    ``sigmas`` (S,): levels of the states; ``raised`` (S,): levels to which churn lifted them before the network was asked.
    ``ks`` (K, S, pixels): KS statistics. Per image, (K, S, B): ``score_norm`` = |sigma s| and ``denoised_norm`` = |D| where the network
    was asked; ``with_first``, ``with_last``: inner products of the state with the first and the last state of its path.
    """

    sigmas: np.ndarray
    raised: np.ndarray
    ks: np.ndarray = field(repr=False)
    score_norm: np.ndarray = field(repr=False)
    denoised_norm: np.ndarray = field(repr=False)
    with_first: np.ndarray = field(repr=False)
    with_last: np.ndarray = field(repr=False)


def generation_path(
    bench: Workbench,
    count: int,
    steps: int,
    sets: int = 4,
    sigma_max: float = 80.0,
    labels: Tensor | None = None,
    churn: Churn | None = None,
    seed: int = 0,
    mask: Tensor | None = None,
) -> GenerationPath:
    """Follow full generations by the "edm" sampler, as in the authors' scripts.

    ``sets`` independent sets of ``count`` images are generated, so that the spread between sets says how sure a fraction is.
    ``labels`` (count,) classes or None; ``mask`` (*sample) booleans: the pixels to test, all by default.
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
        Chunk("generation_path", {**common, "first": number * count})
        for number in range(checks.positive_int("sets", sets))
    ]
    results = _run(bench, chunks, "generation by the authors' sampler")
    per_image = ("ks", "score_norm", "denoised_norm", "with_first", "with_last")
    stacked = {name: np.stack([result[name] for result in results]) for name in per_image}
    return GenerationPath(results[0]["sigmas"], results[0]["raised"], **stacked)


def profile_generation(study: Study, seed: int = 0) -> tuple[GenerationPath, Tensor]:
    """:func:`generation_path` at the profile's scale, classes in turn; with the mask of the pixels that vary in the data.

    Pixels that (nearly) never change, such as the border of digits, say nothing about the model: below 5 % of half the range.
    """
    profile = study.profile
    alive = study.train.images.std(0) > 0.05
    labels = torch.arange(profile.ks_samples) % len(study.train.class_names)
    settings = (profile.ks_samples, profile.ks_steps, profile.ks_sets, profile.sigma_max, labels)
    return generation_path(study, *settings, seed=seed, mask=alive), alive


def _compute_generation_path(
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
) -> Arrays:
    indices = range(first, first + count)
    checks.noise_level("sigma_max", sigma_max, highest=sigma_range(bench.denoiser)[1])
    noise = NoiseStream(sample_seeds(seed, indices, "start"), bench.denoiser.sample_shape, bench.device)
    classes = None if labels is None else torch.tensor(labels, device=bench.device)
    path = reverse(
        bench.denoiser,
        sigma_max * noise.normal(),
        sampling_grid(bench.denoiser, steps, sigma_max),
        "edm",
        sample_seeds(seed, indices),
        classes,
        Churn(**churn),
    )
    found: dict[str, list] = {name: [] for name in ("sigmas", "raised", "ks", "score_norm", "denoised_norm", "x")}
    for step in path:
        flat = step.x.flatten(1)
        found["sigmas"].append(step.sigma)
        found["raised"].append(step.asked_sigma)
        found["ks"].append(ks_statistic(flat if mask is None else flat[:, mask]).cpu())
        slope = (step.asked_x - step.denoised) / max(step.asked_sigma, 1e-300)  # -sigma * score
        found["score_norm"].append(slope.flatten(1).norm(dim=1).cpu())
        found["denoised_norm"].append(step.denoised.flatten(1).norm(dim=1).cpu())
        found["x"].append(flat.cpu())
    states = torch.stack(found.pop("x"))
    arrays = {name: np.array([float(v) for v in found.pop(name)]) for name in ("sigmas", "raised")}
    arrays |= {name: torch.stack(values).float().numpy() for name, values in found.items()}
    for name, state in (("with_first", states[0]), ("with_last", states[-1])):
        arrays[name] = torch.einsum("sbd,bd->sb", states, state).float().numpy()
    return arrays


@dataclass(frozen=True)
class Deviation:
    """Network and memorising score along N deterministic paths of the network, at S noise levels.

    ``sigmas`` (S,); ``network``, ``memorising``, ``apart`` (S, N): |D_network|, |D_empirical| and |D_network - D_empirical| at the same x; ``from_mean`` (S, N): |D_empirical - mean|,
    what a denoiser that always answers the mean of the data would be away.
    """

    sigmas: np.ndarray
    network: np.ndarray = field(repr=False)
    memorising: np.ndarray = field(repr=False)
    apart: np.ndarray = field(repr=False)
    from_mean: np.ndarray = field(repr=False)


def deviation(
    bench: Workbench,
    stored: ImageSet,
    count: int,
    steps: int,
    sigma_max: float = 80.0,
    seed: int = 0,
    labels: Tensor | None = None,
    path: str = "model",
) -> Deviation:
    """How far the score is from the one that memorises ``stored``, along probability-flow paths ("ode", from noise at ``sigma_max``).

    What Chen et al. (2023, arXiv 2305.19947) call the score deviation; they step with Euler's method, this with Heun's. ``path``: "model", the network's own paths, or
    "optimal", those of the memorising score from the same starts.
    With ``labels`` (count,) each path is of one class, and is compared with the score that memorises the images of that class.
    """
    names = ("network", "memorising", "apart", "from_mean")
    inputs = {"denoiser": bench.fingerprint, "grid": GRID, "stored": stored.fingerprint, "count": count, "steps": steps}
    checks.one_of("path", path, ("model", "optimal"))
    if path == "optimal":
        inputs["path"] = path
        if labels is not None:
            raise ValueError("labels: the paths of the memorising score of all images have no class")
    if labels is not None:
        labels = checks.labels(labels, count, len(stored.class_names))
        inputs["labels"] = labels.tolist()

    def compute() -> Arrays:
        seeds = sample_seeds(seed, range(count))
        classes = None if labels is None else labels.to(bench.device)
        if labels is None:
            memories = [(slice(None), EmpiricalDenoiser(stored.images))]
        else:
            memories = [(labels == k, EmpiricalDenoiser(stored.images[stored.labels == k])) for k in labels.unique()]
        start = sigma_max * NoiseStream(sample_seeds(seed, range(count), "start"), stored.sample_shape).normal()
        guide = bench.denoiser if path == "model" else memories[0][1]
        walked = reverse(
            guide,
            start.to(bench.device),
            sampling_grid(bench.denoiser, steps, sigma_max),
            "ode",
            seeds,
            classes,
        )
        found: dict[str, list] = {name: [] for name in ("sigmas", *names)}
        mean = sum(part.sum(0) for part in stored.images.split(4096)) / len(stored)
        for step in walked:
            if step.sigma == 0:  # there D is x itself
                break
            state = step.x.float().cpu()
            if path == "model":
                believed = step.denoised.float().cpu()
            else:
                with torch.no_grad():
                    believed = bench.denoiser(step.x, step.sigma).float().cpu()
            remembered = torch.empty_like(believed)
            for rows, memory in memories if path == "model" else ():
                remembered[rows] = memory(state[rows], step.sigma)
            if path == "optimal":
                remembered = step.denoised.float().cpu()
            found["sigmas"].append(step.sigma)
            for name, images in zip(
                names, (believed, remembered, believed - remembered, remembered - mean), strict=True
            ):
                found[name].append(images.flatten(1).norm(dim=1).numpy())
        return {name: np.array(values) for name, values in found.items()}

    stored_arrays = remember("deviation", inputs | {"sigma_max": sigma_max, "seed": seed}, compute)
    return Deviation(**{name: stored_arrays[name] for name in ("sigmas", *names)})


# ----------------------------------------------------------------------------------------------------- affinity


@dataclass(frozen=True)
class Affinity:
    """How affine a denoiser is: what is left of it at S levels after three affine guesses, on N held-out samples.

    ``residuals`` maps "components" (a slope per principal component), "ridge" (a full matrix) and "gaussian" (no regression: the
    fitted Gaussian's own D) to squared residuals (S, N); ``total`` (S, N): squared distance of D from its mean; ``slopes`` (S, P) of the
    components beside ``eigenvalues`` (P,).
    """

    sigmas: tuple[float, ...]
    residuals: dict[str, np.ndarray] = field(repr=False)
    total: np.ndarray = field(repr=False)
    slopes: np.ndarray = field(repr=False)
    eigenvalues: np.ndarray = field(repr=False)


def affinity(
    bench: Workbench,
    gaussian: GaussianDenoiser,
    fit_images: Tensor,
    held_out: Tensor,
    sigmas: Sequence[float],
    seed: int = 0,
    ridge_components: int = 200,
) -> Affinity:
    """Regress D(x, sigma) on x = x_0 + sigma eps at every level: fitted on ``fit_images``, judged on ``held_out`` (``measures.affinity``)."""
    common = {
        "denoiser": bench.fingerprint,
        "gaussian": gaussian.fingerprint,
        "images": _register(bench, fit_images, held_out),
        "fit": len(fit_images),
        "seed": seed,
        "ridge_components": ridge_components,
    }
    bench.sources[gaussian.fingerprint] = gaussian
    chunks = [Chunk("affinity", {**common, "sigma": float(sigma)}) for sigma in sigmas]
    results = _run(bench, chunks, "score affinity")
    residuals = {name: np.stack([r[name] for r in results]) for name in affinity_measure.BASES}
    total, slopes = (np.stack([r[name] for r in results]) for name in ("total", "slopes"))
    return Affinity(tuple(sigmas), residuals, total, slopes, gaussian.eigenvalues.numpy())


def _compute_affinity(
    bench: Workbench,
    gaussian: str,
    images: str,
    sigma: float,
    seed: int,
    ridge_components: int,
    **_only_in_the_key: object,
) -> Arrays:
    fit_images, held_out = bench.sources[images]
    x0 = torch.cat([fit_images, held_out])
    eps = NoiseStream(sample_seeds(seed, range(len(x0)), "forward"), x0.shape[1:], dtype=torch.float32).normal()
    x = x0 + sigma * eps
    with torch.no_grad():
        denoised = torch.cat([bench.denoiser(part.to(bench.device), sigma).cpu() for part in x.split(bench.batch_size)])
    count = len(fit_images)
    found = affinity_measure.affine_residuals(
        x[:count], denoised[:count], x[count:], denoised[count:], bench.sources[gaussian], sigma, ridge_components
    )
    return {name: value.astype(np.float32) for name, value in found.items()}


# -------------------------------------------------------------------------------------------------- transitions


@dataclass(frozen=True)
class Transitions:
    """T_m and T_s of a profile with everything they were read from.

    ``identity``, ``same_class`` (S, N) booleans; ``predicted`` (S, N) classes of the outputs.
    """

    sweep: Sweep = field(repr=False)
    identity: Tensor = field(repr=False)
    same_class: Tensor = field(repr=False)
    predicted: Tensor = field(repr=False)
    identity_curve: list[Estimate]
    class_curve: list[Estimate]
    t_m: Estimate
    t_s: Estimate
    log_gap: Estimate


def transitions(study: Study, seed: int = 0, sweep: Sweep | None = None) -> Transitions:
    """Identity and class retention of a sweep's outputs, T_m and T_s; by default of the unconditional sweep of the profile.

    Identity is sought among all images of the data set; the class is the profile's classifier's (definitions: ``measures.retention``).
    """
    sweep = multi_class(study, seed) if sweep is None else sweep
    reference, level = study.reference, retention.chance_level(len(study.test.class_names))
    inputs = {
        "outputs": _digest(sweep.y0),
        "starts": _digest(sweep.x0, sweep.labels),
        "reference": _digest(reference),
        "classifier": study.classifier_fingerprint,
        "sigmas": list(sweep.sigmas),
        "level": level,
    }

    def judge() -> Arrays:
        own = retention.nearest_index(sweep.x0, reference)  # where each ground truth stands in the reference
        identity = torch.stack([retention.identity_retained(y0, reference, own) for y0 in sweep.y0])
        predicted = torch.stack([study.classifier.predict(y0) for y0 in sweep.y0])
        same = retention.class_retained(predicted, sweep.labels)
        return {
            "identity": identity.numpy(),
            "predicted": predicted.numpy(),
            "identity_centres": retention.bootstrap_centres(sweep.sigmas, identity, 0.5),
            "class_centres": retention.bootstrap_centres(sweep.sigmas, same, level),
        }

    stored = remember("transitions", inputs, judge)
    identity, predicted = torch.from_numpy(stored["identity"]), torch.from_numpy(stored["predicted"])
    same_class = retention.class_retained(predicted, sweep.labels)
    centres_m, centres_s = stored["identity_centres"], stored["class_centres"]
    return Transitions(
        sweep,
        identity,
        same_class,
        predicted,
        retention.retention_curve(identity),
        retention.retention_curve(same_class),
        retention.crossing(sweep.sigmas, centres_m),
        retention.crossing(sweep.sigmas, centres_s),
        retention.gap(sweep.sigmas, centres_m, centres_s),
    )


def class_gate(study: Study, seed: int = 0) -> Gate:
    """May T_s of the multi-class sweep be read? From class-conditional U-Turns at the levels between T_m and T_s (``verdicts.class_gate_of``)."""
    if study.profile.labels == "never":
        return Gate("the network takes no labels: whether it would paint the class it is told cannot be seen")
    times = transitions(study, seed)
    start, end = min(times.t_m.value, times.t_s.value), max(times.t_m.value, times.t_s.high)
    sigmas = times.sweep.sigmas
    first = next((k for k, s in enumerate(sigmas[:-2]) if s > start), len(sigmas) - 2)
    last = next((k for k, s in enumerate(sigmas) if s >= end), len(sigmas) - 1)
    levels = sigmas[first : max(first + 1, last) + 1]  # two at least
    told = profile_sweep(study, sigmas=levels, seed=seed, conditional=True)
    kept = transitions(study, seed, told).class_curve
    return class_gate_of(levels, kept, retention.chance_level(len(study.test.class_names)))


def late_levels(study: Study, t_m: float, count: int = 3) -> dict[float, int]:
    """The levels at which a late start is judged, with its network calls: the ``count`` smallest quality levels from 2 T_m on that take at most 1/1.2 of
    the full run's calls.

    Lower ones give copies of the ground truths, higher ones save less. Raises ``ValueError`` where no quality level is cheap enough.
    """
    profile = study.profile
    calls = {float(s): proportional_steps(s, profile.steps, profile.sigma_max) for s in sorted(profile.quality_sigmas)}
    cheap = {s: n for s, n in calls.items() if n * margin("fewer calls") <= profile.steps}
    if not cheap:
        raise ValueError(f"profile {profile.name}: no quality level takes 1/{margin('fewer calls'):g} of the calls")
    beyond = {s: n for s, n in cheap.items() if s >= 2 * t_m} or dict([max(cheap.items())])
    return dict(list(beyond.items())[:count])


def class_spectra(study: Study) -> tuple[Tensor, Tensor]:
    """Means (K, *sample) and covariance eigenvalues (K, D) of the training images of each class."""

    def compute() -> Arrays:
        images, labels = study.train.images, study.train.labels
        means, eigenvalues = [], []
        for k in range(
            len(study.train.class_names)
        ):  # one covariance at a time: all would take a gigabyte for photographs
            means.append(images[labels == k].double().mean(0).numpy())
            eigenvalues.append(covariance_eigenvalues(images[labels == k]).numpy())
        return {"means": np.stack(means), "eigenvalues": np.stack(eigenvalues)}

    stored = remember("class_spectra", {"data": study.train.fingerprint}, compute)
    return torch.from_numpy(stored["means"]), torch.from_numpy(stored["eigenvalues"])


def mixture_bench(study: Study) -> Workbench:
    """A workbench around :func:`class_mixture`, which is fitted only when a chunk has to be computed."""
    name = hashlib.sha256(f"class mixture of {study.train.fingerprint}".encode()).hexdigest()
    return Workbench(partial(class_mixture, study), name, batch_size=500)


def class_mixture(study: Study) -> GaussianMixtureDenoiser:
    """The Gaussian mixture with a component per class, fitted to the training images."""
    fitted = ClassConditional.fit(study.train.images, study.train.labels).denoisers
    return GaussianMixtureDenoiser.of(study.train.labels.bincount().double() / len(study.train), fitted)


def mixture_retention(study: Study, sigmas: Sequence[float], count: int = 500, seed: int = 0) -> np.ndarray:
    """Class retention that the class mixture predicts, per sample, (S, N): ``sum_k p(k | x_u)^2`` for x_u drawn from the mixture.

    Nothing is trained and nothing is fitted to U-Turns: theory, from means and covariances.
    """
    inputs = {"data": study.train.fingerprint, "sigmas": [float(s) for s in sigmas], "count": count, "seed": seed}

    def compute() -> Arrays:
        mixture = class_mixture(study)
        x0, _ = mixture.sample(sample_seeds(seed, range(count), "start"))
        eps = NoiseStream(sample_seeds(seed, range(count), "forward"), x0.shape[1:]).normal()
        kept = [retention.agreement(mixture.responsibilities(x0 + s * eps, s)) for s in sigmas]
        return {"kept": torch.stack(kept).numpy()}

    return remember("mixture_retention", inputs, compute)["kept"]


def three_scores(study: Study, seed: int = 0) -> dict[tuple[str, str], Tensor]:
    """Identity retention (S, N) booleans at the profile's ``repeat_sigmas`` for three scores from two kinds of starts.

    Keys: ("network" | "empirical" | "gaussian", "training" | "held out"). The network's outputs are U-Turns; those of the empirical and
    the Gaussian score of the training images are exact draws from their posterior, without a sampler.
    """
    profile, reference = study.profile, study.reference
    starts = {"training": study.train.take(profile.ground_truths), "held out": study.ground_truths}
    levels = profile.repeat_sigmas
    kept = {}
    for name, images in starts.items():
        turned = profile_sweep(study, images, profile.sigmas if name == "held out" else levels, seed=seed)
        outputs = torch.stack([turned.y0[turned.sigmas.index(s)] for s in levels])
        inputs = {
            "outputs": _digest(outputs),
            "starts": _digest(images.images),
            "reference": _digest(reference),
            "data": study.train.fingerprint,
            "levels": list(levels),
            "seed": seed,
        }

        def judge(images: ImageSet = images, outputs: Tensor = outputs) -> Arrays:
            own = retention.nearest_index(images.images, reference)
            empirical = EmpiricalDenoiser(study.train.images)
            made = {
                "network": outputs,
                "empirical": [posterior_draws(empirical, images.images, s, seed) for s in levels],
                "gaussian": [posterior_draws(study.gaussian, images.images, s, seed) for s in levels],
            }
            return {
                kind: torch.stack([retention.identity_retained(y0, reference, own) for y0 in rows]).numpy()
                for kind, rows in made.items()
            }

        stored = remember("three_scores", inputs, judge)
        kept |= {(kind, name): torch.from_numpy(stored[kind]) for kind in stored}
    return kept


def empirical_retention(
    stored: ImageSet, starts: ImageSet, sigmas: Sequence[float], seed: int = 0, own: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact U-Turn of the score that memorises ``stored``: (return probability, class retention), each (S, N) in [0, 1].

    Given x_u = x_0 + sigma_u eps the output is stored image i with probability w_i(x_u): nothing is sampled but the noise. The return
    probability of a start is the weight of its own image, ``own`` (N,) in ``stored`` (None for starts that are not stored: zeros); its class
    retention is the weight of all images of its class.
    """
    checks.ground_truth("starts", starts.images, stored.sample_shape, (float("-inf"), float("inf")))
    if own is not None:
        own = checks.labels(torch.as_tensor(own), len(starts), len(stored))
    inputs = {
        "stored": stored.fingerprint,
        "starts": _digest(starts.images, starts.labels),
        "own": None if own is None else _digest(own),
        "seed": seed,
    }
    empirical = EmpiricalDenoiser(stored.images)
    eps = NoiseStream(
        sample_seeds(seed, range(len(starts)), "forward"), starts.sample_shape, dtype=torch.float32
    ).normal()

    def compute(chunk: Chunk) -> Arrays:
        sigma, returned, kept = chunk.inputs["sigma"], [], []
        rows_of = empirical.weight_blocks(starts.images + sigma * eps, sigma)
        for rows, weights in rows_of:
            same = stored.labels == starts.labels[rows, None]
            kept.append((weights * same).sum(1))
            returned.append(torch.zeros(len(weights)) if own is None else weights.gather(1, own[rows, None])[:, 0])
        return {"returned": torch.cat(returned).numpy(), "kept": torch.cat(kept).numpy()}

    chunks = [Chunk("empirical_retention", inputs | {"sigma": float(sigma)}) for sigma in sigmas]
    results = run_chunks(compute, chunks, "exact U-Turns of the empirical score")
    return tuple(
        np.stack([result[name] for result in results]).astype(float).clip(0, 1) for name in ("returned", "kept")
    )


EXPERIMENTS: dict[str, Callable[..., Arrays]] = {
    "affinity": _compute_affinity,
    "from_start": _compute_from_start,
    "generation_path": _compute_generation_path,
    "initial_laws": _compute_initial_laws,
    "u_turn": _compute_u_turn,
}
