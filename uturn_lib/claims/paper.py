"""Each claim of the paper, and ours, judged from the numbers of a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..measures.estimate import Estimate, difference
from ..measures.retention import Heterogeneity, chance_level
from .claim import Claim, LateStart, late_starts, make_claim, same_length, signed, some, text, why_closed
from .verdicts import FAILS, HOLDS, UNSEEN, WEAK, Gate, above, all_of, below, inside, margin, within, yes


def memorization(
    figure: str, profile: str, sigmas: Sequence[float], identity: Sequence[Estimate], t_m: Estimate
) -> Claim:
    """C1 from the identity retention at each level and T_m."""
    same_length(sigmas=sigmas, identity=identity)
    first, last = identity[0], identity[-1]
    verdict = all_of([above(first, margin("returned")), below(last, margin("lost")), inside(t_m, sigmas)])
    measured = f"identity retention {text(first)} at sigma_u = {sigmas[0]:g}, {text(last)} at {sigmas[-1]:g}; T_m = {text(t_m)}"
    return make_claim("C1", figure, profile, measured, verdict, T_m=t_m, smallest=first, largest=last)


def speciation(
    figure: str,
    profile: str,
    classes: int,
    retained: Sequence[Estimate],
    t_s: Estimate,
    gap: Estimate,
    gate: Gate,
) -> Claim:
    """C2 from the class retention at each level, T_s and the paired log T_s - log T_m. ``gate``: may T_s be read?"""
    last = retained[-1]
    measured = f"class retention at the largest sigma_u {text(last)}, chance {1 / classes:.2f}"
    if gate.closed:
        return make_claim("C2", figure, profile, measured + why_closed(gate), UNSEEN, largest=last)
    ratio = Estimate(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high))
    verdict = all_of([above(gap, 0.0), below(last, 1 / classes + margin("chance"))])
    measured = f"T_s = {text(t_s)}, T_s / T_m = {text(ratio)}; {measured}"
    return make_claim("C2", figure, profile, measured, verdict, T_s=t_s, log_gap=gap, largest=last)


def gaussian_test(
    figure: str,
    profile: str,
    sigmas: Sequence[float],
    measured: Sequence[Estimate],
    gaussian: Sequence[float],
    t_m: Estimate,
    t_s: Estimate,
    gate: Gate,
    unexplained: Sequence[Estimate] | None = None,
) -> Claim:
    """C4 from centred correlations with their Gaussian approximation, and 1 - R^2 at the same levels (None: this figure has the half on correlations only).

    Intervals at the confidence corrected for the number of levels. ``gate``: may T_s be read?
    """
    gaps = [Estimate(c.value - g, c.low - g, c.high - g) for c, g in zip(measured, gaussian, strict=True)]
    largest = _largest(gaps)
    if gate.closed:
        said = f"largest C - C_Gauss of all levels {signed(largest)}" + why_closed(gate)
        return make_claim("C4", figure, profile, said, UNSEEN, largest=largest)
    past = [gap for s, gap in zip(sigmas, gaps, strict=True) if s >= t_s.value]
    middle = [gap for s, gap in zip(sigmas, gaps, strict=True) if t_m.value <= s < t_s.value]
    values = {"beyond": _largest(past), "between": _largest(middle), "T_m": t_m, "T_s": t_s}
    if not past:
        return make_claim("C4", figure, profile, "no level of the grid lies beyond T_s", UNSEEN, **values)
    said = f"largest C - C_Gauss {signed(values['beyond'])} beyond T_s, "
    said += f"{signed(values['between'])} on [T_m, T_s]" if middle else "no level lies on [T_m, T_s]"
    parts = [within(gap, margin("affine")) for gap in past] + [within(gap, margin("nearly affine")) for gap in middle]
    if unexplained is None:
        return make_claim("C4", figure, profile, f"{said} (the half on correlations)", all_of(parts), **values)
    left = [u for s, u in zip(sigmas, unexplained, strict=True) if s >= t_s.value]
    parts += [below(u, margin("affine")) for u in left]
    values["unexplained"] = _largest(left)
    said += f"; largest 1 - R^2 beyond T_s {text(values['unexplained'], 3)}"
    return make_claim("C4", figure, profile, said, all_of(parts), **values)


def _largest(gaps: Iterable[Estimate]) -> Estimate:
    return max(gaps, key=lambda gap: abs(gap.value), default=Estimate(math.nan, math.nan, math.nan))


def identity_holds(figure: str, profile: str, sigmas: Sequence[float], gaps: Sequence[Estimate]) -> Claim:
    """O1 from the paired difference at each level, with intervals at the corrected confidence."""
    same_length(sigmas=sigmas, gaps=gaps)
    some(gaps=gaps)
    worst = max(range(len(gaps)), key=lambda k: max(abs(gaps[k].low), abs(gaps[k].high)))
    measured = f"farthest from 0 at sigma_u = {sigmas[worst]:g}: {signed(gaps[worst])}, of {len(gaps)} levels"
    verdict = all_of(within(gap, margin("identity")) for gap in gaps)
    return make_claim("O1", figure, profile, measured, verdict, largest=gaps[worst])


def null_rate_met(figure: str, profile: str, sigma: float, rate: Estimate, expected: float) -> Claim:
    """O2 from the flagged fraction at noise level ``sigma`` and the rate of the rule on Gaussian data."""
    excess = Estimate(rate.value - expected, rate.low - expected, rate.high - expected)
    measured = f"flagged at sigma = {sigma:.3g}: {text(rate, 3)}, null rate {expected:.3f}"
    verdict = within(excess, margin("null rate"))
    return make_claim("O2", figure, profile, measured, verdict, rate=rate, expected=expected)


def individual_transitions(
    figure: str, profile: str, memory: Heterogeneity, species: Heterogeneity, gate: Gate
) -> Claim:
    """C3 from the spread of T_m and T_s over ground truths. ``gate``: may T_s be read?"""
    texts = [
        f"spread of log {name} {text(found.spread)}, {found.expected:.2f} expected of a common curve, p {_p_value(found.p_value)}"
        for name, found in (("T_m", memory), ("T_s", species))[: 1 if gate.closed else 2]
    ]
    verdict = all_of([_individual(memory), gate.judged(_individual(species))])
    values = {"spread_T_m": memory.spread, "p_T_m": memory.p_value}
    values |= {} if gate.closed else {"spread_T_s": species.spread, "p_T_s": species.p_value}
    said = "; ".join(texts) + (f"; T_s {UNSEEN}: {gate.closed}" if gate.closed else "")
    return make_claim("C3", figure, profile, said, verdict, **values)


def _individual(found: Heterogeneity) -> str:
    """Do ground truths differ? A test that does not reject proves nothing: "does not hold" takes a spread that is shown to be small."""
    chance2 = float((found.null**2).mean())
    own = math.sqrt(max(0.0, found.spread.high**2 - chance2))
    if own < margin("own spread"):
        return FAILS
    return HOLDS if found.p_value < 0.01 else WEAK


def _p_value(p: float) -> str:
    return f"< {0.001:g}" if p < 0.001 else f"= {p:.3f}"


def insensitive(
    figure: str, profile: str, moved: Mapping[str, Estimate], changed: Mapping[str, Estimate], floor: float
) -> Claim:
    """C5 from the median distance between paired images (in units of that between unrelated ones) and the paired change of the Frechet
    distance for each law; ``floor``: the Frechet distance of as many held-out images."""
    some(moved=moved, changed=changed)
    allowed = margin("loss") * floor
    worst = max(moved, key=lambda law: moved[law].high)
    farthest = max(changed, key=lambda law: max(abs(changed[law].low), abs(changed[law].high)))
    measured = (
        f"images move by at most {text(moved[worst], 3)} of the distance between unrelated ones (law: {worst}); the Frechet distance changes by "
        f"{signed(changed[farthest])} (law: {farthest}; paired), allowed +-{allowed:.2f}"
    )
    parts = [below(m, margin("moved")) for m in moved.values()] + [within(c, allowed) for c in changed.values()]
    return make_claim("C5", figure, profile, measured, all_of(parts), moved=moved[worst], changed=changed[farthest])


def faster(
    figure: str,
    profile: str,
    starts: Sequence[LateStart],
    full: Estimate,
    full_calls: int,
    artificial_loss: Estimate,
    floor: float,
    gate: Gate,
) -> Claim:
    """C6 from U-Turns at several levels, the full run, and the loss of the artificial start at T_m. ``gate``: are free samples good?"""
    allowed = margin("loss") * floor
    found, shown = late_starts(starts, full_calls, allowed)
    verdict = gate.judged(all_of([found, above(artificial_loss, allowed)]))
    said = f"full run {text(full)} with {full_calls} calls, allowed +{allowed:.2f}; U-Turn {shown.describe()}; artificial start near T_m {signed(artificial_loss, 1)} against the full run"
    speed_up = full_calls / shown.calls if verdict == HOLDS else None
    values = {"full": full, "loss": shown.loss, "gain": shown.gain, "artificial_at_T_m": artificial_loss}
    return make_claim("C6", figure, profile, said + why_closed(gate), verdict, speed_up=speed_up, **values)


def deterministic(figure: str, profile: str, identical: bool) -> Claim:
    """C7a from repeated runs."""
    measured = f"repeated runs {'agree in every bit' if identical else 'differ'}"
    return make_claim("C7a", figure, profile, measured, yes(identical))


def settles(
    figure: str, profile: str, levels: Sequence[float], moved: Estimate, changed: Estimate | None = None
) -> Claim:
    """C7b from the two largest levels: median image distance in units of that between unrelated images, and the fraction of outputs that change class (None: no classes)."""
    measured = f"from sigma_u = {levels[0]:g} to {levels[1]:g} images move by {text(moved, 3)} of the distance between unrelated ones"
    parts, values = [below(moved, margin("moved"))], {"moved": moved}
    if changed is None:
        measured += "; the data have no classes"
    else:
        measured += f" and {changed.value:.1%} [{changed.low:.1%}, {changed.high:.1%}] change class"
        parts.append(below(changed, margin("moved")))
        values["changed"] = changed
    return make_claim("C7b", figure, profile, measured, all_of(parts), **values)


def no_speciation(
    figure: str, profile: str, classes: int, sigmas: Sequence[float], retained: Sequence[Estimate], gate: Gate
) -> Claim:
    """C7c from the class retention of the ODE at each level. ``gate``: can classes be read?"""
    same_length(sigmas=sigmas, retained=retained)
    if classes < 2:
        gate = Gate("the data have no classes")
    midpoint = chance_level(max(2, classes))
    least = min(range(len(retained)), key=lambda k: retained[k].value)
    measured = f"least class retention {text(retained[least])} at sigma_u = {sigmas[least]:g}, midpoint {midpoint:.2f}"
    verdict = gate.judged(all_of(above(kept, midpoint) for kept in retained))
    return make_claim("C7c", figure, profile, measured + why_closed(gate), verdict, class_kept=retained[-1])


def best_turn(
    figure: str, profile: str, sigmas: Sequence[float], minimum: Estimate, at_minimum: Estimate, gate: Gate
) -> Claim:
    """C8 from the level of the smallest kernel distance. ``gate``: are free samples good?"""
    measured = (
        f"smallest kernel distance at sigma_u = {minimum.value:g} [{minimum.low:g}, {minimum.high:g}] of a grid from {sigmas[0]:g} to "
        f"{sigmas[-1]:g}, where it is {at_minimum.value:.3g} [{at_minimum.low:.3g}, {at_minimum.high:.3g}]"
    )
    verdict = gate.judged(inside(minimum, sigmas))
    return make_claim(
        "C8", figure, profile, measured + why_closed(gate), verdict, minimum=minimum, kernel_distance=at_minimum
    )


def not_recall(figure: str, profile: str, log_ratio: Estimate, network: Estimate, memorising: Estimate) -> Claim:
    """O4 from log T_m(training) - log T_m(held out) of the network, and T_m for training starts of the network and the empirical score."""
    ratio = Estimate(math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high))
    measured = f"network: T_m(training) / T_m(held out) = {text(ratio)}; T_m for training starts {text(network)}, of the empirical score {text(memorising)}"
    sooner = above(difference(memorising, network), 0.0)
    verdict = all_of([within(log_ratio, math.log(margin("alike"))), sooner])
    return make_claim("O4", figure, profile, measured, verdict, log_ratio=log_ratio, memorising=memorising)


def halves_agree(
    figure: str, profile: str, sigmas: Sequence[float], unexplained: Sequence[Estimate], excess: Sequence[Estimate]
) -> Claim:
    """O5 from 1 - R^2 and (C - C_Gauss) / C at each level, with intervals at the corrected confidence."""
    same_length(sigmas=sigmas, unexplained=unexplained, excess=excess)
    some(sigmas=sigmas)
    apart = [difference(a, b) for a, b in zip(unexplained, excess, strict=True)]  # other samples: independent
    verdicts = [within(gap, margin("affine")) for gap in apart]
    found = all_of(verdicts)
    worst = max(
        (k for k, v in enumerate(verdicts) if v == found), key=lambda k: max(abs(apart[k].low), abs(apart[k].high))
    )
    measured = (
        f"at {len(apart)} levels up to sigma = {sigmas[-1]:g}, {sum(v == HOLDS for v in verdicts)} of them within {margin('affine'):g}; at sigma = {sigmas[worst]:g} {text(unexplained[worst], 3)} against "
        f"{text(excess[worst], 3)}, difference {signed(apart[worst])}"
    )
    return make_claim("O5", figure, profile, measured, found, unexplained=unexplained[worst], excess=excess[worst])
