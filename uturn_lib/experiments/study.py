"""What an experiment needs: data, a denoiser and judges, made from a profile or by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..claims.verdicts import Gate, quality_gate
from ..data.sets import ImageSet, load_data
from ..denoisers import Denoiser, GaussianDenoiser
from ..measures.estimate import Estimate
from ..measures.quality import class_distance
from ..networks.base import NetworkDenoiser, accelerate, accelerated_fingerprint
from ..networks.checkpoints import find_checkpoint
from ..networks.classifier import load_classifier
from ..networks.features import (
    ImageNetClassifier,
    Naming,
    extractor_fingerprint,
    feature_naming,
    imagenet_extractor,
)
from ..networks.loader import loader_of, shipped_fingerprint
from ..profiles import Profile, load_profile
from ..support import checks
from ..support.files import read_json
from .engine import Arrays, experiment, run_chunks


class KnownDenoiser(Denoiser, Protocol):
    """A denoiser that says what it is for, as networks and exact ones do."""

    @property
    def sample_shape(self) -> tuple[int, ...]: ...

    @property
    def num_classes(self) -> int: ...


NOT_GIVEN: Any = None  # a study made by hand may lack parts of a profile's


@dataclass
class Workbench:
    """What an experiment needs: a score, and how it is run here. Made by :func:`prepare` from a profile, or by hand for exact cases.

    ``make_denoiser`` is called when the first chunk has to be computed: a warm run draws its figures without a network.
    ``fingerprint`` identifies the denoiser in the cache keys, beside the code that makes it; device and batch size are not in the keys.
    """

    make_denoiser: Callable[[], KnownDenoiser]
    fingerprint: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 64

    @cached_property
    def denoiser(self) -> KnownDenoiser:
        """The denoiser, made once."""
        return self.make_denoiser()

    @property
    def made_by(self) -> Callable[[], KnownDenoiser]:
        """Whose code decides what the denoiser is (``code.makers``)."""
        return self.make_denoiser

    @property
    def bench(self) -> Workbench:
        """Without the data of a study: what chunks carry to other processes."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("denoiser", "bench")
        }

    @classmethod
    def around(cls, denoiser: Denoiser, **options: Any) -> Workbench:
        """A workbench around a denoiser at hand, which must have a ``fingerprint``."""
        fingerprint = getattr(denoiser, "fingerprint", None)
        if not fingerprint:
            raise ValueError(
                "denoiser has no fingerprint: cached results could not be told apart from another denoiser's"
            )
        return cls(partial(same, denoiser), fingerprint, **options)


def same(value: Any) -> Any:
    """``value``: a maker of what is at hand already, which can be pickled."""
    return value


@dataclass
class Judge:
    """A classifier or feature extractor that is made when it is first asked; ``fingerprint`` identifies it in the cache keys."""

    made_by: Callable[[], Any]
    fingerprint: str

    @cached_property
    def network(self) -> Any:
        """What was made, once."""
        return self.made_by()

    def __getstate__(self) -> dict[str, Any]:
        return {"made_by": self.made_by, "fingerprint": self.fingerprint}


@experiment("features", "predicted")
def judged(judge: Judge, images: Tensor) -> Arrays:
    """A classifier's features (N, F) and classes (N,) of ``images`` (N, C, H, W)."""
    return {
        "features": judge.network.extract(images).numpy(),
        "predicted": judge.network.predict(images).numpy(),
    }


@experiment("features")
def image_features(judge: Judge, images: Tensor) -> Arrays:
    """An extractor's features (N, F) of ``images`` (N, C, H, W)."""
    return {"features": judge.network.extract(images).numpy()}


FEATURE_BLOCK = 1000  # images whose features are kept together


