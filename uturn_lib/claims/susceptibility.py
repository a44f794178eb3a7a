"""The rules of Figure B4, what changes together: a function for each claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .class_entropy import log_ratio
from .verdicts import Gate, above, all_of, any_of, inside, margin, within
from .wording import exponential, some, text, why_closed

PRIMARY = "pixels"  # fixed before any result


def in_spaces(verdicts: Mapping[str, str], said: Mapping[str, str], values: dict) -> Finding:
    """The verdict in the primary space decides; the others are senses beside it."""
    order = sorted(verdicts, key=lambda space: space != PRIMARY)
    measured = "; ".join(f"{space}: {said[space]}" for space in order)
    return Finding(verdicts[PRIMARY], measured, values, {name: verdicts[name] for name in order})


@rule("B4.1")
def changes_peak(
    sigmas: Sequence[float],
    peaks: Mapping[str, Estimate],
    over_last: Mapping[str, Sequence[Estimate]],
) -> Finding:
    """From the ``peaks`` of the susceptibility in each space, "pixels" among them.

    ``over_last``: its logarithm at each level but the last, minus that at the last, at the
    corrected confidence.
    """
    some(peaks=peaks)
    verdicts: dict[str, str] = {}
    said: dict[str, str] = {}
    values: dict[str, object] = {}
    for space, peak in peaks.items():
        higher = any_of(above(gap, math.log(margin("higher"))) for gap in over_last[space])
        verdicts[space] = all_of([inside(peak, sigmas), higher])
        top = max(over_last[space], key=lambda gap: gap.value)
        said[space] = f"peak at sigma_u = {text(peak)}, {text(exponential(top))} times the last"
        values |= {f"{space}_peak": peak, f"{space}_height": exponential(top)}
    return in_spaces(verdicts, said, values)


@rule("B4.2")
def peak_at_class(peaks: Mapping[str, Estimate], t_s: Estimate, gate: Gate) -> Finding:
    """From the ``peaks`` of the susceptibility in each space, and T_s of the same U-Turns."""
    some(peaks=peaks)
    if gate.closed is not None:
        said = {space: f"peak at sigma_u = {text(peak)}" for space, peak in peaks.items()}
        found = in_spaces(dict.fromkeys(peaks, gate.judged("")), said, dict(peaks))
        return Finding(found.verdict, found.measured + why_closed(gate), found.values, found.senses)
    gaps = {space: log_ratio(peak, t_s) for space, peak in peaks.items()}
    verdicts = {space: within(gap, math.log(margin("one level"))) for space, gap in gaps.items()}
    said = {
        space: f"peak at sigma_u = {text(peak)}, peak / T_s = {text(exponential(gaps[space]))}"
        for space, peak in peaks.items()
    }
    values = {f"{space}_gap": gap for space, gap in gaps.items()} | {"T_s": t_s}
    return in_spaces(verdicts, said, values)
