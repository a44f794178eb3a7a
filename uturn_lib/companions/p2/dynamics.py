"""P2: the parts of the U-Net (after Prasad et al. 2023, arXiv 2312.14965).

Effects of switching them off, shortcuts, and the time that these save. All on one base sampler: the
probability flow by Euler's method, ``profile.flow_steps`` calls, no labels. Its steps forget their
past, so a run can be resumed where a part is switched off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...denoisers import Denoiser
from ...experiments.engine import Arrays, Plan, experiment, planned
from ...experiments.study import Study, Workbench
from ...measures import quality
from ...measures.estimate import Estimate, bootstrap_median
from ...methods import network_calls
from ...sampling import final, reverse, sampling_grid
from ...seeding import starting_noise
from ...support import checks
from ...support.machine import machine
from .. import flows
from .ablation import AblatedDenoiser, Component, as_written, components
from .shortcuts import Cut, ShortcutDenoiser, part_costs

WINDOW = 2  # steps of the base sampler for which a part is switched off
# added to the seed: the samples that a schedule is chosen on are not those that it is judged on
MAP_SEEDS = 1000


@dataclass(frozen=True)
class EffectMap:
    """Outputs of N generations with each of C parts off in each of W windows of noise levels.

    A window is ``WINDOW`` steps of the base sampler. ``parts`` (C,); ``edges`` (W + 1,),
    decreasing; ``base`` (N, *sample): nothing off; ``outputs`` (C, W, N, *sample).
    """

    parts: list[Component]
    edges: tuple[float, ...]
    base: Tensor = field(repr=False)
    outputs: Tensor = field(repr=False)

    def window(self, index: int) -> tuple[float, float]:
        """Borders of a window: :func:`window_of`."""
        return window_of(self.edges, index)


def window_of(edges: Sequence[float], index: int) -> tuple[float, float]:
    """Borders (low, high) of a window; the last one ends at 0, the first at infinity."""
    low = 0.0 if index == len(edges) - 2 else edges[index + 1]
    return low, (float("inf") if index == 0 else edges[index])


def window_edges(levels: Sequence[float], every: int = WINDOW) -> tuple[float, ...]:
    """Borders of windows of ``every`` steps of the base sampler.

    ``levels``: the noise levels of its calls, decreasing. A border lies at the geometric mean of
    the neighbouring levels; the first and the last lie as far beyond both ends. Raises
    ``ValueError`` unless the number of levels is a multiple of ``every`` and at least two windows
    fit.
    """
    every = checks.positive_int("every", every)
    if len(levels) % every or len(levels) < 2 * every:
        raise ValueError(
            f"levels: {len(levels)} given; a multiple of {every}, at least {2 * every}, is needed"
        )
    between = [(a * b) ** 0.5 for a, b in zip(levels, levels[1:], strict=False)]
    edges = (levels[0] ** 2 / between[0], *between, levels[-1] ** 2 / between[-1])
    return edges[::every]


def as_it_is(network):
    """The uncompiled ``network``: parts are skipped in eager mode, so the baseline is eager too."""
    compiled = getattr(network.unet, "_compiled_call_impl", None) is not None
    return ShortcutDenoiser(network, []) if compiled else network


def resumed_calls(base: object, part: Component, steps: int, count: int) -> int:
    """Calls of ``count`` generations that are resumed at every window of the base run."""
    return count * sum(range(steps, 0, -WINDOW))


@experiment("outputs", calls=resumed_calls)
def effect_of_part(
    bench: Workbench,
    base: Arrays,
    part: Component,
    steps: int,
    count: int,
    sigma_max: float,
    seed: int,
) -> Arrays:
    """Generations (W, N, *sample) with ``part`` switched off in each window.

    Resumed from the ``base`` run, a ``flows.flow`` with its path.
    """
    grid = sampling_grid(bench.denoiser, steps, sigma_max)
    edges = window_edges(grid[:-1].tolist())
    start = starting_noise(bench.denoiser.sample_shape, range(count), sigma_max, seed)
    states, made = _euler_states(start, torch.from_numpy(base["denoised"]), grid), []
    for number in range(len(edges) - 1):
        first = WINDOW * number
        ablated = AblatedDenoiser(bench.denoiser, [part], *window_of(edges, number))
        remaining = reverse(ablated, states[first].to(bench.device), grid[first:], "euler")
        made.append(final(remaining).float().cpu().numpy())
    return {"outputs": np.stack(made)}


@planned
def effect_map(study: Study, seed: int = 0) -> Plan[EffectMap]:
    """Switch every part of the profile's network off in every window.

    ``profile.ablated`` generations from the same starts. Raises ``ValueError`` where these are
    fewer than 8 (verdicts split them in halves, and these again), ``TypeError`` for another network
    than a ``UNet2DModel``.
    """
    profile = study.profile
    network: Any = study.denoiser  # around a U-Net
    count = checks.positive_int("profile.ablated", profile.ablated, minimum=8)
    seed = checks.positive_int("seed", seed, minimum=0) + MAP_SEEDS
    parts = components(network.unet)
    grid = sampling_grid(network, profile.flow_steps, profile.sigma_max)
    edges = window_edges(grid[:-1].tolist())
    settings = {"steps": profile.flow_steps, "sigma_max": profile.sigma_max, "seed": seed}
    plain = as_it_is(network)
    base = flows.run.plan(study, count, denoiser=plain, path=True, chunk=count, **settings)
    rows = [{"part": part, "base": base.chunks[0], "count": count} for part in parts]
    chunks = effect_of_part.chunks(rows, bench=study.bench, **settings)

    def gather(results: list[Arrays]) -> EffectMap:
        outputs = torch.from_numpy(np.stack([result["outputs"] for result in results[1:]]))
        return EffectMap(parts, edges, base.gather(results[:1]).y0, outputs)

    return Plan([*base.chunks, *chunks], "parts switched off", gather)


def _euler_states(start: Tensor, along: Tensor, grid: Tensor) -> list[Tensor]:
    """The states of an Euler run at all its levels, without further calls.

    From its start and its D ``along`` the way.
    """
    states, levels = [start], grid.tolist()
    for s, t, denoised in zip(levels[:-2], levels[1:-1], along.double(), strict=False):
        states.append((t / s) * states[-1] + (1 - t / s) * denoised)
    return states


@dataclass(frozen=True)
class Effects:
    """Distances from the untouched generation, in units of that between unrelated ones.

    ``image`` and ``feature`` (C, W, N); ``kept`` (C, W, N): same class.
    """

    image: np.ndarray
    feature: np.ndarray
    kept: np.ndarray


def effects(study: Study, found: EffectMap) -> Effects:
    """Distances of images and classifier features, and whether the class is kept."""
    base = found.base.flatten(1).double()
    # part by part: all outputs in float64 would take gigabytes at a GPU's scale
    image = torch.stack([(rows.flatten(2).double() - base).norm(dim=-1) for rows in found.outputs])
    image = image / quality.unrelated_distance(found.base)
    before, after = study.classifier_features(found.base), study.classifier_features(found.outputs)
    feature = (after - before).double().norm(dim=-1) / float(torch.pdist(before.double()).median())
    kept = study.predict(found.outputs) == study.predict(found.base)
    return Effects(image.numpy(), feature.numpy(), kept.numpy())


# ------------------------------------------------------------------------------------- shortcuts


def ranked_cuts(
    found: EffectMap, effect: np.ndarray, costs: Sequence[float]
) -> list[tuple[Cut, float]]:
    """All cells of the map that save operations, each with its share of a whole run.

    The least effect per operation saved comes first. ``effect`` (C, W): how far the output moves;
    ``costs`` (C,): share of one call.
    """
    windows = len(found.edges) - 1
    cells = []
    for c, part in enumerate(found.parts):
        for w in range(windows):
            saved = costs[c] / windows
            if saved > 0:
                cells.append((effect[c, w] / saved, c, w, Cut(part, *found.window(w)), saved))
    return [(cut, saved) for _, _, _, cut, saved in sorted(cells, key=lambda cell: cell[:3])]


def schedule_curve(
    study: Study,
    found: EffectMap,
    ranked: Sequence[tuple[Cut, float]],
    sizes: Sequence[int],
    seed: int = 0,
) -> list[tuple[float, np.ndarray]]:
    """Operations saved by the first ``sizes`` of the ranked cuts, and distances (N,).

    Distances of the map's generations from the untouched ones, in units of unrelated images.
    """
    profile, unit = study.profile, quality.unrelated_distance(found.base)
    rows, count = [], len(found.base)
    for size in sizes:
        cuts = [cut for cut, _ in ranked[:size]]
        network, start = ShortcutDenoiser(study.denoiser, cuts), seed + MAP_SEEDS
        settings: dict = {"sigma_max": profile.sigma_max, "seed": start, "chunk": count}
        made = flows.run(study, count, profile.flow_steps, denoiser=network, **settings)
        distances = quality.paired_distance(made.y0, found.base) / unit
        rows.append((sum(saved for _, saved in ranked[:size]), distances.numpy()))
    return rows


@dataclass(frozen=True)
class Schedules:
    """Schedules of parts to skip, each the first k cells of ``ranked``; ``moved``: k -> median
    image distance of the map's generations from the untouched ones."""

    ranked: list[tuple[Cut, float]] = field(repr=False)
    moved: dict[int, Estimate]

    def saved(self, k: int) -> float:
        """Share of the operations of a whole run that the first ``k`` cells save."""
        return sum(share for _, share in self.ranked[:k])

    def largest(self, budget: float) -> int:
        """The largest of the tried k whose median image distance stays below ``budget``, upper end
        of its interval included; 0 where none does."""
        return max((k for k, moved in self.moved.items() if moved.high <= budget), default=0)

    def cheapest(self, saving: float) -> int:
        """The least k that saves the share ``saving`` of the operations; all cells where they do
        not suffice."""
        sizes = range(len(self.ranked))
        return next((k for k in sizes if self.saved(k) >= saving), len(self.ranked))

    def denoiser(self, network, k: int) -> ShortcutDenoiser:
        """``network`` without the first ``k`` cells."""
        return ShortcutDenoiser(network, [cut for cut, _ in self.ranked[:k]])


