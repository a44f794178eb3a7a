"""Verdicts of the companion studies, by the rules of ``uturn_lib.claims.statements``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..measures.estimate import Estimate, difference
from .claim import Claim, LateStart, late_starts, make_claim, signed, some, text, why_closed
from .verdicts import FAILS, HOLDS, Gate, above, all_of, any_of, below, inside, margin, within

BUDGET = margin("budget")  # median image distance, relative to unrelated images


def phases(
    figure: str, profile: str, borders: Sequence[Estimate], agreements: Sequence[tuple[Estimate, Estimate, Estimate]]
) -> Claim:
    """P2.1 from the change points that are drawn and, at each, the rank correlations (between the phases, within them, within minus between).

    The last of each at the confidence corrected for the number of borders.
    """
    some(borders=borders)
    texts = [
        f"at sigma = {_short(border)}: correlation {text(between, 3)} between the phases, {text(within_, 3)} within, difference {signed(gap)}"
        for border, (between, within_, gap) in zip(borders, agreements, strict=True)
    ]
    verdict = any_of(above(gap, margin("phases")) for _, _, gap in agreements)
    return make_claim("P2.1", figure, profile, "; ".join(texts), verdict, first=borders[0], second=borders[-1])


def shortcut(
    figure: str,
    profile: str,
    rounds: int,
    saved: Estimate,
    distance: Estimate,
    change: Estimate,
    full: Estimate,
    operations: float,
    floor: float,
    gate: Gate,
) -> Claim:
    """P2.2 from the wall time saved (median, least, greatest of the rounds), the median image distance, the paired change of the Frechet distance on the other seeds, the full run's and the floor.
    ``gate``: are free samples good?"""
    if rounds < 5:
        raise ValueError(f"rounds = {rounds}: at least 5 are needed")
    allowed = margin("loss") * floor
    measured = (
        f"wall time saved {saved.value:.0%} (median of {rounds} interleaved rounds, {saved.low:.0%} to {saved.high:.0%}; {operations:.0%} of the operations); median image distance "
        f"{text(distance, 3)}; Frechet distance {full.value:.1f} changes by {signed(change, 2)}, allowed +{allowed:.2f}"
    )
    quality = gate.judged(below(change, allowed))
    verdict = all_of([above(saved, margin("time saved")), below(distance, BUDGET), quality])
    return make_claim(
        "P2.2", figure, profile, measured + why_closed(gate), verdict, saved=saved, distance=distance, change=change
    )


def beats_baselines(figure: str, profile: str, differences: Mapping[str, Estimate], ours: Estimate) -> Claim:
    """P2.3 from the median image distance of the shortcut and its paired differences to each baseline's (negative: the shortcut is closer)."""
    some(differences=differences)
    texts = [f"{signed(gap)} against {name}" for name, gap in differences.items()]
    winners = [name for name, gap in differences.items() if gap.low > 0]
    measured = f"median image distance of the shortcut {text(ours, 3)}; {'; '.join(texts)}"
    measured += f"; closer than the shortcut: {', '.join(winners)}" if winners else ""
    verdict = all_of(below(gap, 0.0) for gap in differences.values())
    return make_claim("P2.3", figure, profile, measured, verdict, **differences)


def straight(figure: str, profile: str, deviation: Estimate, length: Estimate, ratio: Estimate) -> Claim:
    """P3.1 from the greatest distance from the chord, the length and their ratio, averaged over generations."""
    measured = f"greatest distance from the chord {_short(deviation)}, length {length.value:.0f}: {ratio.value:.2%} [{ratio.low:.2%}, {ratio.high:.2%}]"
    verdict = below(ratio, margin("straight"))
    return make_claim("P3.1", figure, profile, measured, verdict, ratio=ratio, deviation=deviation)


def converges(
    figure: str,
    profile: str,
    ahead: Estimate,
    falling_x: Estimate,
    falling_r: Estimate,
    nearer: Estimate,
) -> Claim:
    """P3.2 from fractions of generations: at every level r has the smaller share of its first distance left (``ahead``); distances of x and of r that never grow.

    ``nearer``: r is nearer in plain distance at every level; reported beside it, not judged.
    """
    measured = (
        f"r has the smaller share of its first distance left at every level in {_share(ahead)} of the generations; distance never grows: x {_share(falling_x)}, r {_share(falling_r)} "
        f"(in plain distance r is nearer at every level in {_share(nearer)})"
    )
    verdict = all_of(above(fraction, margin("generations")) for fraction in (ahead, falling_x, falling_r))
    return make_claim("P3.2", figure, profile, measured, verdict, ahead=ahead, nearer=nearer, falling_r=falling_r)


def follows_optimal(
    figure: str,
    profile: str,
    sigmas: Mapping[str, np.ndarray],
    apart: Mapping[str, Sequence[Estimate]],
    over_mean: Mapping[str, Sequence[Estimate]],
) -> Claim:
    """P3.4 from the mean distance of network and optimal denoiser at each level of each kind of path, and that distance minus the data mean's from the
    optimal denoiser (``over_mean``; paired, negative: the network is nearer than the mean is)."""
    some(apart=apart)
    texts, parts = [], []
    for path, rows in apart.items():
        high = [k for k, s in enumerate(sigmas[path]) if s > 12]
        if not high:
            raise ValueError(f"sigmas[{path!r}] has no level above 12")
        top = max(range(len(rows)), key=lambda k: rows[k].value)
        farthest = max(high, key=lambda k: rows[k].high)
        worst = max(high, key=lambda k: over_mean[path][k].low)
        parts += [below(rows[k], margin("close") * rows[top].value) for k in high]
        parts += [below(over_mean[path][k], 0.0) for k in high]
        texts.append(
            f"{path} paths: at most {_short(rows[farthest])} above sigma = 12, greatest {_short(rows[top])} at sigma = {sigmas[path][top]:.2g}; minus the distance of the data mean {signed(over_mean[path][worst], 2)} "
            f"at sigma = {sigmas[path][worst]:.2g}"
        )
    return make_claim("P3.4", figure, profile, "; ".join(texts), all_of(parts))


