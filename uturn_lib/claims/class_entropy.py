"""The rules of Figure B7, the entropy of the class: a function for each claim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..measures.estimate import Estimate, difference
from .claim import Finding, rule
from .verdicts import UNSEEN, Gate, all_of, below, inside, margin, within
from .wording import exponential, text, why_closed


def log_ratio(a: Estimate, b: Estimate) -> Estimate:
    """``ln a - ln b`` of two independent noise levels; NaN where one was not seen (0, inf, NaN)."""
    if not (0 < a.value < math.inf and 0 < b.value < math.inf):
        return Estimate(math.nan, math.nan, math.nan)
    with np.errstate(divide="ignore"):
        logs = [
            Estimate(*(float(np.log(end)) for end in (one.value, one.low, one.high)))
            for one in (a, b)
        ]
    return difference(*logs)


@rule("B7.1")
def lost_between(
    sigmas: Sequence[float], peak: Estimate, ends: tuple[Estimate, Estimate]
) -> Finding:
    """From the ``peak`` of the rate, and the rates at both ends as parts of the highest."""
    measured = (
        f"the rate peaks at sigma = {text(peak)}; at sigma = {sigmas[0]:.3g} it is "
        f"{text(ends[0], 3)} of the highest, at {sigmas[-1]:.3g} {text(ends[1], 3)}"
    )
    parts = [inside(peak, sigmas), *(below(end, margin("vanishes")) for end in ends)]
    return Finding(all_of(parts), measured, {"peak": peak, "first": ends[0], "last": ends[1]})


@rule("B7.2")
def two_instruments(
    classes: int,
    total: Estimate,
    errors: Estimate,
    classifier: Estimate | None,
    log_gap: Estimate | None,
) -> Finding:
    """From ``total``, the integral of the rate in nats, and where half of ln K is lost.

    ``errors``, ``classifier``: that level by denoising errors and by the classifier; ``log_gap``
    their paired log ratio. ``classifier`` None: there is none, and nothing to compare.
    """
    whole = math.log(classes)
    missing = Estimate(*(end / whole - 1 for end in (total.value, total.low, total.high)))
    measured = f"the rate adds up to {text(total)} nats, ln K = {whole:.2f}; half of it is lost at "
    measured += f"sigma = {text(errors)} by denoising errors"
    values = {"total": total, "errors": errors}
    if classifier is None or log_gap is None:
        return Finding(UNSEEN, f"{measured}; there is no classifier of noisy images", values)
    measured += f", {text(classifier)} by the classifier, ratio {text(exponential(log_gap))}"
    parts = [within(missing, margin("same entropy")), within(log_gap, math.log(margin("alike")))]
    return Finding(all_of(parts), measured, values | {"classifier": classifier, "gap": log_gap})


@rule("B7.3")
def peak_at_speciation(peak: Estimate, t_s: Estimate, gate: Gate) -> Finding:
    """From the ``peak`` of the rate and T_s of U-Turns."""
    gap = log_ratio(peak, t_s)
    verdict = gate.judged(within(gap, math.log(margin("one level"))))
    measured = f"the rate peaks at sigma = {text(peak)}"
    if gate.closed is not None:
        return Finding(verdict, measured + why_closed(gate), {"peak": peak})
    measured += f", T_s = {text(t_s)}, ratio {text(exponential(gap))}"
    return Finding(verdict, measured, {"peak": peak, "T_s": t_s, "gap": gap})
