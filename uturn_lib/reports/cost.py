"""What a run will cost, before it is begun: `uturn cost --profile paper --device cuda --workers 8`.

Network calls are those of the chunks that the figures ask for; images per second are measured on
the machine at hand, or given. The times are estimates. Sweeps that several figures share are
counted once, with the first of them; what is not the network (nearest neighbours, features,
drawing) is left out. Sweeps that depend on results (the levels beyond T_m) assume :data:`TYPICAL`
transitions.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import experiments as ex
from ..companions import flows
from ..companions.p2 import dynamics
from ..companions.p2.ablation import components
from ..companions.p2.shortcuts import Cut, ShortcutDenoiser
from ..companions.p3 import geometry
from ..companions.p3.solvers import ORDERS
from ..companions.p4 import duration
from ..data.sets import ImageSet
from ..experiments.engine import Plan
from ..experiments.retention import told_levels
from ..experiments.study import network_maker
from ..measures.estimate import Estimate
from ..noise import proportional_steps
from ..profiles import COMPOSITES, Profile, load_profile, profile_of
from ..support import checks
from ..uturn import INITIAL_LAWS
from .run import figure_of, find_notebooks


@dataclass(frozen=True)
class Times:
    """T_m and T_s, on which later sweeps depend: measured, or assumed."""

    t_m: Estimate
    t_s: Estimate


TYPICAL = Times(Estimate(2.0, 1.8, 2.2), Estimate(6.0, 5.0, 7.0))


def gate(s: ex.Study, t: Times) -> list[Plan]:
    """What ``experiments.class_gate`` needs beside the multi-class sweep."""
    if s.profile.labels == "never":
        return []
    levels = told_levels(s.profile.sigmas, t.t_m, t.t_s)
    return [ex.profile_sweep.plan(s, sigmas=levels, conditional=True)]


def transitions(s: ex.Study, t: Times) -> list[Plan]:
    """T_m, and T_s behind its gate."""
    return [ex.multi_class.plan(s), *gate(s, t)]


def late(s: ex.Study, t: Times, labels: Tensor | None = None) -> Plan:
    """Full runs with the calls of the late starts that are judged."""
    return ex.shortened_runs.plan(s, list(ex.late_levels(s, t.t_m.value).values()), labels)


def starts(s: ex.Study, *kinds: str, labels: Tensor | None = None) -> list[Plan]:
    """Samples without ground truths."""
    return [ex.start_sweep.plan(s, kind, labels=labels) for kind in kinds]


def scheme(s: ex.Study, t: Times) -> list[Plan]:
    """Figure 1: one image at three levels; its sliders: one way back, ten images at all levels."""
    told = s.profile.labels == "always"
    x, labels = s.test.images[:1], s.test.labels[:1] if told else None
    return [
        *(
            ex.return_paths.plan(
                s, x, sigma, proportional_steps(sigma, s.profile.steps), labels=labels
            )
            for sigma in (0.7, 2.0, 8.0)
        ),
        ex.reverse_trajectory.plan(
            s, x, 8.0, 2 * proportional_steps(8.0, s.profile.steps), labels=labels
        ),
        ex.profile_sweep.plan(s, s.test.take(10), conditional=told),
    ]


def around_t_m(s: ex.Study, t: Times) -> Plan:
    """Figure 6: ten ground truths, six times each, at the levels around T_m."""
    levels = tuple(
        sigma for sigma in s.profile.sigmas if t.t_m.value / 4 < sigma < t.t_m.value * 4.2
    )
    return ex.repeated.plan(s, conditional=True, sigmas=levels, count=10, repeats=6)


def deviation(s: ex.Study, path: str = "model", labels: bool = False) -> Plan:
    """Distance from the empirical score."""
    p = s.profile
    in_turn = torch.arange(p.ode_ground_truths) % len(s.train.class_names) if labels else None
    return ex.deviation.plan(
        s, s.train, p.ode_ground_truths, p.ode_steps, p.sigma_max, labels=in_turn, path=path
    )


def affinity(s: ex.Study) -> Plan:
    """Figure 14: regressions on held-out images."""
    fit, held_out = s.train.take(s.profile.affinity_fit), s.test.take(s.profile.affinity_held_out)
    return ex.affinity.plan(s, s.gaussian, fit.images, held_out.images, s.profile.sigmas)


def refined(s: ex.Study) -> list[Plan]:
    """Figure 15: the last two levels with as many and twice as many steps."""
    last, steps = s.profile.sigmas[-2:], s.profile.ode_steps
    return [ex.deterministic.plan(s, 0, last, 16, steps * factor) for factor in (1, 2)]


def second(s: ex.Study, t: Times) -> list[Plan]:
    """Figure 16: the network of the second data set, where there is one."""
    p = s.profile
    if not p.second_checkpoint:
        return []
    bench = ex.Workbench(network_maker(p.second_checkpoint, s.device), p.second_checkpoint)
    truths, how = s.test.take(p.second_ground_truths), {"method": "ode", "chunk": p.batch_size}
    return [ex.u_turn_sweep.plan(bench, truths, p.sigmas, p.second_steps, **how)]


def generations(s: ex.Study, count: int, steps: int, **options: object) -> Plan:
    """Deterministic generations."""
    return flows.run.plan(s, count, steps, sigma_max=s.profile.sigma_max, **options)


def on_map_seeds(s: ex.Study, denoiser: ShortcutDenoiser) -> Plan:
    """The generations of the effect map, with a shortcut."""
    count, seed = s.profile.ablated, dynamics.MAP_SEEDS
    return generations(s, count, s.profile.flow_steps, seed=seed, denoiser=denoiser, chunk=count)


def shortcuts(s: ex.Study, t: Times) -> list[Plan]:
    """P2b: schedules of thirteen sizes, a dozen ways to save time, and their wall times.

    A shortcut counts as a whole call, whichever parts it skips.
    """
    p = s.profile
    network: Any = s.denoiser  # around a U-Net
    cuts = [Cut(part, 0.0, float("inf")) for part in components(network.unet)]
    ways = [ShortcutDenoiser(network, cuts[:size]) for size in range(13)]
    steps, count = p.flow_steps, p.ground_truths // 2
    fewer = [round(steps * share) for share in (0.85, 0.7, 0.45)]
    runs: list[tuple[Any, str, int]] = [(way, "euler", steps) for way in ways[:6]]
    runs += [(network, method, number) for method in ("euler", "dpmpp") for number in fewer]
    batch = 8 if s.device.type == "cpu" else p.batch_size
    plans = [dynamics.effect_map.plan(s), *(on_map_seeds(s, way) for way in ways)]
    plans.append(generations(s, count, steps, path=True, chunk=p.chunk))
    for way, method, number in runs:
        plans.append(generations(s, count, number, method=method, denoiser=way, chunk=p.chunk))
    timed = {str(k): run for k, run in enumerate([runs[0], *runs])}
    return [*plans, dynamics.wall_times.plan(s, timed, batch=batch)]


def idle_parts(s: ex.Study, t: Times) -> list[Plan]:
    """P2a: the map, and one run without the parts that do nothing."""
    network: Any = s.denoiser
    without = ShortcutDenoiser(network, [Cut(components(network.unet)[0], 0.0, float("inf"))])
    return [dynamics.effect_map.plan(s), on_map_seeds(s, without), *transitions(s, t)]


def solvers(s: ex.Study, t: Times) -> list[Plan]:
    """P3b: errors of all solvers, and runs that are stopped early or take fewer steps."""
    p = s.profile
    shorter = [number for number in (6, 10, 14) if number < p.flow_steps]
    budgets = (8, 12, 16, 24, 48)
    return [
        geometry.solver_errors.plan(s, list(ORDERS), budgets, p.paths // 4, p.sigma_max),
        generations(s, p.ground_truths, p.flow_steps, path=True, chunk=p.chunk),
        *(generations(s, p.ground_truths, number, chunk=p.chunk) for number in shorter),
    ]


def bound(s: ex.Study, t: Times) -> list[Plan]:
    """P4a: gaps and losses at all levels, likelihoods."""
    p, memory = s.profile, duration.NoData()  # the number of calls is the same for any target
    count, few = 5 * p.paths // 2, s.test.take(3 * p.paths // 8).images
    times = [time for time in (0.7, 1.4, 2.8, 5.6, 14.0, 30.0) if time < p.sigma_max]
    times, levels = [*times, p.sigma_max], duration.levels()
    seen, unseen = s.train.take(count).images, s.test.take(count).images
    return [
        duration.squared_distances.plan(s, {}, seen, levels, target=memory),
        duration.squared_distances.plan(s, {}, unseen, levels),
        duration.flow_likelihoods.plan(s, few, times, {}),
        *transitions(s, t),
    ]


def instruments(s: ex.Study, t: Times) -> list[Plan]:
    """B1: U-Turns without label and, where the network takes labels, with it."""
    told = [] if s.profile.labels == "never" else [ex.conditional.plan(s)]
    return [*transitions(s, t), *told]


def class_entropy(s: ex.Study, t: Times) -> list[Plan]:
    """B7: denoising errors with and without the label, and T_s."""
    return [ex.profile_class_entropy.plan(s), *transitions(s, t)]


def repeated_turns(s: ex.Study, t: Times) -> list[Plan]:
    """B5: chains from held-out images, beside the U-Turns of Figure 9."""
    return [*transitions(s, t), ex.chains.plan(s, (1.0, 2.0, 4.0), count=40, turns=8)]


def one_axis(s: ex.Study, t: Times) -> list[Plan]:
    """B9: what the pages of its time scales ask of the network, and nothing else."""
    images, levels = s.train.take(5 * s.profile.paths // 2).images, duration.levels()
    return [
        *transitions(s, t),
        ex.training_sweep.plan(s),
        *([ex.profile_class_entropy.plan(s)] if s.profile.shows("b7") else []),
        *([dynamics.effect_map.plan(s)] if s.profile.shows("p2a") else []),
        duration.squared_distances.plan(s, {}, images, levels, target=duration.NoData()),
    ]


# What every figure asks of the network.
FIGURES: dict[str, Callable[[ex.Study, Times], list[Plan]]] = {
    "fig01": scheme,
    "fig02": lambda s, t: [ex.profile_generation.plan(s)],
    "fig03": lambda s, t: [
        ex.profile_generation.plan(s),
        deviation(s, labels=s.profile.labels == "always"),
        *transitions(s, t),
    ],
    "fig04": lambda s, t: [ex.initial_laws.plan(s, list(INITIAL_LAWS))],
    "fig05": lambda s, t: [ex.conditional.plan(s), ex.multi_class.plan(s)],
    "fig06": lambda s, t: [ex.conditional.plan(s), around_t_m(s, t)],
    "fig07": lambda s, t: [
        ex.conditional.plan(s),
        *starts(s, "artificial", labels=s.ground_truths.labels),
        late(s, t, s.ground_truths.labels),
    ],
    "fig08": lambda s, t: [ex.conditional.plan(s), *transitions(s, t)],
    "fig09": transitions,
    "fig10": lambda s, t: [*transitions(s, t), *starts(s, "artificial", "gaussian"), late(s, t)],
    "fig11": lambda s, t: [ex.repeated.plan(s), *transitions(s, t)],
    "fig12": lambda s, t: [ex.repeated.plan(s), *transitions(s, t)],
    "fig13": lambda s, t: [*transitions(s, t), ex.training_sweep.plan(s)],
    "fig14": lambda s, t: [affinity(s), *transitions(s, t), *starts(s, "gaussian", "artificial")],
    "fig15": lambda s, t: [ex.deterministic.plan(s), *refined(s), *transitions(s, t)],
    "fig16": second,
    "b1": instruments,
    "b4": transitions,
    "b7": class_entropy,
    "b2": lambda s, t: [*transitions(s, t), ex.training_sweep.plan(s)],
    "b6": lambda s, t: [*transitions(s, t), ex.repeats_around.plan(s, t.t_m)],
    "b8": transitions,
    "b3": lambda s, t: [],  # its networks are trained beforehand, and small
    "b5": repeated_turns,
    "b9": one_axis,
    "p2a": idle_parts,
    "p2b": shortcuts,
    "p3a": lambda s, t: [
        geometry.shapes.plan(
            s, s.profile.paths, s.profile.flow_steps, sigma_max=s.profile.sigma_max
        ),
        *transitions(s, t),
    ],
    "p3b": solvers,
    "p3c": lambda s, t: [deviation(s), deviation(s, "optimal"), *transitions(s, t)],
    "p4a": bound,
    "p4b": lambda s, t: [
        *transitions(s, t),
        *starts(s, "artificial", "gaussian"),
        duration.auxiliary_starts.plan(s, duration.NoData()),
        late(s, t),
    ],
}

# Images in place of a data set's: calls depend on how many are taken, not on what they show.
STAND_INS, CLASSES = 25_000, 10


def stand_in(profile: Profile, device: torch.device) -> ex.Study:
    """A study of ``profile`` that can plan sweeps but not run them, with images of one pixel.

    The network is loaded only where its parts are asked for.
    """
    count = max(STAND_INS, profile.ground_truths, profile.affinity_fit)
    pixels = torch.arange(2.0 * count).reshape(2, count, 1, 1, 1)
    labels, names = torch.arange(count) % CLASSES, tuple(map(str, range(CLASSES)))
    train, test = (
        ImageSet("stand-in", split, images, labels, names, "", "", f"stand-in {split}")
        for split, images in zip(("train", "test"), pixels, strict=True)
    )
    name, size = profile.checkpoint, profile.batch_size
    network = network_maker(name, device)
    return ex.Study(network, name, device, size, profile=profile, train=train, test=test)


def chunks_per_figure(name: str, device: str) -> dict[str, tuple[str, list[int]]]:
    """For every figure: the profile that computes it, and the chunks it adds.

    A chunk is given by its network calls (images), those without any are left out.
    """
    studies: dict[str, ex.Study] = {}
    found, done = {}, set()
    for path in find_notebooks([]):
        figure = figure_of(path)
        part = profile_of(name, figure)
        if part not in studies:
            studies[part] = stand_in(load_profile(part).on(device), torch.device(device))
        study = studies[part]
        if not study.profile.shows(figure):
            continue
        plans = FIGURES[figure](study, TYPICAL) if figure in FIGURES else []
        calls = {chunk.name: chunk.calls for plan in plans for chunk in plan.chunks}
        new = {chunk: count for chunk, count in calls.items() if chunk not in done}
        done |= set(new)
        found[figure] = study.profile.name, [count for count in new.values() if count]
    return found


WORKERS = (1, 2, 4, 8, 16, 64)  # for which times are printed when none are asked for
CHUNK_SECONDS = (5.0, 60.0)  # shorter: overhead of the scheduler; longer: lost work, idle workers


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Wall time of tasks that take ``seconds`` each: whoever is free takes the next, in order."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


@torch.no_grad()
def measured_rate(checkpoint: str, device: torch.device, batch: int, rounds: int = 3) -> float:
    """Images per second of one network call on ``device``: the median of ``rounds``."""
    denoiser = network_maker(checkpoint, device)()
    x = torch.randn(batch, *denoiser.sample_shape, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device) if denoiser.num_classes else None

    def once() -> float:
        begun = time.perf_counter()
        denoiser(x, 1.0, labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    once()
    return batch / statistics.median(once() for _ in range(rounds))


def show(
    name: str,
    device: torch.device,
    rate: float | None = None,
    workers: Iterable[int] | None = None,
) -> None:
    """Print calls, chunks and hours per figure of profile ``name``, and hours for ``workers``.

    ``rate`` (images per second of one worker) is measured unless given. Raises ``ValueError`` for a
    number of workers that is not positive.
    """
    counts = [checks.positive_int("workers", count) for count in workers or WORKERS]
    chunks, rates = chunks_per_figure(name, device.type), {}
    for part in dict.fromkeys(part for part, _ in chunks.values()):
        profile = load_profile(part).on(device.type)
        rates[part] = rate or measured_rate(profile.checkpoint, device, profile.batch_size)
        how = "" if rate else " (measured)"
        print(f"{part}: {profile.checkpoint}, {rates[part]:,.1f} images/s per call{how}")
    print("| figure | network calls | chunks | estimated hours |\n|---|---|---|---|")
    times: list[float] = []
    for figure, (part, calls) in chunks.items():
        seconds = [count / rates[part] for count in calls]
        times += seconds
        print(f"| {figure} | {sum(calls):,} | {len(calls):,} | {sum(seconds) / 3600:.2f} |")
    total = sum(count for _, calls in chunks.values() for count in calls)
    print(f"| all | {total:,} | {len(times):,} | {sum(times) / 3600:.1f} |")
    print(_chunks_in_words(times))
    print("| workers | estimated hours | busy |\n|---|---|---|")
    for count in counts:
        hours = makespan(times, count) / 3600
        print(f"| {count} | {hours:.2f} | {sum(times) / 3600 / hours / count:.0%} |")
    if name in COMPOSITES:
        print("Figure 16 is counted at the rate of its part's first network: its own is smaller.")


def _chunks_in_words(seconds: list[float]) -> str:
    low, high = CHUNK_SECONDS
    short, middle, long = (
        sum(map(is_such, seconds))
        for is_such in (
            lambda one: one < low,
            lambda one: low <= one <= high,
            lambda one: one > high,
        )
    )
    return (
        f"A chunk takes {statistics.median(seconds):.1f} s (median), at most {max(seconds):.0f} s: "
        f"{middle:,} take {low:.0f} to {high:.0f} s, {short:,} less, {long:,} more."
    )
