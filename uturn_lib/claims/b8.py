"""The rules of page B8: where does the score need to see the whole image?"""

from __future__ import annotations

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .verdicts import Gate, above, all_of, below, margin
from .wording import exponential, text, why_closed


@rule("B8.1")
def local_score_predicts(sigma: float, alike: Estimate, apart: Estimate) -> Finding:
    """From the median r^2 of the outputs of network and local score, and of unrelated outputs."""
    measured = (
        f"median r^2 {text(alike)} at sigma_u = {sigma:g}, of outputs of different starts "
        f"{text(apart)}"
    )
    return Finding(above(alike, margin("local r2")), measured, {"alike": alike, "apart": apart})


@rule("B8.2")
def gap_between_times(peak: Estimate, after: Estimate, before: Estimate, gate: Gate) -> Finding:
    """From the level of the largest gap, ``after`` = log peak / T_m, ``before`` = log peak / T_s.

    ``gate``: may T_s be read?
    """
    measured = f"largest gap at sigma = {text(peak)}, {text(exponential(after))} times T_m"
    if gate.closed is None:
        measured += f", {text(exponential(before))} times T_s"
    verdict = gate.judged(all_of([above(after, 0.0), below(before, 0.0)]))
    return Finding(verdict, measured + why_closed(gate), {"peak": peak, "after": after})
