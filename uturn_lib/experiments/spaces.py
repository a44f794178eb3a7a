"""Whose image is an output? Asked in a named space: pixels, or the features of a network.

==============  ===================================================================================
``pixels``      the images themselves (Figure 9)
``classifier``  features of the classifier that also judges the class: both questions of claim C2
                are then asked of one network. The primary space, fixed before any result
``imagenet``    features of EfficientNet-Lite0, which has never seen the data set
==============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..measures import retention
from ..measures.estimate import Estimate
from ..networks.features import (
    has_lite_weights,
    small_lite_extractor,
    small_lite_fingerprint,
)
from ..support import checks
from .engine import Arrays, experiment, run_chunks
from .study import FEATURE_BLOCK, Judge, Study, image_features
from .sweeps import Sweep

SPACES = ("pixels", "classifier", "imagenet")
PRIMARY = "classifier"
OUTPUT_BLOCK = 8192  # outputs that are compared with the reference at a time


def spaces_at_hand() -> tuple[str, ...]:
    """Those of :data:`SPACES` that can be used here: ``imagenet`` needs its weights."""
    return SPACES if has_lite_weights() else SPACES[:2]


def in_space(study: Study, space: str, images: Tensor) -> Tensor:
    """Vectors (..., F) of ``images`` (..., C, H, W) in ``space``; features are cached by content.

    Raises ``ValueError`` for a space that is not one of :data:`SPACES`.
    """
    checks.one_of("space", space, SPACES)
    if space == "pixels":
        return images.flatten(-3)
    if space == "classifier":
        return study.classifier_features(images)
    judge = Judge(partial(small_lite_extractor, study.device), small_lite_fingerprint())
    blocks = images.reshape(-1, *images.shape[-3:]).split(FEATURE_BLOCK)
    chunks = image_features.chunks([{"images": block} for block in blocks], judge=judge)
    found = run_chunks(chunks, f"features ({space})")
    features = torch.cat([torch.from_numpy(part["features"]) for part in found])
    return features.reshape(*images.shape[:-3], -1)


@experiment("identity", "copied", "centres")
def retained_in_space(
    outputs: Tensor, reference: Tensor, own: Tensor, training: int, sigmas: Sequence[float]
) -> Arrays:
    """Identity retention of ``outputs`` (S, N, F) among ``reference`` (M, F), and which are copies.

    ``own`` (N,): where the ground truths stand in the reference, whose first ``training`` images
    are those of the training set: only they can be copied.
    """
    # Many outputs at a time: each pass over a large reference costs.
    owns = own.repeat(len(outputs)).split(OUTPUT_BLOCK)
    blocks = list(zip(outputs.flatten(0, 1).split(OUTPUT_BLOCK), owns, strict=True))
    kept = [retention.identity_retained(y0, reference, where) for y0, where in blocks]
    copied = [retention.copied(y0, reference[:training]) for y0, _ in blocks]
    identity, copies = (torch.cat(rows).reshape(outputs.shape[:2]) for rows in (kept, copied))
    return {
        "identity": identity.numpy(),
        "copied": copies.numpy(),
        "centres": retention.bootstrap_centres(sigmas, identity, 0.5),
    }


@dataclass(frozen=True)
class Kept:
    """Identity retention in one space.

    ``identity``, ``copied`` (S, N) booleans: nearest to its own ground truth; a copy of a training
    image. ``centres`` (1 + R,): bootstrapped log T_m, paired with those of the class of the same
    ground truths.
    """

    space: str
    sigmas: tuple[float, ...]
    identity: Tensor = field(repr=False)
    copied: Tensor = field(repr=False)
    centres: np.ndarray = field(repr=False)

    @property
    def t_m(self) -> Estimate:
        """T_m of this space with its 95 % interval."""
        return retention.crossing(self.sigmas, self.centres)


def kept_in(study: Study, sweep: Sweep, space: str) -> Kept:
    """Identity retention of a sweep's outputs in ``space``, sought among all images of the data.

    Definition: ours, as :func:`measures.retention.identity_retained`, with distances in ``space``.
    Raises ``ValueError`` for an unknown space.
    """
    # A ground truth is found by its pixels: features of two images may coincide.
    own = retention.nearest_index(sweep.x0, study.reference)
    stored = retained_in_space(
        in_space(study, space, sweep.y0),
        in_space(study, space, study.reference),
        own,
        len(study.train),
        list(sweep.sigmas),
    )
    identity, copies = (torch.from_numpy(stored[name]) for name in ("identity", "copied"))
    return Kept(space, sweep.sigmas, identity, copies, stored["centres"])
