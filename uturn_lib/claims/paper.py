"""The rules of the paper's claims and of ours: a function each, from evidence to a finding.

``gate`` is the :class:`verdicts.Gate` that the claim's ``gates`` in statements.toml name. What
each rule asks for stands there, in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..measures.estimate import Estimate, difference
from ..measures.retention import Heterogeneity, chance_level
from ..support import checks
from .claim import Finding, rule
from .late_starts import LateStart, late_starts
from .pairs import PRIMARY_PAIR, Pair
from .statements import STATEMENTS
from .verdicts import (
    FAILS,
    HOLDS,
    UNSEEN,
    VERDICTS,
    WEAK,
    Gate,
    above,
    all_of,
    below,
    condition,
    inside,
    margin,
    within,
    yes,
)
from .wording import exponential, same_length, short, signed, some, text, why_closed


@rule("C1")
def memorization(sigmas: Sequence[float], identity: Sequence[Estimate], t_m: Estimate) -> Finding:
    """From the identity retention at each level and T_m."""
    same_length(sigmas=sigmas, identity=identity)
    first, last = identity[0], identity[-1]
    measured = f"identity retention {text(first)} at sigma_u = {sigmas[0]:g}, "
    measured += f"{text(last)} at {sigmas[-1]:g}; T_m = {text(t_m)}"
    parts = [above(first, margin("returned")), below(last, margin("lost")), inside(t_m, sigmas)]
    return Finding(all_of(parts), measured, {"T_m": t_m, "smallest": first, "largest": last})


@rule("C2")
def speciation(classes: int, pairs: Mapping[str, Pair], gate: Gate) -> Finding:
    """From one or several ``pairs``, named by the senses of C2 in statements.toml.

    ``gate`` is for those whose classes are read off U-Turns. The primary pair decides, "features";
    where it is not among them, the worst.
    """
    some(pairs=pairs)
    words = STATEMENTS["C2"].senses
    for sense in pairs:
        checks.one_of("sense of C2", sense, words)
    verdicts = by_rank({sense: pair.judged(classes, gate) for sense, pair in pairs.items()})
    said: list[str] = []
    values: dict[str, object] = {}
    for sense, verdict in verdicts.items():
        pair, alone = pairs[sense], len(pairs) == 1
        own = "" if alone or sense == PRIMARY_PAIR else f" {sense}"
        values |= {f"{name}{own}": value for name, value in pair.values(gate).items()}
        judged = "" if alone else f"{verdict}: "
        said.append(f"({words[sense]}) {judged}{pair.measured(classes, gate)}")
    first = next(iter(verdicts.values()))
    return Finding(first, "; ".join(said) + why_closed(gate), values, verdicts)


def by_rank(verdicts: Mapping[str, str]) -> dict[str, str]:
    """The primary pair's first, then the worst."""
    rank = {sense: (sense != PRIMARY_PAIR, VERDICTS.index(v)) for sense, v in verdicts.items()}
    return {sense: verdicts[sense] for sense in sorted(verdicts, key=lambda sense: rank[sense])}


@rule("C3")
def individual_transitions(memory: Heterogeneity, species: Heterogeneity, gate: Gate) -> Finding:
    """From the spread of T_m and of T_s over ground truths."""
    seen = [("T_m", memory)] + ([] if gate.closed else [("T_s", species)])
    texts = [
        f"spread of log {name} {text(found.spread)}, {found.expected:.2f} expected of a common "
        f"curve, p {p_value(found.p_value)}"
        for name, found in seen
    ]
    if gate.closed:
        texts.append(f"T_s {UNSEEN}: {gate.closed}")
    values: dict[str, object] = {}
    for name, found in seen:
        values |= {f"spread_{name}": found.spread, f"p_{name}": found.p_value}
    verdict = all_of([differ(memory), gate.judged(differ(species))])
    return Finding(verdict, "; ".join(texts), values)


def differ(found: Heterogeneity) -> str:
    """Do ground truths differ?

    A p-value above the level does not show that they are alike: for "does not hold" the upper end
    of their spread must lie below the margin.
    """
    by_chance = float((found.null**2).mean())
    own = math.sqrt(max(0.0, found.spread.high**2 - by_chance))
    if own < margin("own spread"):
        return FAILS
    return HOLDS if found.p_value < condition("p value") else WEAK


