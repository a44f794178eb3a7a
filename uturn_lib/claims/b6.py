"""The rules of page B6: what makes an image last longer than another?"""

from __future__ import annotations

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .verdicts import above, all_of, margin
from .wording import signed, text


@rule("B6.1")
def coverage_explains(alone: Estimate, slope: Estimate, reliability: float) -> Finding:
    """From the regression of log T_m on the log distance to the nearest other image.

    ``alone``: its held-out R^2; ``reliability``: the share of the variance that is not chance.
    """
    measured = (
        f"held-out R^2 of the distance alone {text(alone)}, of at most {reliability:.2f}; "
        f"log T_m grows by {text(slope)} for each unit of log distance"
    )
    verdict = all_of([above(alone, margin("explained")), above(slope, 0.0)])
    return Finding(verdict, measured, {"explained": alone, "slope": slope})


@rule("B6.2")
def coverage_matters_most(coverage: Estimate, looks: Estimate, more: Estimate) -> Finding:
    """From the R^2 that is lost without the traits of coverage, and without those of looks.

    ``more``: the first minus the second, paired.
    """
    measured = (
        f"R^2 lost without coverage {signed(coverage)}, without the looks {signed(looks)}, "
        f"difference {signed(more)}"
    )
    values = {"coverage": coverage, "looks": looks, "more": more}
    return Finding(above(more, 0.0), measured, values)
