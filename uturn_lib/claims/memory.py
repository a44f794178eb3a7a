"""The rule of page B3: when memory comes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..measures.estimate import Estimate
from .claim import Finding, rule
from .statements import STATEMENTS
from .verdicts import UNSEEN, all_of, margin, within
from .wording import text

THRESHOLDS = {"loss": "loss gap", "T_m": "memory gap", "copies": "memorised"}


@rule("B3.1")
def onset(slopes: Mapping[str, Estimate], generalisation: Estimate) -> Finding:
    """From d log(onset of memory) / d log N by each sense of the claim, and the same of learning.

    NaN: the onset was seen for fewer than three numbers of training images.
    """
    senses = STATEMENTS["B3.1"].senses
    if set(slopes) != set(senses):
        raise ValueError(f"slopes has {', '.join(slopes)}; needed: {', '.join(senses)}")
    level = within(generalisation, margin("scaling"))
    verdicts, said = {}, []
    for sense in senses:
        slope, words = slopes[sense], f"{senses[sense]}, at {margin(THRESHOLDS[sense]):g}"
        if math.isnan(slope.value) or math.isnan(generalisation.value):
            verdicts[sense] = UNSEEN
            said.append(f"({words}) {UNSEEN}: seen for fewer than three N")
            continue
        shifted = Estimate(slope.value - 1, slope.low - 1, slope.high - 1)
        verdicts[sense] = all_of([within(shifted, margin("scaling")), level])
        said.append(f"({words}) {verdicts[sense]}: exponent {text(slope)}")
    said.append(f"exponent of learning (to {margin('learned'):g}) {text(generalisation)}")
    values: dict[str, object] = {f"exponent {sense}": slope for sense, slope in slopes.items()}
    values["exponent learning"] = generalisation
    return Finding(next(iter(verdicts.values())), "; ".join(said), values, verdicts)
