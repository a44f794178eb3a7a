"""What an experiment needs: data, a denoiser and judges, made from a profile or by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ..claims.verdicts import Gate, quality_gate
from ..data.sets import ImageSet, load_data
from ..denoisers import Denoiser, GaussianDenoiser
from ..measures.estimate import Estimate
from ..measures.quality import class_distance
from ..networks.base import accelerate, accelerated_fingerprint
from ..networks.checkpoints import find_checkpoint
from ..networks.classifier import load_classifier
from ..networks.features import (
    FeatureExtractor,
    ImageNetClassifier,
    Naming,
    extractor_fingerprint,
    feature_naming,
    imagenet_extractor,
)
from ..networks.loader import load_denoiser, shipped_fingerprint
from ..profiles import Profile, load_profile
from ..support import checks
from ..support.files import read_json
from ..support.hashes import content_hash
from .engine import Arrays, Chunk, remember, run_chunks


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
            inputs = {"images": content_hash(flat), "extractor": extractor_fingerprint(self.profile.features)}
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

        return remember("features", {"images": content_hash(flat), "classifier": self.classifier_fingerprint}, judge)

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

        if self.profile.classifier == ImageNetClassifier.name:
            return ImageNetClassifier().fingerprint
        at_hand = self.__dict__.get("classifier")
        return at_hand.fingerprint if at_hand is not None else shipped_fingerprint(self.profile.classifier)

    @property
    def classifier_score(self) -> tuple[int, int]:
        """On how many held-out images the profile's classifier was right, of how many (its training record; judged here where it has none)."""

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
            build_denoiser, chosen.checkpoint, where, fast, 0 if chosen.labels == "never" else classes
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
    name, fast = study.profile.second_checkpoint, study.device.type == "cuda"
    if name is None:
        raise ValueError(f"profile {study.profile.name} has no second_checkpoint")
    fingerprint = shipped_fingerprint(name)
    return Workbench(
        partial(build_denoiser, name, study.device, fast),
        accelerated_fingerprint(fingerprint) if fast else fingerprint,
        study.device,
        study.profile.batch_size,
    )


def build_denoiser(checkpoint: str, device: torch.device, fast: bool, classes: int = 0) -> Denoiser:
    """The network of ``checkpoint`` on ``device``, compiled where it is to be ``fast``; ``ValueError`` where it knows other than ``classes`` (0: not asked)."""
    denoiser = _load_network(checkpoint, device, fast)
    if classes and denoiser.num_classes != classes:  # its labels would mean something else
        raise ValueError(f"checkpoint {checkpoint} knows {denoiser.num_classes} classes, the data have {classes}")
    return denoiser


def _load_network(checkpoint: str, device: torch.device, fast: bool) -> Denoiser:
    if not fast:
        return load_denoiser(checkpoint, device)
    denoiser = accelerate(load_denoiser(checkpoint, device))
    try:  # compilation happens at the first call, and needs a compiler that not every machine has
        denoiser(torch.zeros(2, *denoiser.sample_shape, device=device), 1.0)
    except Exception as error:  # whatever the compiler raises; what the network itself raises comes again without it
        warnings.warn(f"the network is not compiled ({type(error).__name__}): slower, same results", stacklevel=2)
        denoiser = accelerate(load_denoiser(checkpoint, device), compiled=False)
    return denoiser


def register(bench: Workbench, *tensors: Tensor) -> str:
    """Keep tensors where chunks find them, under a hash of their content: a longer list of images reuses the same blocks."""
    name = content_hash(*tensors)
    bench.sources[name] = tensors
    return name


def run_sweep(
    bench: Workbench,
    compute: Callable[..., Arrays],
    chunks: list[Chunk],
    description: str,
    executor: Executor | None = None,
) -> list[Arrays]:
    """``compute(bench, **inputs)`` of every chunk, in order, each from the cache where it is known."""
    return run_chunks(partial(_apply, compute, bench), chunks, description, executor)


def _apply(compute: Callable[..., Arrays], bench: Workbench, chunk: Chunk) -> Arrays:
    return compute(bench, **chunk.inputs)
