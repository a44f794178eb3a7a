"""The rule of page B2: are outputs copies of training images?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .verdicts import HOLDS, OPEN, Gate, above, all_of, below, margin
from .wording import some, text, why_closed


def copy_gate(stored: Sequence[Estimate], real: Estimate) -> Gate:
    """Does the criterion know copies when it sees them?

    ``stored``: shares of the empirical score's outputs, all of them copies, that it recognises at
    each level. ``real``: share of held-out images, none of them a copy, that it takes for one.
    """
    some(stored=stored)
    worst = min(stored, key=lambda share: share.low)
    known, spared = above(worst, 1 - margin("copies")), below(real, margin("copies"))
    if known == spared == HOLDS:
        return OPEN
    return Gate(
        f"of stored images {text(worst)} are recognised, of real held-out images {text(real)} are "
        "taken for copies"
    )


@rule("B2.1")
def new_at_every_turn(
    sigmas: Mapping[str, Sequence[float]], shares: Mapping[str, Sequence[Estimate]], gate: Gate
) -> Finding:
    """From the memorised share at each level for each kind of starts, at the corrected confidence.

    Keys of ``sigmas`` and ``shares``: "held out", "training".
    """
    some(shares=shares)
    texts, values = [], {}
    for starts, rows in shares.items():
        some(rows=rows)
        worst = max(range(len(rows)), key=lambda k: rows[k].high)
        values[starts] = rows[worst]
        texts.append(
            f"{starts} starts: at most {text(rows[worst], 3)}, at sigma_u = "
            f"{sigmas[starts][worst]:g} of {len(rows)} levels"
        )
    verdict = all_of(below(row, margin("copies")) for rows in shares.values() for row in rows)
    return Finding(gate.judged(verdict), "; ".join(texts) + why_closed(gate), values)
