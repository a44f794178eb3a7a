"""Where does a score need to see the whole image? Denoisers beside the local one, at the same x."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..data.sets import ImageSet
from ..denoisers import GaussianDenoiser
from ..empirical import EmpiricalDenoiser
from ..local import LocalDenoiser, scheduled_patch
from ..measures import locality
from ..uturn import forward_path
from .engine import Arrays, experiment, run_chunks
from .scores import local_sweep
from .study import Study, Workbench
from .sweeps import multi_class

PATCHES = (3, 11)  # pixels of 32: patches that do not change with the noise
EVERY = 4  # the exact Gaussian gap is averaged over every fourth pixel of each direction


def patch_score(data: ImageSet, patch: int | None, device: torch.device) -> LocalDenoiser:
    """The local score of ``data``, with fixed patches or (None) those of its schedule."""
    return LocalDenoiser(data.images.to(device), patch)


def patch_bench(study: Study, patch: int | None) -> Workbench:
    """A workbench around :func:`patch_score`, made only when a chunk is computed."""
    name = f"local score of {study.train.fingerprint}, patch {patch}"
    fingerprint = hashlib.sha256(name.encode()).hexdigest()
    return Workbench(partial(patch_score, study.train, patch, study.device), fingerprint)


@experiment("denoised")
def locally_denoised(bench: Workbench, images: Tensor, sigma: float, seed: int) -> Arrays:
    """D(x, sigma) of a local score at the x_u of the U-Turns of ``images`` (N, *sample)."""
    x = forward_path(images, [sigma], seed)[0].float()
    return {"denoised": bench.denoiser(x, sigma).float().numpy()}


@experiment("gap")
def gaussian_gap(gaussian: GaussianDenoiser, sigma: float, patch: int) -> Arrays:
    """The locality gap of Gaussian data, per pixel, exactly (``measures.locality``)."""
    size, vectors = gaussian.sample_shape, gaussian.eigenvectors
    covariance = (vectors * gaussian.eigenvalues) @ vectors.T
    return {"gap": np.array(locality.gaussian_locality_gap(covariance, size, sigma, patch, EVERY))}


@dataclass(frozen=True)
class Locality:
    """Mean squared distance per pixel between denoisers at the same x, for N images at S levels.

    ``gaps`` (S, N): name -> distance from the local score with the schedule's patches, for
    "network", "empirical", "gaussian". ``patches``: patch -> (S, N) distance between the network
    and the local score of fixed patches; the empirical score is the one whose patch is the whole
    image, ``"image"``. ``errors`` (S, N): name -> squared distance from x_0, with "local".
    ``exact`` (S,): the gap of Gaussian data with the covariance of the images, between its own
    score and its own local one.
    """

    sigmas: tuple[float, ...]
    gaps: dict[str, np.ndarray] = field(repr=False)
    patches: dict[int | str, np.ndarray] = field(repr=False)
    errors: dict[str, np.ndarray] = field(repr=False)
    exact: np.ndarray = field(repr=False)


def per_pixel(a: Tensor, b: Tensor) -> np.ndarray:
    """Mean squared difference (S, N) of ``a`` and ``b`` (S, N, *sample)."""
    return (a.double() - b.double()).flatten(2).square().mean(2).numpy()


def fixed_patches(side: int) -> tuple[int, ...]:
    """:data:`PATCHES` for images of another ``side``, odd."""
    return tuple(2 * max(0, round((patch * side / 32 - 1) / 2)) + 1 for patch in PATCHES)


def denoised_locally(
    study: Study, patch: int | None, x0: Tensor, whole: Tensor, sigmas: Sequence[float], seed: int
) -> Tensor:
    """D (S, N, *sample) of the local score; ``whole`` (S, N, *sample) is that of the empirical one.

    A patch that sees the whole image from everywhere gives the empirical score: not computed twice.
    """
    side = max(x0.shape[2:])
    small = [k for k, s in enumerate(sigmas) if (patch or scheduled_patch(s, side)) < 2 * side - 1]
    rows = [{"sigma": float(sigmas[k])} for k in small]
    chunks = locally_denoised.chunks(rows, bench=patch_bench(study, patch), images=x0, seed=seed)
    found = whole.clone()
    for k, part in zip(small, run_chunks(chunks, "local denoisers"), strict=True):
        found[k] = torch.from_numpy(part["denoised"])
    return found


def locality_gaps(study: Study, seed: int = 0) -> Locality:
    """:class:`Locality` of the first ``local_ground_truths`` images at the levels of the profile.

    The network's denoiser is the one stored with the U-Turns of Figure 9: no call of the network.
    """
    sweep, count = multi_class(study, seed), study.profile.local_ground_truths
    x0, sigmas, side = sweep.x0[:count], sweep.sigmas, max(sweep.x0.shape[2:])
    x_u = [forward_path(x0, [sigma], seed)[0].float() for sigma in sigmas]
    scores = {"network": sweep.denoised[:, :count]} | {
        name: torch.stack([score(x, s).float() for x, s in zip(x_u, sigmas, strict=True)])
        for name, score in (
            ("empirical", EmpiricalDenoiser(study.train.images)),
            ("gaussian", study.gaussian),
        )
    }
    local = {
        patch: denoised_locally(study, patch, x0, scores["empirical"], sigmas, seed)
        for patch in (None, *fixed_patches(side))
    }
    own = [{"sigma": float(s), "patch": scheduled_patch(s, side)} for s in sigmas]
    gaussian = run_chunks(gaussian_gap.chunks(own, gaussian=study.gaussian), "gap of a Gaussian")
    sized: dict[int | str, Tensor] = {patch: D for patch, D in local.items() if patch is not None}
    sized["image"] = scores["empirical"]
    return Locality(
        sigmas,
        {name: per_pixel(D, local[None]) for name, D in scores.items()},
        {patch: per_pixel(scores["network"], D) for patch, D in sized.items()},
        {n: per_pixel(D, x0.expand_as(D)) for n, D in (scores | {"local": local[None]}).items()},
        np.array([float(part["gap"]) for part in gaussian]),
    )


def outputs_alike(study: Study, seed: int = 0) -> tuple[tuple[float, ...], Tensor, Tensor]:
    """r^2 of the outputs of network and local score, from the same starts and the same noise.

    Returns the levels (S,), r^2 (S, N), and r^2 of the network's output with the local score's of
    the next start (S, N): what images have in common that have nothing to do with each other.
    """
    sweep, local = multi_class(study, seed), local_sweep(study, study.test, seed)
    count = len(local.x0)
    rows = [
        (sweep.y0[sweep.sigmas.index(s)][:count], y0)
        for s, y0 in zip(local.sigmas, local.y0, strict=True)
    ]
    alike = torch.stack([locality.squared_correlation(a, b) for a, b in rows])
    apart = torch.stack([locality.squared_correlation(a, b.roll(1, 0)) for a, b in rows])
    return local.sigmas, alike, apart
