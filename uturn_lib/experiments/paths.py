"""What happens along a generation, and on the way back of a U-Turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..denoisers import sigma_range
from ..measures.gaussianity import ks_statistic
from ..methods import Churn, network_calls
from ..sampling import Step, reverse, sampling_grid
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from .engine import Arrays, Plan, experiment, planned
from .study import Study, Workbench


def way_back(
    bench: Workbench, x_u: Tensor, labels: Tensor | None, sigma_u: float, steps: int, seed: int
) -> list[Step]:
    """All steps of the reverse SDE from ``x_u`` (B, *sample) at ``sigma_u`` down to 0."""
    return list(
        reverse(
            bench.denoiser,
            x_u.double().to(bench.device),
            sampling_grid(bench.denoiser, steps, sigma_u, "sde"),
            "sde",
            sample_seeds(seed, range(len(x_u))),
            None if labels is None else labels.to(bench.device),
        )
    )


@experiment("denoised", "y0", calls=lambda x_u, steps: len(x_u) * steps)
def paths(
    bench: Workbench,
    x_u: Tensor,
    labels: Tensor | None,
    sigma_u: float,
    steps: int,
    shown: int,
    seed: int,
) -> Arrays:
    """D at ``shown`` of the steps back from ``x_u``, and the outputs."""
    states = way_back(bench, x_u, labels, sigma_u, steps, seed)
    chosen = [states[int(part * (len(states) - 1) / shown)].denoised for part in range(shown)]
    return {
        "denoised": torch.stack(chosen).float().cpu().numpy(),
        "y0": states[-1].x.float().cpu().numpy(),
    }


@planned
def return_paths(
    bench: Workbench,
    x_u: Tensor,
    sigma_u: float,
    steps: int,
    shown: int = 4,
    seed: int = 0,
    labels: Tensor | None = None,
) -> Plan[tuple[Tensor, Tensor]]:
    """D(x, sigma) on the way back from ``x_u`` (B, *sample), and the outputs.

    Returns D at ``shown`` equally spaced steps (shown, B, *sample) and y_0 (B, *sample). ``labels``
    (B,) or None.
    """
    settings = {
        "x_u": x_u,
        "labels": labels,
        "sigma_u": sigma_u,
        "steps": steps,
        "shown": shown,
        "seed": seed,
    }
    return Plan(
        paths.chunks([settings], bench=bench.bench),
        "the way back",
        lambda results: (
            torch.from_numpy(results[0]["denoised"]),
            torch.from_numpy(results[0]["y0"]),
        ),
    )


@experiment("sigmas", "x", "denoised", calls=lambda x_u, steps: len(x_u) * steps)
def trajectory(
    bench: Workbench, x_u: Tensor, labels: Tensor | None, sigma_u: float, steps: int, seed: int
) -> Arrays:
    """Every state of the way back from ``x_u``, and D there."""
    states = way_back(bench, x_u, labels, sigma_u, steps, seed)
    return {
        "sigmas": np.array([state.sigma for state in states]),
        "x": torch.stack([state.x for state in states]).float().cpu().numpy(),
        "denoised": torch.stack([state.denoised for state in states]).float().cpu().numpy(),
    }


@planned
def reverse_trajectory(
    bench: Workbench,
    x_u: Tensor,
    sigma_u: float,
    steps: int,
    seed: int = 0,
    labels: Tensor | None = None,
) -> Plan[tuple[np.ndarray, Tensor, Tensor]]:
    """The whole way back from ``x_u`` (B, *sample), by the reverse SDE.

    Returns the noise levels (steps + 1,), the states and D at each of them
    (steps + 1, B, *sample); at the last level, 0, both are the outputs y_0. ``labels`` (B,) or
    None.
    """
    settings = {"x_u": x_u, "labels": labels, "sigma_u": sigma_u, "steps": steps, "seed": seed}
    return Plan(
        trajectory.chunks([settings], bench=bench.bench),
        "the way back, step by step",
        lambda results: (
            results[0]["sigmas"],
            torch.from_numpy(results[0]["x"]),
            torch.from_numpy(results[0]["denoised"]),
        ),
    )


@dataclass(frozen=True)
class GenerationPath:
    """What was read off along K independent sets of B generated images at S noise levels.

    ``sigmas`` (S,): levels of the states; ``raised`` (S,): levels to which churn lifted them before
    the network was asked. ``ks`` (K, S, pixels): KS statistics. Per image, (K, S, B):
    ``score_norm`` = |sigma s| and ``denoised_norm`` = |D| where the network was asked;
    ``with_first``, ``with_last``: inner products of the state with the first and the last state of
    its path.
    """

    sigmas: np.ndarray
    raised: np.ndarray
    ks: np.ndarray = field(repr=False)
    score_norm: np.ndarray = field(repr=False)
    denoised_norm: np.ndarray = field(repr=False)
    with_first: np.ndarray = field(repr=False)
    with_last: np.ndarray = field(repr=False)


PER_IMAGE = ("ks", "score_norm", "denoised_norm", "with_first", "with_last")


@experiment(
    "sigmas", "raised", *PER_IMAGE, calls=lambda count, steps: count * network_calls("edm", steps)
)
def generations(
    bench: Workbench,
    labels: Tensor | None,
    churn: Churn,
    mask: Tensor | None,
    count: int,
    steps: int,
    sigma_max: float,
    seed: int,
    first: int,
) -> Arrays:
    """The arrays of one set of a :class:`GenerationPath`: samples ``first``, ``first`` + 1, ..."""
    indices = range(first, first + count)
    checks.noise_level("sigma_max", sigma_max, highest=sigma_range(bench.denoiser)[1])
    noise = NoiseStream(
        sample_seeds(seed, indices, "start"), bench.denoiser.sample_shape, bench.device
    )
    path = reverse(
        bench.denoiser,
        sigma_max * noise.normal(),
        sampling_grid(bench.denoiser, steps, sigma_max),
        "edm",
        sample_seeds(seed, indices),
        None if labels is None else labels.to(bench.device),
        churn,
    )
    found: dict[str, list] = {
        name: [] for name in ("sigmas", "raised", "ks", "score_norm", "denoised_norm", "x")
    }
    for step in path:
        flat = step.x.flatten(1)
        found["sigmas"].append(step.sigma)
        found["raised"].append(step.asked_sigma)
        found["ks"].append(ks_statistic(flat if mask is None else flat[:, mask.flatten()]).cpu())
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


@planned
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
) -> Plan[GenerationPath]:
    """Follow full generations by the "edm" sampler, as in the authors' scripts.

    ``sets`` independent sets of ``count`` images are generated, so that the spread between sets
    says how sure a fraction is. ``labels`` (count,) classes or None; ``mask`` (*sample) booleans:
    the pixels to test, all by default.
    """
    rows = [{"first": number * count} for number in range(checks.positive_int("sets", sets))]
    settings = {"count": count, "steps": steps, "sigma_max": sigma_max, "seed": seed}
    chunks = generations.chunks(
        rows, bench=bench.bench, labels=labels, churn=churn or Churn(), mask=mask, **settings
    )

    def gather(results: list[Arrays]) -> GenerationPath:
        stacked = {name: np.stack([result[name] for result in results]) for name in PER_IMAGE}
        return GenerationPath(results[0]["sigmas"], results[0]["raised"], **stacked)

    return Plan(chunks, "generation by the authors' sampler", gather)


@planned
def profile_generation(study: Study, seed: int = 0) -> Plan[tuple[GenerationPath, Tensor]]:
    """:func:`generation_path` at the profile's scale, classes in turn.

    With a mask of the pixels that vary in the data. Pixels that (nearly) never change, such as the
    border of digits, say nothing about the model: below 5 % of half the range.
    """
    profile = study.profile
    alive = study.train.images.std(0) > 0.05
    labels = torch.arange(profile.ks_samples) % len(study.train.class_names)
    settings = (profile.ks_samples, profile.ks_steps, profile.ks_sets, profile.sigma_max, labels)
    plan = generation_path.plan(study, *settings, seed=seed, mask=alive)
    return Plan(plan.chunks, plan.description, lambda results: (plan.gather(results), alive))
