"""The rules of the companion studies: a function for each claim, from evidence to a finding.

``gate`` is the :class:`verdicts.Gate` that the claim's ``gates`` in statements.toml name. What
each rule asks for stands there, in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..measures.estimate import Estimate, difference
from .claim import Finding, rule
from .late_starts import LateStart, late_starts
from .verdicts import (
    FAILS,
    HOLDS,
    Gate,
    above,
    all_of,
    any_of,
    below,
    condition,
    inside,
    margin,
    within,
)
from .wording import share, short, signed, some, text, why_closed


@rule("P2.1")
def phases(
    borders: Sequence[Estimate], agreements: Sequence[tuple[Estimate, Estimate, Estimate]]
) -> Finding:
    """From the change points that are drawn, and the rank correlations at each.

    ``agreements``: between the phases, within them, within minus between; the last at the
    confidence corrected for the number of borders.
    """
    some(borders=borders)
    texts = [
        f"at sigma = {short(border)}: correlation {text(between, 3)} between the phases, "
        f"{text(inner, 3)} within, difference {signed(gap)}"
        for border, (between, inner, gap) in zip(borders, agreements, strict=True)
    ]
    verdict = any_of(above(gap, margin("phases")) for _, _, gap in agreements)
    return Finding(verdict, "; ".join(texts), {"first": borders[0], "second": borders[-1]})


@rule("P2.2")
def shortcut(
    rounds: int,
    saved: Estimate,
    distance: Estimate,
    change: Estimate,
    full: Estimate,
    operations: float,
    floor: float,
    gate: Gate,
) -> Finding:
    """From wall time, images and quality of the shortcut, on other seeds than it was chosen on.

    ``saved``: part of the wall time (median, least and greatest of the ``rounds``).
    ``operations``: part of the operations. ``distance``: median image distance. ``change``:
    paired change of the Frechet distance, ``full`` the full run's, ``floor`` real images'.
    """
    if rounds < condition("rounds"):
        raise ValueError(f"rounds = {rounds}: at least {condition('rounds'):g} are needed")
    allowed = margin("loss") * floor
    measured = (
        f"wall time saved {saved.value:.0%} (median of {rounds} interleaved rounds, "
        f"{saved.low:.0%} to {saved.high:.0%}; {operations:.0%} of the operations); "
        f"median image distance {text(distance, 3)}; Frechet distance {full.value:.1f} "
        f"changes by {signed(change, 2)}, allowed +{allowed:.2f}{why_closed(gate)}"
    )
    parts = [above(saved, margin("time saved")), below(distance, margin("budget"))]
    parts.append(gate.judged(below(change, allowed)))
    values = {"saved": saved, "distance": distance, "change": change}
    return Finding(all_of(parts), measured, values)


@rule("P2.3")
def beats_baselines(differences: Mapping[str, Estimate], ours: Estimate) -> Finding:
    """From the median image distance of the shortcut, and its paired differences to baselines.

    A negative difference: the shortcut is closer.
    """
    some(differences=differences)
    texts = [f"{signed(gap)} against {name}" for name, gap in differences.items()]
    measured = f"median image distance of the shortcut {text(ours, 3)}; {'; '.join(texts)}"
    if winners := [name for name, gap in differences.items() if gap.low > 0]:
        measured += f"; closer than the shortcut: {', '.join(winners)}"
    verdict = all_of(below(gap, 0.0) for gap in differences.values())
    return Finding(verdict, measured, dict(differences))


@rule("P3.1")
def straight(deviation: Estimate, length: Estimate, ratio: Estimate) -> Finding:
    """From the greatest distance from the chord, the length, and their ratio: means of runs."""
    measured = f"greatest distance from the chord {short(deviation)}, length {length.value:.0f}: "
    measured += f"{ratio.value:.2%} [{ratio.low:.2%}, {ratio.high:.2%}]"
    verdict = below(ratio, margin("straight"))
    return Finding(verdict, measured, {"ratio": ratio, "deviation": deviation})


@rule("P3.2")
def converges(
    ahead: Estimate, falling_x: Estimate, falling_r: Estimate, nearer: Estimate
) -> Finding:
    """From fractions of generations.

    ``ahead``: at every level r has the smaller share of its first distance left.
    ``falling_x``, ``falling_r``: the distance never grows. ``nearer``: r is nearer in plain
    distance at every level; reported, not judged.
    """
    measured = (
        "r has the smaller share of its first distance left at every level in "
        f"{share(ahead)} of the generations; distance never grows: x {share(falling_x)}, "
        f"r {share(falling_r)} (in plain distance r is nearer at every level in {share(nearer)})"
    )
    fractions = (ahead, falling_x, falling_r)
    verdict = all_of(above(fraction, margin("generations")) for fraction in fractions)
    return Finding(verdict, measured, {"ahead": ahead, "nearer": nearer, "falling_r": falling_r})


@rule("P3.4")
def follows_optimal(
    sigmas: Mapping[str, np.ndarray],
    apart: Mapping[str, Sequence[Estimate]],
    over_mean: Mapping[str, Sequence[Estimate]],
) -> Finding:
    """From distances at each level of each kind of path.

    ``apart``: mean distance of the network and the optimal denoiser. ``over_mean``: that minus
    the data mean's from the optimal denoiser (paired; negative: the network is nearer).
    """
    some(apart=apart)
    texts, parts, large = [], [], condition("large noise")
    for path, rows in apart.items():
        high = [k for k, s in enumerate(sigmas[path]) if s > large]
        if not high:
            raise ValueError(f"sigmas[{path!r}] has no level above {large:g}")
        top = max(range(len(rows)), key=lambda k: rows[k].value)
        far = max(high, key=lambda k: rows[k].high)
        worst = max(high, key=lambda k: over_mean[path][k].low)
        parts += [below(rows[k], margin("close") * rows[top].value) for k in high]
        parts += [below(over_mean[path][k], 0.0) for k in high]
        texts.append(
            f"{path} paths: at most {short(rows[far])} above sigma = {large:g}, greatest "
            f"{short(rows[top])} at sigma = {sigmas[path][top]:.2g}; minus the distance of the "
            f"data mean {signed(over_mean[path][worst], 2)} at sigma = {sigmas[path][worst]:.2g}"
        )
    return Finding(all_of(parts), "; ".join(texts))


@rule("P3.5")
def jump(
    calls: int, change: Estimate, full_calls: int, full: Estimate, floor: float, gate: Gate
) -> Finding:
    """From the paired change of the Frechet distance when the run is stopped after ``calls``."""
    early = condition("early stop")
    if calls * early > full_calls:
        raise ValueError(f"calls = {calls}: at most 1/{early:g} of {full_calls} is asked for")
    allowed = margin("loss") * floor
    measured = (
        f"finished run {text(full)} with {full_calls} calls; stopped after {calls} it changes by "
        f"{signed(change, 2)}, allowed +{allowed:.2f}{why_closed(gate)}"
    )
    verdict = gate.judged(below(change, allowed))
    return Finding(verdict, measured, {"change": change, "full": full})


@rule("P4.1")
def optimal_time(grid: Sequence[float], best: Estimate) -> Finding:
    """From the T of the smallest bound for the plain noise start."""
    measured = f"smallest at T = {short(best)} of a grid from {grid[0]:g} to {grid[-1]:g}"
    if best.value == grid[-1]:
        measured += ", its end: within the network's range the longest diffusion is the best one"
    return Finding(inside(best, grid), measured, {"best": best})


@rule("P4.2")
def shorter_by_bound(best: float, found: Mapping[str, tuple[float, Estimate]]) -> Finding:
    """From ``best``, the T of the noise start, and ``found``: for each start a T and a difference.

    The difference: its loss in the bound at that T minus the least loss of noise, in nats
    (negative: nothing is lost), at the confidence corrected for the number of starts.
    """
    some(found=found)
    shorter = margin("shorter")
    for start, (level, _) in found.items():
        if level * shorter > best:
            raise ValueError(
                f"found[{start!r}]: T = {level:g}; at most 1/{shorter:g} of {best:g} is asked for"
            )
    texts = [f"{q}: {signed(gap)} nats at T = {level:.3g}" for q, (level, gap) in found.items()]
    verdict = any_of(below(gap, 0.0) for _, gap in found.values())
    return Finding(verdict, f"noise is best at T = {best:.3g}; {'; '.join(texts)}")


@rule("P4.3")
def quality_kept(
    starts: Sequence[LateStart], full: Estimate, full_calls: int, floor: float, gate: Gate
) -> Finding:
    """From the full run and starts from the mixture at several levels, all with ``plain_loss``."""
    allowed = margin("loss") * floor
    found, shown = late_starts(starts, full_calls, allowed)
    if any(start.plain_loss is None for start in starts):
        raise ValueError("starts: plain_loss is needed at every level")
    measured = f"full run {text(full)} with {full_calls} calls, allowed +{allowed:.2f}; "
    measured += f"mixture {shown.describe()}{why_closed(gate)}"
    verdict = gate.judged(found)
    level = shown.sigma if verdict == HOLDS else None
    return Finding(verdict, measured, {"full": full, "T": level})


@rule("P4.4")
def one_axis(
    sigma: float | None,
    found: Mapping[str, Estimate],
    steps: Sequence[Estimate],
    gates: Sequence[Gate],
) -> Finding:
    """From the Frechet distances ``found``, the start that knows least first, and ``steps``.

    ``steps``: each minus the next. ``sigma``: the level nearest to T_s; None: it cannot be read.
    """
    closed = [gate.closed for gate in gates if gate.closed]
    if closed or sigma is None:
        reasons = "; ".join(closed) or "T_s lies outside of the grid"
        return Finding(Gate(reasons).judged(FAILS), f"not testable here: {reasons}")
    some(found=found)
    if len(steps) != len(found) - 1:
        raise ValueError(
            f"steps has {len(steps)} differences; one fewer than the {len(found)} starts is needed"
        )
    texts = [f"{name} {short(value)}" for name, value in found.items()]
    measured = f"at sigma = {sigma:g}: {', '.join(texts)}; "
    measured += f"each minus the next {', '.join(signed(step, 2) for step in steps)}"
    return Finding(all_of(above(step, 0.0) for step in steps), measured, dict(found))


@rule("P4.5")
def crossing(grid: Sequence[float], bests: Mapping[str, tuple[Estimate, Estimate]]) -> Finding:
    """From the best T of each start, against the empirical score and by held-out losses."""
    some(bests=bests)
    texts, parts = [], []
    for start, (seen, held) in bests.items():
        told = f"{short(seen)} against the empirical score, {short(held)} by held-out losses"
        texts.append(f"{start}: {told}")
        parts += [inside(seen, grid), inside(held, grid)]
        apart = difference(logarithm(seen), logarithm(held))
        parts.append(within(apart, math.log(margin("same T"))))
    values = {start.replace(" ", "_"): held for start, (_, held) in bests.items()}
    return Finding(all_of(parts), "; ".join(texts), values)


def logarithm(value: Estimate) -> Estimate:
    """The logarithm of value and interval."""
    return Estimate(math.log(value.value), math.log(value.low), math.log(value.high))
