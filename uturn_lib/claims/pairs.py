"""What claim C2 is judged by: a space for "whose image" and an instrument for "which class"."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..measures.estimate import Estimate
from .verdicts import FAILS, OPEN, UNSEEN, WEAK, Gate, above, all_of, below, margin
from .wording import exponential, text

PRIMARY_PAIR = "features"  # fixed before any result: statements.toml, C2


@dataclass(frozen=True)
class Pair:
    """T_m in a space, T_s by an instrument, and ``gap``, the paired log T_s - log T_m.

    ``last``: class retention at the largest sigma_u; None where the class is not expected to be
    lost, because it is told, or because only a bound is known. ``from_below``: T_s is that of a
    lower bound of the class retention of the data: no U-Turn is needed for it, so no gate either.
    """

    t_m: Estimate
    t_s: Estimate
    gap: Estimate
    last: Estimate | None = None
    from_below: bool = False

    def gate(self, gate: Gate) -> Gate:
        """``gate``, where classes are read off U-Turns; closed where the space sees no image.

        A T_m of 0 says that the image is not found again after the smallest turn.
        """
        if self.t_m.value <= 0:
            return Gate("in this space the image is not found again even after the smallest turn")
        return OPEN if self.from_below else gate

    def judged(self, classes: int, gate: Gate) -> str:
        """The verdict on this pair."""
        later = above(self.gap, 0.0)
        if self.from_below and later == FAILS:  # a bound that crosses early is a poor bound
            later = WEAK
        parts = [later]
        if self.last is not None:
            parts.append(below(self.last, 1 / classes + margin("chance")))
        return self.gate(gate).judged(all_of(parts))

    @property
    def ratio(self) -> Estimate:
        """T_s / T_m."""
        return exponential(self.gap)

    def values(self, gate: Gate) -> dict[str, object]:
        """The numbers behind the verdict; none of T_s behind a closed gate."""
        values: dict[str, object] = {"T_m": self.t_m}
        if self.gate(gate).closed is None:
            values |= {"T_s": self.t_s, "log_gap": self.gap}
        return values if self.last is None else values | {"largest": self.last}

    def measured(self, classes: int, gate: Gate) -> str:
        """What was measured, in words."""
        said = [f"T_m = {text(self.t_m)}" if self.t_m.value > 0 else f"T_m {UNSEEN}"]
        if self.t_m.value <= 0:
            said.append(str(self.gate(gate).closed))
        elif self.gate(gate).closed:
            said.append(f"T_s {UNSEEN}")
        elif math.isinf(self.t_s.value):
            said.append("class kept at every level")
        else:
            equal = "at least " if self.from_below else "= "
            said.append(f"T_s {equal}{text(self.t_s)}, T_s / T_m {equal}{text(self.ratio)}")
        if self.last is not None:
            chance = f"chance {1 / classes:.2f}"
            said.append(f"class retention at the largest sigma_u {text(self.last)}, {chance}")
        return ", ".join(said)
