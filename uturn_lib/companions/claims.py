"""Verdicts of the companion studies, by the rules of ``uturn_lib.claims.STATEMENTS``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..claims import Claim, decide, make_claim
from ..measures.estimate import Estimate
from ..published import TIME_SAVED

MARGIN = 0.25  # of the full run's Frechet distance: what we call minimal degradation
BUDGET = 0.1  # median image distance, relative to unrelated images


def minimal(change: Estimate, full: Estimate) -> bool | None:
    """Whether a paired change of the Frechet distance stays within the margin: True, False, or None where the interval does not decide."""
    margin = MARGIN * full.value
    return True if change.high <= margin else False if change.low > margin else None


def phases(
    figure: str, profile: str, borders: Sequence[Estimate], agreements: Sequence[tuple[Estimate, Estimate, Estimate]]
) -> Claim:
    """P2.1 from the change points and, at each, the rank correlations (between the phases, within them, within minus between)."""
    _some(borders=borders)
    texts = [
        f"at sigma = {_text(border)}: correlation {_text(between)} between the phases, {_text(within)} within, difference {_text(gap)}"
        for border, (between, within, gap) in zip(borders, agreements, strict=True)
    ]
    holds = any(gap.low > 0.1 for _, _, gap in agreements)
    return make_claim("P2.1", figure, profile, "; ".join(texts), decide(holds), first=borders[0], second=borders[-1])


def shortcut(
    figure: str,
    profile: str,
    rounds: int,
    saved: Estimate,
    distance: Estimate,
    change: Estimate,
    full: Estimate,
    operations: float,
) -> Claim:
    """P2.2 from the wall time saved (median, least, greatest of the rounds), the median image distance, the paired change of the Frechet distance on the other seeds, and the full run's."""
    if rounds < 5:
        raise ValueError(f"rounds = {rounds}: at least 5 are needed")
    measured = (
        f"wall time saved {saved.value:.0%} (median of {rounds} interleaved rounds, {saved.low:.0%} to {saved.high:.0%}; {operations:.0%} of the operations); median image distance "
        f"{distance.value:.3f} [{distance.low:.3f}, {distance.high:.3f}]; Frechet distance {full.value:.1f} changes by {change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}] "
        f"(25 % is {MARGIN * full.value:.1f})"
    )
    cheap = saved.value >= TIME_SAVED and distance.value <= BUDGET
    verdict = minimal(change, full) if cheap else False
    return make_claim("P2.2", figure, profile, measured, decide(verdict), saved=saved, distance=distance, change=change)


def beats_baselines(figure: str, profile: str, differences: Mapping[str, Estimate], ours: Estimate) -> Claim:
    """P2.3 from the median image distance of the shortcut and its paired differences to each baseline's (negative: the shortcut is closer)."""
    _some(differences=differences)
    texts = [f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] against {name}" for name, gap in differences.items()]
    winners = [name for name, gap in differences.items() if gap.low > 0]
    measured = (
        f"median image distance of the shortcut {ours.value:.3f} [{ours.low:.3f}, {ours.high:.3f}]; {'; '.join(texts)}"
    )
    measured += f"; closer than the shortcut: {', '.join(winners)}" if winners else ""
    holds = all(gap.high < 0 for gap in differences.values())
    return make_claim("P2.3", figure, profile, measured, decide(holds), **differences)


def straight(figure: str, profile: str, deviation: Estimate, length: Estimate, ratio: Estimate) -> Claim:
    """P3.1 from the greatest distance from the chord, the length and their ratio, averaged over generations."""
    measured = f"greatest distance from the chord {_text(deviation)}, length {length.value:.0f}: {ratio.value:.2%} [{ratio.low:.2%}, {ratio.high:.2%}]"
    return make_claim("P3.1", figure, profile, measured, decide(ratio.high < 0.01), ratio=ratio, deviation=deviation)


def converges(figure: str, profile: str, nearer: Estimate, falling_x: Estimate, falling_r: Estimate) -> Claim:
    """P3.2 from fractions of generations: r nearer at every level; distances of x and of r that never grow."""
    measured = f"r nearer at every level in {_share(nearer)}; distance never grows: x {_share(falling_x)}, r {_share(falling_r)}"
    holds = min(nearer.value, falling_x.value, falling_r.value) >= 0.95
    return make_claim("P3.2", figure, profile, measured, decide(holds), nearer=nearer, falling_r=falling_r)


def mean_shift(figure: str, profile: str, disagreement: float, farthest_end: float, count: int) -> Claim:
    """P3.3 from the largest relative disagreement with a mean-shift step, and the largest distance of an end from a stored image (unrelated images: 1)."""
    measured = f"largest disagreement {disagreement:.0e} of the image's length; {count} trajectories end at most {farthest_end:.0e} of the distance between unrelated images from a stored one"
    return make_claim(
        "P3.3",
        figure,
        profile,
        measured,
        decide(disagreement < 1e-5 and farthest_end < 0.01),
        disagreement=disagreement,
        farthest_end=farthest_end,
    )