def jump(
    figure: str,
    profile: str,
    calls: int,
    change: Estimate,
    full_calls: int,
    full: Estimate,
    floor: float,
    gate: Gate,
) -> Claim:
    """P3.5 from the paired change of the Frechet distance when the run is stopped at 1/1.25 of its calls. ``gate``: are free samples good?"""
    if calls * 1.25 > full_calls:
        raise ValueError(f"calls = {calls}: at most 1/1.25 of {full_calls} is asked for")
    allowed = margin("loss") * floor
    measured = f"finished run {text(full)} with {full_calls} calls; stopped after {calls} it changes by {signed(change, 2)}, allowed +{allowed:.2f}"
    verdict = gate.judged(below(change, allowed))
    return make_claim("P3.5", figure, profile, measured + why_closed(gate), verdict, change=change, full=full)


def optimal_time(figure: str, profile: str, grid: Sequence[float], best: Estimate) -> Claim:
    """P4.1 from the T of the smallest bound for the plain noise start."""
    measured = f"smallest at T = {_short(best)} of a grid from {grid[0]:g} to {grid[-1]:g}"
    if best.value == grid[-1]:
        measured += ", its end: within the network's range the longest diffusion is the best one"
    return make_claim("P4.1", figure, profile, measured, inside(best, grid), best=best)


def shorter_by_bound(figure: str, profile: str, best: float, found: Mapping[str, tuple[float, Estimate]]) -> Claim:
    """P4.2 from, for each law, a T at most 1/1.5 of ``best``, the noise start's, and the difference of the bounds there (in nats; negative: nothing is lost).

    At the confidence corrected for the number of laws.
    """
    some(found=found)
    for law, (level, _) in found.items():
        if level * margin("shorter") > best:
            raise ValueError(f"found[{law!r}]: T = {level:g}; at most 1/{margin('shorter'):g} of {best:g} is asked for")
    texts = [f"{law}: {signed(gap)} nats at T = {level:.3g}" for law, (level, gap) in found.items()]
    verdict = any_of(below(gap, 0.0) for _, gap in found.values())
    measured = f"noise is best at T = {best:.3g}; {'; '.join(texts)}"
    return make_claim("P4.2", figure, profile, measured, verdict)


def quality_kept(
    figure: str,
    profile: str,
    starts: Sequence[LateStart],
    full: Estimate,
    full_calls: int,
    floor: float,
    gate: Gate,
) -> Claim:
    """P4.3 from starts from the mixture at several levels (each with ``plain_loss``) and the full run. ``gate``: are free samples good?"""
    allowed = margin("loss") * floor
    found, shown = late_starts(starts, full_calls, allowed)
    if any(start.plain_loss is None for start in starts):
        raise ValueError("starts: plain_loss is needed at every level")
    measured = f"full run {text(full)} with {full_calls} calls, allowed +{allowed:.2f}; mixture {shown.describe()}"
    verdict = gate.judged(found)
    return make_claim(
        "P4.3",
        figure,
        profile,
        measured + why_closed(gate),
        verdict,
        full=full,
        T=shown.sigma if verdict == HOLDS else None,
    )


def one_axis(
    figure: str,
    profile: str,
    sigma: float | None,
    found: Mapping[str, Estimate],
    steps: Sequence[Estimate],
    gates: Sequence[Gate],
) -> Claim:
    """P4.4 from the Frechet distances at the level ``sigma`` nearest to T_s (None: T_s cannot be read), the start that knows least first, and each minus the next (``steps``)."""
    closed = [gate for gate in gates if gate.closed]
    if closed or sigma is None:
        reasons = "; ".join(gate.closed for gate in closed) or "T_s lies outside of the grid"
        return make_claim("P4.4", figure, profile, f"not testable here: {reasons}", Gate(reasons).judged(FAILS))
    some(found=found)
    if len(steps) != len(found) - 1:
        raise ValueError(f"steps has {len(steps)} differences; one fewer than the {len(found)} starts is needed")
    measured = f"at sigma = {sigma:g}: " + ", ".join(f"{name} {_short(value)}" for name, value in found.items())
    measured += f"; each minus the next {', '.join(signed(step, 2) for step in steps)}"
    verdict = all_of(above(step, 0.0) for step in steps)
    return make_claim("P4.4", figure, profile, measured, verdict, **found)


def crossing(figure: str, profile: str, grid: Sequence[float], bests: Mapping[str, tuple[Estimate, Estimate]]) -> Claim:
    """P4.5 from, for each law, the best T against the memorising score and by held-out losses."""
    some(bests=bests)
    texts = [
        f"{law}: {_short(memory)} against the memorising score, {_short(held)} by held-out losses"
        for law, (memory, held) in bests.items()
    ]
    parts = []
    for memory, held in bests.values():
        parts += [inside(memory, grid), inside(held, grid)]
        parts.append(within(difference(_log(memory), _log(held)), math.log(margin("same T"))))
    values = {law.replace(" ", "_"): held for law, (_, held) in bests.items()}
    return make_claim("P4.5", figure, profile, "; ".join(texts), all_of(parts), **values)


def _log(value: Estimate) -> Estimate:
    return Estimate(math.log(value.value), math.log(value.low), math.log(value.high))


def _short(value: Estimate) -> str:
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def _share(value: Estimate) -> str:
    return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"