@dataclass
class Study(Workbench):
    """A workbench with the profile's data and classifier."""

    profile: Profile = NOT_GIVEN
    train: ImageSet = NOT_GIVEN
    test: ImageSet = NOT_GIVEN

    @cached_property
    def bench(self) -> Workbench:
        """Without the data: what chunks carry to other processes."""
        return Workbench(self.make_denoiser, self.fingerprint, self.device, self.batch_size)

    @cached_property
    def denoiser(self) -> KnownDenoiser:
        """The denoiser, made once; the one of :attr:`bench`."""
        return self.bench.denoiser

    @cached_property
    def classifier(self):
        """The classifier of the profile; another one may be set by hand."""
        return self._profile_judge.network

    @property
    def judge(self) -> Judge:
        """The classifier as an input of experiments: built when it is first asked."""
        usual, at_hand = self._profile_judge, vars(self).get("classifier")
        if at_hand is None or at_hand is vars(usual).get("network"):
            return usual
        return Judge(partial(same, at_hand), at_hand.fingerprint)

    @cached_property
    def _profile_judge(self) -> Judge:
        name = self.profile.classifier
        if name == ImageNetClassifier.name:
            return Judge(partial(ImageNetClassifier, self.device), ImageNetClassifier().fingerprint)
        return Judge(partial(load_classifier, name, self.device), shipped_fingerprint(name))

    def features(self, images: Tensor) -> Tensor:
        """The features (..., F) of ``images`` (..., C, H, W) in which the profile measures quality, remembered by content."""
        found = self._all_features(images)
        return found if self.profile.feature_components is None else found @ self._leading

    def _all_features(self, images: Tensor) -> Tensor:
        flat = images.reshape(-1, *images.shape[-3:])
        if self.profile.features == "classifier":
            return self.classifier_features(images)
        rows = [{"images": block} for block in flat.split(FEATURE_BLOCK)]
        found = run_chunks(
            image_features.chunks(rows, judge=self.extractor), f"features ({self.profile.features})"
        )
        features = torch.cat([torch.from_numpy(part["features"]) for part in found])
        return features.reshape(*images.shape[:-3], -1)

    @cached_property
    def extractor(self) -> Judge:
        """The network behind :meth:`features`, where it is not the classifier."""
        name = self.profile.features
        return Judge(partial(imagenet_extractor, name, self.device), extractor_fingerprint(name))

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
        count = self.profile.feature_components or 0  # `features` asks where there are some
        _, vectors = torch.linalg.eigh(
            torch.cov(self._all_features(self._reference_set.images).double().T)
        )
        return vectors[:, vectors.shape[1] - count :].float()

    @cached_property
    def real_features(self) -> Tensor:
        """Features (M, F) of the training images that generated ones are compared with."""
        return self.features(self._reference_set.images)

    def quality_gate(self, free: Estimate, floor: Estimate) -> Gate:
        """May a change of quality be judged? From the Frechet distances of free samples and of as many held-out images (``verdicts.quality_gate``)."""
        return quality_gate(
            free, floor, class_distance(self.real_features, self._reference_set.labels)
        )

    @property
    def quality_group(self) -> int:
        """Images of each class in a set that is thinned to equal classes: five eighths of what there is of each class."""
        return max(2, 5 * self.profile.ground_truths // (8 * len(self.test.class_names)))

    def predict(self, images: Tensor) -> Tensor:
        """The classifier's classes (...) of ``images`` (..., C, H, W), remembered by content."""
        found = judged(self.judge, images.reshape(-1, *images.shape[-3:]))["predicted"]
        return torch.from_numpy(found).reshape(images.shape[:-3])

    def classifier_features(self, images: Tensor) -> Tensor:
        """The classifier's features (..., F) of ``images`` (..., C, H, W), remembered by content; :meth:`features` may look elsewhere."""
        found = judged(self.judge, images.reshape(-1, *images.shape[-3:]))["features"]
        return torch.from_numpy(found).reshape(*images.shape[:-3], -1)

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
        members = [
            (predicted == k).nonzero().flatten()[:per_class].tolist() for k in range(classes)
        ]
        used = {index for rows in members for index in rows}
        spare = (index for index in range(len(images)) if index not in used)
        filled = [rows + [next(spare) for _ in range(per_class - len(rows))] for rows in members]
        return torch.tensor(filled).T.flatten()

    @property
    def classifier_fingerprint(self) -> str:
        """Of the profile's classifier, from its configuration alone; or of the one that was set by hand."""
        return self.judge.fingerprint

    @property
    def classifier_score(self) -> tuple[int, int]:
        """On how many held-out images the profile's classifier was right, of how many (its training record; judged here where it has none)."""

        if self.profile.classifier == ImageNetClassifier.name:
            return int((self.predict(self.test.images) == self.test.labels).sum()), len(self.test)
        record = read_json(find_checkpoint(self.profile.classifier) / "config.json")["uturn"][
            "training"
        ]
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
    fingerprint = network_fingerprint(chosen.checkpoint, where)
    train, test = load_data(chosen.dataset, "train"), load_data(chosen.dataset, "test")
    classes = len(train.class_names)
    if len(test.class_names) != classes:
        raise ValueError(
            f"{chosen.dataset} has {classes} classes of training and {len(test.class_names)} of held-out images"
        )
    return Study(
        network_maker(chosen.checkpoint, where, 0 if chosen.labels == "never" else classes),
        fingerprint,
        where,
        chosen.batch_size,
        profile=chosen,
        train=train,
        test=test,
    )


def second_bench(study: Study) -> Workbench:
    """The network of the profile's second data set (Figure 16). Raises ``ValueError`` where the profile has none."""
    name, device = study.profile.second_checkpoint, study.device
    if name is None:
        raise ValueError(f"profile {study.profile.name} has no second_checkpoint")
    return Workbench(
        network_maker(name, device),
        network_fingerprint(name, device),
        device,
        study.profile.batch_size,
    )


def network_fingerprint(checkpoint: str, device: torch.device) -> str:
    """The fingerprint of what :func:`network_maker` makes, without making it."""
    fingerprint = shipped_fingerprint(checkpoint)
    return accelerated_fingerprint(fingerprint) if device.type == "cuda" else fingerprint


def network_maker(
    checkpoint: str, device: torch.device, classes: int = 0
) -> Callable[[], NetworkDenoiser]:
    """What makes the network of ``checkpoint`` on ``device``, compiled on a GPU: the code of its own kind of network is what its results depend on."""
    load, place = loader_of(checkpoint)
    return partial(build_denoiser, load, place, device, device.type == "cuda", classes)


@lru_cache(maxsize=2)  # a worker that computes many chunks loads the network once
def build_denoiser(
    load: Callable[..., NetworkDenoiser],
    place: str | Path,
    device: torch.device,
    fast: bool,
    classes: int = 0,
) -> NetworkDenoiser:
    """The network that ``load`` reads from ``place``, compiled where it is to be ``fast``; ``ValueError`` where it knows other than ``classes`` (0: not asked)."""
    denoiser = load(place, device)
    if classes and denoiser.num_classes != classes:  # its labels would mean something else
        raise ValueError(
            f"checkpoint {Path(place).name} knows {denoiser.num_classes} classes, the data have {classes}"
        )
    if not fast:
        return denoiser
    accelerate(denoiser)
    try:  # compilation happens at the first call, and needs a compiler that not every machine has
        denoiser(torch.zeros(2, *denoiser.sample_shape, device=device), 1.0)
    except Exception as error:  # whatever the compiler raises; what the network itself raises comes again without it
        warnings.warn(
            f"the network is not compiled ({type(error).__name__}): slower, same results",
            stacklevel=2,
        )
        denoiser = accelerate(load(place, device), compiled=False)
    return denoiser