def schedules(study: Study, found: EffectMap, seed: int = 0) -> Schedules:
    """Schedules from an effect map: cells ranked by image distance per operation saved, thirteen
    sizes tried together on the seeds of the map."""
    effect = np.median(effects(study, found).image, 2)
    ranked = ranked_cuts(found, effect, part_costs(study.denoiser, found.parts))
    sizes = sorted({round(share * len(ranked)) for share in np.linspace(0.05, 0.65, 13)})
    curve = schedule_curve(study, found, ranked, sizes, seed)
    moved = {k: bootstrap_median(distances) for k, (_, distances) in zip(sizes, curve, strict=True)}
    return Schedules(ranked, moved)


@dataclass(frozen=True)
class Variant:
    """A way of saving time: ``denoiser``, deterministic ``method``, ``steps``, and the share
    ``saved`` of the full run's operations."""

    denoiser: Denoiser = field(repr=False)
    method: str
    steps: int
    saved: float


def timed_calls(runs: Sequence[tuple[Denoiser, str, int]], rounds: int, batch: int) -> int:
    """Calls of all rounds and of the one before them."""
    return (rounds + 1) * batch * sum(network_calls(method, steps) for _, method, steps in runs)


@experiment("times", calls=timed_calls)
def times_of(
    bench: Any,  # a Workbench around a network with a U-Net
    runs: Sequence[tuple[Denoiser, str, int]],
    rounds: int,
    batch: int,
    sigma_max: float,
    again: int,
    machine: str,
) -> Arrays:
    """Seconds (runs, rounds) of generations.

    ``again`` and ``machine`` tell one measurement from another.
    """
    x = starting_noise(bench.denoiser.sample_shape, range(batch), sigma_max, 0).to(bench.device)
    seconds = np.zeros((rounds + 1, len(runs)))
    with torch.no_grad():
        for row in seconds:
            for number, (denoiser, method, steps) in enumerate(runs):
                begun = time.perf_counter()
                with as_written(bench.denoiser.unet):
                    final(reverse(denoiser, x, sampling_grid(denoiser, steps, sigma_max), method))
                if bench.device.type == "cuda":
                    torch.cuda.synchronize(bench.device)
                row[number] = time.perf_counter() - begun
    return {"times": seconds[1:].T}