def follows_optimal(
    figure: str,
    profile: str,
    sigmas: Mapping[str, np.ndarray],
    apart: Mapping[str, Sequence[Estimate]],
    from_mean: Estimate,
) -> Claim:
    """P3.4 from the mean distance of network and optimal denoiser along each kind of path; ``from_mean``: of the optimal denoiser from the mean of the data at the largest level."""
    _some(apart=apart)
    texts, holds = [], True
    for path, rows in apart.items():
        if not (np.asarray(sigmas[path]) > 12).any():
            raise ValueError(f"sigmas[{path!r}] has no level above 12")
        high = max((row for s, row in zip(sigmas[path], rows, strict=True) if s > 12), key=lambda row: row.high)
        top = max(rows, key=lambda row: row.value)
        where = float(sigmas[path][[row.value for row in rows].index(top.value)])
        holds &= high.high < top.value / 4
        texts.append(
            f"{path} paths: at most {_text(high)} above sigma = 12, greatest {_text(top)} at sigma = {where:.2g}"
        )
    first = next(iter(apart.values()))[0]
    near = "nearer than" if first.high < from_mean.low else "no nearer than"
    texts.append(
        f"at the largest level the network is {_text(first)} away, {near} the mean of the data, which is {_text(from_mean)} away"
    )
    return make_claim("P3.4", figure, profile, "; ".join(texts), decide(holds), from_mean=from_mean)


def jump(figure: str, profile: str, calls: int, change: Estimate, full_calls: int, full: Estimate) -> Claim:
    """P3.5 from the paired change of the Frechet distance when the run is stopped at 1/1.25 of its calls."""
    if calls * 1.25 > full_calls:
        raise ValueError(f"calls = {calls}: at most 1/1.25 of {full_calls} is asked for")
    measured = (
        f"finished run {full.value:.1f} [{full.low:.1f}, {full.high:.1f}] with {full_calls} calls; stopped after {calls} it changes by "
        f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}] (25 % is {MARGIN * full.value:.1f})"
    )
    return make_claim("P3.5", figure, profile, measured, decide(minimal(change, full)), change=change, full=full)


def optimal_time(figure: str, profile: str, grid: Sequence[float], best: Estimate) -> Claim:
    """P4.1 from the T of the smallest bound for the plain noise start."""
    inside = grid[0] < best.low and best.high < grid[-1]
    measured = f"smallest at T = {_text(best)} of a grid from {grid[0]:g} to {grid[-1]:g}"
    if best.value == grid[-1]:
        measured += ", its end: within the network's range the longest diffusion is the best one"
    return make_claim("P4.1", figure, profile, measured, decide(inside), best=best)


def shorter_by_bound(
    figure: str, profile: str, best: float, found: Mapping[str, tuple[float, Estimate] | None]
) -> Claim:
    """P4.2 from, for each law, the smallest T at which the criterion is met, with the difference there (None: nowhere below best / 1.5)."""
    texts = [
        f"{law}: nowhere"
        if row is None
        else f"{law}: from T = {row[0]:.3g} on (difference {row[1].value:+.2g} [{row[1].low:+.2g}, {row[1].high:+.2g}] nats)"
        for law, row in found.items()
    ]
    measured = f"noise is best at T = {best:.3g}; {'; '.join(texts)}"
    return make_claim("P4.2", figure, profile, measured, decide(any(row is not None for row in found.values())))


def quality_kept(
    figure: str,
    profile: str,
    sigmas: Sequence[float],
    calls: Sequence[int],
    mixture: Sequence[Estimate],
    noise: Sequence[Estimate],
    full: Estimate,
    full_calls: int,
) -> Claim:
    """P4.3 from the Frechet distances at each T from the mixture and from plain noise, and the full run's."""
    rows = zip(sigmas, calls, mixture, noise, strict=True)
    good = [row for row in rows if row[1] * 1.2 <= full_calls and row[2].value <= full.high < row[3].value]
    measured = f"full run {full.value:.1f} [{full.low:.1f}, {full.high:.1f}] with {full_calls} calls; "
    if good:
        sigma, count, found, plain = min(good, key=lambda row: row[1])
        measured += f"mixture at T = {sigma:g} {_text(found)} with {count} calls, plain noise there {_text(plain)}"
    else:
        measured += "at no shorter T is the mixture as good and plain noise worse"
    return make_claim("P4.3", figure, profile, measured, decide(bool(good)), full=full, T=good[0][0] if good else None)


def one_axis(figure: str, profile: str, sigma: float, found: Mapping[str, Estimate]) -> Claim:
    """P4.4 from the Frechet distances at one level, the start that knows least first."""
    _some(found=found)
    rows = list(found.values())
    falling = all(a.value > b.value for a, b in zip(rows, rows[1:], strict=False))
    measured = f"at sigma = {sigma:g}: " + ", ".join(f"{name} {_text(value)}" for name, value in found.items())
    return make_claim("P4.4", figure, profile, measured, decide(falling and rows[0].low > rows[-1].high), **found)


def crossing(figure: str, profile: str, grid: Sequence[float], bests: Mapping[str, tuple[Estimate, Estimate]]) -> Claim:
    """P4.5 from, for each law, the best T against the memorising score and by held-out losses."""
    _some(bests=bests)
    texts = [
        f"{law}: {_text(memory)} against the memorising score, {_text(held)} by held-out losses"
        for law, (memory, held) in bests.items()
    ]
    holds = all(
        grid[0] < min(a.low, b.low) and max(a.high, b.high) < grid[-1] and a.low <= b.high and b.low <= a.high
        for a, b in bests.values()
    )
    values = {law.replace(" ", "_"): held for law, (_, held) in bests.items()}
    return make_claim("P4.5", figure, profile, "; ".join(texts), decide(holds), **values)


def _some(**values: Sequence | Mapping) -> None:
    """Nothing measured must never hold."""
    for name, value in values.items():
        if not len(value):
            raise ValueError(f"{name} is empty; at least one is needed")


def _text(value: Estimate) -> str:
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def _share(value: Estimate) -> str:
    return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"
