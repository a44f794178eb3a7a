"""A judgement: the statement, what was measured, and the verdict that follows from a stated rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..measures.estimate import Estimate
from ..support import checks
from .statements import MEANINGS, STATEMENTS, UNDECIDED
from .verdicts import HOLDS, UNSEEN, VERDICTS, Gate, above, all_of, any_of, below, margin


@dataclass(frozen=True)
class Claim:
    """One judgement in the ledger. ``values`` holds the numbers behind ``measured``, each with its interval; ``meaning`` says the verdict in plain words."""

    id: str
    figure: str
    profile: str
    measured: str
    verdict: str
    values: dict[str, object] = field(default_factory=dict)
    statement: str = ""
    source: str = ""
    rule: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.source}) {self.verdict}: {self.measured}"


def make_claim(id: str, figure: str, profile: str, measured: str, verdict: str, **values: object) -> Claim:
    """A claim with its statement, rule and meaning looked up. Estimates among ``values`` are stored as {value, low, high}."""
    checks.one_of("claim", id, STATEMENTS)
    checks.one_of("verdict", verdict, VERDICTS)
    statement, source, rule = STATEMENTS[id]
    plain = {name: _plain(value) for name, value in values.items()}
    return Claim(id, figure, profile, measured, verdict, plain, statement, source, rule, meaning(id, verdict))


def meaning(id: str, verdict: str) -> str:
    """What ``verdict`` on the claim ``id`` means, in a plain sentence."""
    if verdict in UNDECIDED:
        return UNDECIDED[verdict]
    return MEANINGS[id][0 if verdict == HOLDS else 1]


def _plain(value: object) -> object:
    if isinstance(value, Estimate):
        return {name: _plain(number) for name, number in value.as_dict().items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)  # JSON has no infinity
    return value


def same_length(**sequences: Sequence) -> None:
    if len({len(sequence) for sequence in sequences.values()}) != 1:
        sizes = ", ".join(f"{name} {len(sequence)}" for name, sequence in sequences.items())
        raise ValueError(f"one value per level is needed, got {sizes}")


def some(**values: Sequence | Mapping) -> None:
    """Nothing measured must never hold: ``ValueError`` for what is empty."""
    for name, value in values.items():
        if not len(value):
            raise ValueError(f"{name} is empty; at least one is needed")


def text(value: Estimate, digits: int = 2) -> str:
    """ "1.84 [1.73, 1.94]"."""
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def signed(value: Estimate, digits: int = 3) -> str:
    """The same with its sign, for differences."""
    return f"{value.value:+.{digits}f} [{value.low:+.{digits}f}, {value.high:+.{digits}f}]"


def why_closed(gate: Gate) -> str:
    """What a closed gate adds to the measured numbers."""
    return f"; {UNSEEN}: {gate.closed}" if gate.closed else ""


@dataclass(frozen=True)
class LateStart:
    """A start at ``sigma`` that takes ``calls`` network calls, and its Frechet distance.

    ``loss``: minus the full run's; ``gain``: minus that of a full run shortened to as many calls (negative: a late start is better).
    ``nearness`` to the ground truths, for starts that have some; ``plain_loss``: the loss of plain noise at the same level, where a claim asks for it.
    """

    sigma: float
    calls: int
    frechet: Estimate
    loss: Estimate
    gain: Estimate
    nearness: Estimate | None = None
    plain_loss: Estimate | None = None

    def verdict(self, allowed: float) -> str:
        """Is it as good as the full run, better than the shortened one, no copy, and does plain noise fail here?"""
        parts = [below(self.loss, allowed), below(self.gain, 0.0)]
        parts += [] if self.nearness is None else [above(self.nearness, margin("nearness"))]
        parts += [] if self.plain_loss is None else [above(self.plain_loss, allowed)]
        return all_of(parts)

    def describe(self) -> str:
        """The numbers in words."""
        said = f"at sigma = {self.sigma:g} with {self.calls} calls {text(self.frechet)}: {signed(self.loss, 2)} against the full run, {signed(self.gain, 2)} against a full run of as many calls"
        said += "" if self.nearness is None else f", nearness {text(self.nearness)}"
        return said + ("" if self.plain_loss is None else f"; plain noise there {signed(self.plain_loss, 2)}")


def late_starts(starts: Sequence[LateStart], full_calls: int, allowed: float) -> tuple[str, LateStart]:
    """The verdict over several levels (one that holds is enough), and the start that stands for it: the cheapest of the best-judged.

    Raises ``ValueError`` for a start with too many calls, or none at all.
    """
    some(starts=starts)
    for start in starts:
        if start.calls * margin("fewer calls") > full_calls:
            raise ValueError(
                f"starts: {start.calls} calls at sigma = {start.sigma:g}; at most 1/{margin('fewer calls'):g} of {full_calls} is asked for"
            )
    verdicts = [start.verdict(allowed) for start in starts]
    found = any_of(verdicts)
    return found, min((s for s, v in zip(starts, verdicts, strict=True) if v == found), key=lambda start: start.calls)