@planned
def wall_times(
    study: Study,
    runs: Mapping[str, tuple[Denoiser, str, int]],
    rounds: int = 5,
    batch: int = 32,
    again: int = 0,
) -> Plan[dict[str, np.ndarray]]:
    """Seconds (rounds,) of generations of ``batch`` images by each of ``runs``.

    ``runs``: name -> (denoiser, method, steps). Interleaved: every round runs each once, in turn,
    after a first round that does not count, so that a machine that gets slower or busier does so
    for all. No compiled code on any side. Remembered with the name of the machine: figures can be
    redrawn; ``again`` is a number to change when it is to be measured anew.
    """
    rounds = checks.positive_int("rounds", rounds, minimum=5)
    settings = {"rounds": rounds, "batch": batch, "again": again, "runs": list(runs.values())}
    where = {"bench": study.bench, "machine": machine(study.device)}
    chunks = times_of.chunks([settings], sigma_max=study.profile.sigma_max, **where)

    def gather(results: list[Arrays]) -> dict[str, np.ndarray]:
        return dict(zip(runs, results[0]["times"], strict=True))

    return Plan(chunks, "times of generations", gather)


def time_ratio(times: Mapping[str, np.ndarray], name: str, base: str) -> tuple[float, float, float]:
    """Median, least and greatest of the ratios time(name) / time(base), paired by round."""
    ratios = (times[name] / times[base]).tolist()
    return statistics.median(ratios), min(ratios), max(ratios)
