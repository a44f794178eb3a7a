"""Starts at a low noise level against the full run: the common part of C6 and P4.3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..measures.estimate import Estimate
from .verdicts import above, all_of, any_of, below, margin
from .wording import signed, some, text


@dataclass(frozen=True)
class LateStart:
    """A start at ``sigma`` that takes ``calls`` network calls, and its Frechet distance.

    ``loss``: minus the full run's; ``gain``: minus that of a full run shortened to as many calls
    (negative: the late start is better). ``nearness`` to the ground truths, for starts that have
    some; ``plain_loss``: the loss of plain noise at the same level, where a claim asks for it.
    """

    sigma: float
    calls: int
    frechet: Estimate
    loss: Estimate
    gain: Estimate
    nearness: Estimate | None = None
    plain_loss: Estimate | None = None

    def verdict(self, allowed: float) -> str:
        """As good as the full run, better than the shortened one, no copy, plain noise worse?"""
        parts = [below(self.loss, allowed), below(self.gain, 0.0)]
        if self.nearness is not None:
            parts.append(above(self.nearness, margin("nearness")))
        if self.plain_loss is not None:
            parts.append(above(self.plain_loss, allowed))
        return all_of(parts)

    def describe(self) -> str:
        """The numbers in words."""
        said = f"at sigma = {self.sigma:g} with {self.calls} calls {text(self.frechet)}: "
        said += f"{signed(self.loss, 2)} against the full run, "
        said += f"{signed(self.gain, 2)} against a full run of as many calls"
        if self.nearness is not None:
            said += f", nearness {text(self.nearness)}"
        if self.plain_loss is not None:
            said += f"; plain noise there {signed(self.plain_loss, 2)}"
        return said


def late_starts(
    starts: Sequence[LateStart], full_calls: int, allowed: float
) -> tuple[str, LateStart]:
    """The verdict over several levels, and the start that stands for it.

    One level that holds is enough. Shown is the cheapest of the best-judged starts.
    Raises ``ValueError`` for a start with too many calls, or none at all.
    """
    some(starts=starts)
    fewer = margin("fewer calls")
    for start in starts:
        if start.calls * fewer > full_calls:
            raise ValueError(
                f"starts: {start.calls} calls at sigma = {start.sigma:g}; "
                f"at most 1/{fewer:g} of {full_calls} is asked for"
            )
    verdicts = [start.verdict(allowed) for start in starts]
    found = any_of(verdicts)
    best = [start for start, verdict in zip(starts, verdicts, strict=True) if verdict == found]
    return found, min(best, key=lambda start: start.calls)
