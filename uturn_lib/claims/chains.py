"""The rules of page B5: chains of U-Turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .verdicts import Gate, above, all_of, any_of, margin, within
from .wording import signed, some, text, why_closed


@rule("B5.1")
def relaxes(gaps: Mapping[str, Sequence[Estimate]]) -> Finding:
    """From the correlation minus its AR(1) value after 1, 2, ... turns, by band and level.

    At the confidence corrected for the number of all gaps.
    """
    some(gaps=gaps)
    worst = {name: max(rows, key=lambda gap: abs(gap.value)) for name, rows in gaps.items()}
    said = "; ".join(f"{name}: {signed(gap, 2)}" for name, gap in worst.items())
    verdict = all_of(within(gap, margin("relaxation")) for rows in gaps.values() for gap in rows)
    return Finding(verdict, f"largest difference over the turns, {said}", dict(worst))


@rule("B5.2")
def steady(drifts: Mapping[str, Estimate]) -> Finding:
    """From the log of the variance kept by later turns, by band and level (corrected)."""
    some(drifts=drifts)
    said = "; ".join(f"{name}: {signed(found, 2)}" for name, found in drifts.items())
    verdict = all_of(within(found, margin("steady")) for found in drifts.values())
    return Finding(verdict, f"log of the variance kept, {said}", dict(drifts))


@rule("B5.3")
def samples(gains: Mapping[float, Estimate], gate: Gate) -> Finding:
    """From effective samples per call over those of free generation, by level (corrected)."""
    some(gains=gains)
    best = max(gains, key=lambda sigma: gains[sigma].value)
    verdict = gate.judged(any_of(above(g, margin("fewer calls")) for g in gains.values()))
    said = (
        f"at best {text(gains[best])} of free generation's, at sigma_u = {best:g}{why_closed(gate)}"
    )
    return Finding(verdict, said, {"best": gains[best]})