def p_value(p: float) -> str:
    """ "< 0.001" or "= 0.012"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


@rule("C4")
def gaussian_test(
    sigmas: Sequence[float],
    measured: Sequence[Estimate],
    gaussian: Sequence[float],
    t_m: Estimate,
    t_s: Estimate,
    gate: Gate,
    unexplained: Sequence[Estimate] | None = None,
) -> Finding:
    """From the centred correlations ``measured``, their Gaussian approximation, and 1 - R^2.

    ``unexplained`` is 1 - R^2 at the same levels; None in a figure that judges correlations only.
    Intervals at the confidence corrected for the number of levels.
    """
    gaps = [shifted(c, -g) for c, g in zip(measured, gaussian, strict=True)]
    largest = farthest(gaps)
    if gate.closed:
        said = f"largest C - C_Gauss of all levels {signed(largest)}{why_closed(gate)}"
        return Finding(UNSEEN, said, {"largest": largest})
    past = [gap for s, gap in zip(sigmas, gaps, strict=True) if s >= t_s.value]
    middle = [gap for s, gap in zip(sigmas, gaps, strict=True) if t_m.value <= s < t_s.value]
    beyond, between = farthest(past), farthest(middle)
    values: dict[str, object] = {"beyond": beyond, "between": between, "T_m": t_m, "T_s": t_s}
    if not past:
        return Finding(UNSEEN, "no level of the grid lies beyond T_s", values)
    said = f"largest C - C_Gauss {signed(beyond)} beyond T_s, "
    said += f"{signed(between)} on [T_m, T_s]" if middle else "no level lies on [T_m, T_s]"
    parts = [within(gap, margin("affine")) for gap in past]
    parts += [within(gap, margin("nearly affine")) for gap in middle]
    if unexplained is None:
        return Finding(all_of(parts), f"{said} (the half on correlations)", values)
    left = [u for s, u in zip(sigmas, unexplained, strict=True) if s >= t_s.value]
    parts += [below(u, margin("affine")) for u in left]
    values["unexplained"] = farthest(left)
    said += f"; largest 1 - R^2 beyond T_s {text(farthest(left), 3)}"
    return Finding(all_of(parts), said, values)


def farthest(gaps: Iterable[Estimate]) -> Estimate:
    """The estimate farthest from 0; NaN of none."""
    nan = Estimate(math.nan, math.nan, math.nan)
    return max(gaps, key=lambda gap: abs(gap.value), default=nan)


def shifted(value: Estimate, by: float) -> Estimate:
    """``value`` plus a known number."""
    return Estimate(value.value + by, value.low + by, value.high + by)


@rule("C5")
def insensitive(
    moved: Mapping[str, Estimate], changed: Mapping[str, Estimate], floor: float
) -> Finding:
    """From what each start distribution at sigma_max changes.

    ``moved``: median distance of paired images, in units of that between unrelated ones.
    ``changed``: paired change of the Frechet distance. ``floor``: that of held-out images.
    """
    some(moved=moved, changed=changed)
    allowed = margin("loss") * floor
    worst = max(moved, key=lambda start: moved[start].high)
    most = max(changed, key=lambda start: max(abs(changed[start].low), abs(changed[start].high)))
    measured = (
        f"images move by at most {text(moved[worst], 3)} of the distance between unrelated ones "
        f"(start: {worst}); the Frechet distance changes by {signed(changed[most])} "
        f"(start: {most}; paired), allowed +-{allowed:.2f}"
    )
    parts = [below(m, margin("moved")) for m in moved.values()]
    parts += [within(c, allowed) for c in changed.values()]
    return Finding(all_of(parts), measured, {"moved": moved[worst], "changed": changed[most]})


@rule("C6")
def faster(
    starts: Sequence[LateStart],
    full: Estimate,
    full_calls: int,
    artificial_loss: Estimate,
    floor: float,
    gate: Gate,
) -> Finding:
    """From U-Turns at several levels, the full run, and the artificial start at T_m minus it."""
    allowed = margin("loss") * floor
    found, shown = late_starts(starts, full_calls, allowed)
    verdict = gate.judged(all_of([found, above(artificial_loss, allowed)]))
    measured = (
        f"full run {text(full)} with {full_calls} calls, allowed +{allowed:.2f}; "
        f"U-Turn {shown.describe()}; artificial start near T_m {signed(artificial_loss, 1)} "
        f"against the full run{why_closed(gate)}"
    )
    values = {
        "speed_up": full_calls / shown.calls if verdict == HOLDS else None,
        "full": full,
        "loss": shown.loss,
        "gain": shown.gain,
        "artificial_at_T_m": artificial_loss,
    }
    return Finding(verdict, measured, values)


@rule("C7a")
def deterministic(identical: bool) -> Finding:
    """From repeated runs: are they equal in every bit?"""
    measured = f"repeated runs {'agree in every bit' if identical else 'differ'}"
    return Finding(yes(identical), measured)


@rule("C7b")
def settles(levels: Sequence[float], moved: Estimate, changed: Estimate | None = None) -> Finding:
    """From the two largest ``levels``.

    ``moved``: median image distance in units of that between unrelated images. ``changed``:
    fraction of outputs that change class; None where the data have no classes.
    """
    measured = f"from sigma_u = {levels[0]:g} to {levels[1]:g} images move by {text(moved, 3)} "
    measured += "of the distance between unrelated ones"
    parts, values = [below(moved, margin("moved"))], {"moved": moved}
    if changed is None:
        return Finding(all_of(parts), f"{measured}; the data have no classes", values)
    measured += f" and {changed.value:.1%} [{changed.low:.1%}, {changed.high:.1%}] change class"
    parts.append(below(changed, margin("moved")))
    return Finding(all_of(parts), measured, values | {"changed": changed})


@rule("C7c")
def no_speciation(
    classes: int, sigmas: Sequence[float], class_curve: Sequence[Estimate], gate: Gate
) -> Finding:
    """From the class retention of the ODE at each level."""
    same_length(sigmas=sigmas, class_curve=class_curve)
    if classes < 2:
        gate = Gate("the data have no classes")
    midpoint = chance_level(max(2, classes))
    least = min(range(len(class_curve)), key=lambda k: class_curve[k].value)
    measured = (
        f"least class retention {text(class_curve[least])} at sigma_u = {sigmas[least]:g}, "
        f"midpoint {midpoint:.2f}{why_closed(gate)}"
    )
    verdict = gate.judged(all_of(above(kept, midpoint) for kept in class_curve))
    return Finding(verdict, measured, {"class_kept": class_curve[-1]})


@rule("C8")
def best_turn(
    sigmas: Sequence[float], minimum: Estimate, at_minimum: Estimate, gate: Gate
) -> Finding:
    """From the level of the smallest kernel distance, and the distance there."""
    measured = (
        f"smallest kernel distance at sigma_u = {minimum.value:g} "
        f"[{minimum.low:g}, {minimum.high:g}] of a grid from {sigmas[0]:g} to {sigmas[-1]:g}, "
        f"where it is {short(at_minimum)}{why_closed(gate)}"
    )
    verdict = gate.judged(inside(minimum, sigmas))
    return Finding(verdict, measured, {"minimum": minimum, "kernel_distance": at_minimum})


@rule("O1")
def identity_holds(sigmas: Sequence[float], gaps: Sequence[Estimate]) -> Finding:
    """From the paired difference at each level, with intervals at the corrected confidence."""
    same_length(sigmas=sigmas, gaps=gaps)
    some(gaps=gaps)
    worst = max(range(len(gaps)), key=lambda k: max(abs(gaps[k].low), abs(gaps[k].high)))
    measured = f"farthest from 0 at sigma_u = {sigmas[worst]:g}: {signed(gaps[worst])}, "
    measured += f"of {len(gaps)} levels"
    verdict = all_of(within(gap, margin("identity")) for gap in gaps)
    return Finding(verdict, measured, {"largest": gaps[worst]})


@rule("O2")
def null_rate_met(sigma: float, rate: Estimate, expected: float) -> Finding:
    """From the flagged fraction at ``sigma`` and the rate of the rule on Gaussian data."""
    measured = f"flagged at sigma = {sigma:.3g}: {text(rate, 3)}, null rate {expected:.3f}"
    verdict = within(shifted(rate, -expected), margin("null rate"))
    return Finding(verdict, measured, {"rate": rate, "expected": expected})


@rule("O4")
def not_recall(log_ratio: Estimate, network: Estimate, memorising: Estimate) -> Finding:
    """From ``log_ratio``, log T_m(training) - log T_m(held out), of the network.

    ``network``, ``memorising``: T_m for training starts of the network and the empirical score.
    """
    measured = (
        f"network: T_m(training) / T_m(held out) = {text(exponential(log_ratio))}; T_m for "
        f"training starts {text(network)}, of the empirical score {text(memorising)}"
    )
    alike = within(log_ratio, math.log(margin("alike")))
    sooner = above(difference(memorising, network), 0.0)
    values = {"log_ratio": log_ratio, "memorising": memorising}
    return Finding(all_of([alike, sooner]), measured, values)


@rule("O5")
def halves_agree(
    sigmas: Sequence[float], unexplained: Sequence[Estimate], excess: Sequence[Estimate]
) -> Finding:
    """From 1 - R^2 and (C - C_Gauss) / C at each level, at the corrected confidence."""
    same_length(sigmas=sigmas, unexplained=unexplained, excess=excess)
    some(sigmas=sigmas)
    # from other samples each: independent
    apart = [difference(a, b) for a, b in zip(unexplained, excess, strict=True)]
    verdicts = [within(gap, margin("affine")) for gap in apart]
    found = all_of(verdicts)
    deciding = [k for k, verdict in enumerate(verdicts) if verdict == found]
    worst = max(deciding, key=lambda k: max(abs(apart[k].low), abs(apart[k].high)))
    measured = (
        f"at {len(apart)} levels up to sigma = {sigmas[-1]:g}, {verdicts.count(HOLDS)} of them "
        f"within {margin('affine'):g}; at sigma = {sigmas[worst]:g} "
        f"{text(unexplained[worst], 3)} against {text(excess[worst], 3)}, "
        f"difference {signed(apart[worst])}"
    )
    values = {"unexplained": unexplained[worst], "excess": excess[worst]}
    return Finding(found, measured, values)
