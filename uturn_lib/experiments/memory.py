"""Memorised or new? Whether outputs of U-Turns are copies of training images, for four scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..data.sets import ImageSet
from ..denoisers import GaussianDenoiser
from ..empirical import EmpiricalDenoiser
from ..measures import retention
from ..measures.retention import COPY_RATIO
from ..uturn import posterior_draws
from .engine import Arrays, experiment, run_chunks
from .scores import local_sweep, training_sweep
from .study import Study
from .sweeps import Sweep, multi_class


def compared(y0: Tensor, starts: Tensor, reference: Tensor, training: int) -> Arrays:
    """The arrays of :class:`Memory` for outputs ``y0`` (N, *sample) at one level."""
    stored = reference[:training]
    own = retention.nearest_index(starts, reference)
    return {
        "distances": retention.two_nearest(y0, stored).numpy(),
        "nearest": retention.nearest_index(y0, stored).numpy(),
        "own": own.numpy(),
        "identity": retention.identity_retained(y0, reference, own).numpy(),
    }


@experiment("distances", "nearest", "own", "identity")
def outputs_compared(outputs: Tensor, starts: Tensor, reference: Tensor, training: int) -> Arrays:
    """:func:`compared` for ``outputs`` (N, *sample) of ``starts`` at one level.

    The first ``training`` images of ``reference`` are those of the training set.
    """
    return compared(outputs, starts, reference, training)


@experiment("distances", "nearest", "own", "identity")
def draws_compared(
    denoiser: EmpiricalDenoiser | GaussianDenoiser,
    starts: Tensor,
    reference: Tensor,
    training: int,
    sigma: float,
    seed: int,
) -> Arrays:
    """:func:`compared` for exact draws from the posterior of ``denoiser``, without a sampler."""
    return compared(posterior_draws(denoiser, starts, sigma, seed), starts, reference, training)


@dataclass(frozen=True)
class Memory:
    """What outputs of one score have in common with the training images.

    ``sigmas`` (S,). ``distances`` (S, N, 2): to the two nearest training images; ``nearest``
    (S, N): which training image is the nearest; ``own`` (N,): where the start stands among all
    images, training first; ``identity`` (S, N): nearest of all images to the output is its start.
    """

    sigmas: tuple[float, ...]
    distances: np.ndarray = field(repr=False)
    nearest: np.ndarray = field(repr=False)
    own: np.ndarray = field(repr=False)
    identity: np.ndarray = field(repr=False)

    @property
    def copied(self) -> np.ndarray:
        """(S, N): the criterion of ``measures.retention.copied``."""
        return self.distances[..., 0] < COPY_RATIO * self.distances[..., 1]

    @property
    def memorised(self) -> np.ndarray:
        """(S, N): a copy of a training image that was not the start. Definition: ours.

        A start that comes back was handed to the score; it is no evidence of memory.
        """
        return self.copied & (self.nearest != self.own)


def gathered(sigmas: Sequence[float], results: list[Arrays]) -> Memory:
    """The levels' results, in one."""
    rows = {name: np.stack([part[name] for part in results]) for name in results[0]}
    return Memory(
        tuple(sigmas), rows["distances"], rows["nearest"], rows["own"][0], rows["identity"]
    )


def memory_of_sweep(study: Study, sweep: Sweep) -> Memory:
    """:class:`Memory` of the outputs of a sweep."""
    chunks = outputs_compared.chunks(
        [{"outputs": y0} for y0 in sweep.y0],
        starts=sweep.x0, reference=study.reference, training=len(study.train),
    )  # fmt: skip
    return gathered(sweep.sigmas, run_chunks(chunks, "copies among outputs"))


def memory_of_draws(
    study: Study,
    denoiser: EmpiricalDenoiser | GaussianDenoiser,
    starts: ImageSet,
    sigmas: Sequence[float],
    seed: int = 0,
) -> Memory:
    """:class:`Memory` of exact U-Turns of ``starts`` with an exact score."""
    chunks = draws_compared.chunks(
        [{"sigma": float(sigma)} for sigma in sigmas],
        denoiser=denoiser, starts=starts.images, reference=study.reference,
        training=len(study.train), seed=seed,
    )  # fmt: skip
    return gathered(sigmas, run_chunks(chunks, "copies among exact draws"))


def memory_by_score(study: Study, seed: int = 0) -> dict[tuple[str, str], Memory]:
    """:class:`Memory` for four scores and two kinds of starts.

    Keys: ("network" | "empirical" | "gaussian" | "local", "training" | "held out"). The network's
    outputs are the U-Turns of Figures 9 (held out) and 13 (training), at their levels; the local
    score's those of Figure 13; those of the empirical and the Gaussian score exact draws at the
    network's levels.
    """
    sweeps = {"held out": multi_class(study, seed), "training": training_sweep(study, seed)}
    exact: dict[str, EmpiricalDenoiser | GaussianDenoiser]
    exact = {"empirical": EmpiricalDenoiser(study.train.images), "gaussian": study.gaussian}
    count, found = study.profile.ground_truths, {}
    for name, images in (("training", study.train), ("held out", study.test)):
        found["network", name] = memory_of_sweep(study, sweeps[name])
        for kind, score in exact.items():
            found[kind, name] = memory_of_draws(
                study, score, images.take(count), sweeps[name].sigmas, seed
            )
        found["local", name] = memory_of_sweep(study, local_sweep(study, images, seed))
    return found


def real_images_compared(study: Study) -> np.ndarray:
    """Distances (N, 2) of held-out images to their two nearest training images.

    They are new by construction: what the criterion says of them is its rate of false alarms.
    """
    return retention.two_nearest(study.ground_truths.images, study.train.images).numpy()
