"""Four answers, the margins they are read against, and the gates in front of measures.

A rule compares a 95 % interval with a fixed margin, never the value alone nor the width of the
interval: few samples make an answer uncertain, not favourable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..measures.estimate import Estimate, difference
from ..support.files import read_toml

HOLDS, FAILS, WEAK, UNSEEN = "holds", "does not hold", "too weak to tell", "not testable here"
VERDICTS = (FAILS, UNSEEN, WEAK, HOLDS)  # worst first


@dataclass(frozen=True)
class Margin:
    """A number of margins.toml and why it is this one."""

    value: float
    reason: str


DATA = read_toml(Path(__file__).with_name("margins.toml"))
MARGINS = {name: Margin(**entry) for name, entry in DATA["margins"].items()}
CONDITIONS: dict[str, float] = DATA["conditions"]


def margin(name: str) -> float:
    """The number of :data:`MARGINS`."""
    return MARGINS[name].value


def condition(name: str) -> float:
    """What a rule asks for beside its margins: a number of :data:`CONDITIONS`."""
    return CONDITIONS[name]


def formatted(value: Estimate, form: str) -> str:
    """Value and interval, each in the format ``form``: "1.84 [1.73, 1.94]"."""
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def below(found: Estimate, limit: float) -> str:
    """Is the interval at or below ``limit``? NaN is too weak to tell."""
    return HOLDS if found.high <= limit else FAILS if found.low > limit else WEAK


def above(found: Estimate, limit: float) -> str:
    """Is the interval at or above ``limit``? NaN is too weak to tell."""
    return HOLDS if found.low >= limit else FAILS if found.high < limit else WEAK


def within(found: Estimate, limit: float) -> str:
    """Does the interval lie in [-limit, limit] (a test of equivalence)?"""
    return all_of([above(found, -limit), below(found, limit)])


def inside(found: Estimate, grid: Sequence[float]) -> str:
    """Does the interval lie inside ``grid``, without its ends?

    It fails where the whole interval is one end, or lies beyond it.
    """
    if grid[0] < found.low and found.high < grid[-1]:
        return HOLDS
    return FAILS if found.high <= grid[0] or found.low >= grid[-1] else WEAK


def yes(condition: bool) -> str:
    """A condition without uncertainty."""
    return HOLDS if condition else FAILS


def all_of(verdicts: Iterable[str]) -> str:
    """Of several conditions the worst verdict, in the order of :data:`VERDICTS`.

    No condition at all is too weak to tell.
    """
    verdicts = set(verdicts)
    return next((verdict for verdict in VERDICTS if verdict in verdicts), WEAK)


def any_of(verdicts: Iterable[str]) -> str:
    """Of several chances: one that holds is enough; else an undecided one decides.

    No chance at all does not hold.
    """
    verdicts = set(verdicts)
    return next((verdict for verdict in (HOLDS, WEAK, UNSEEN) if verdict in verdicts), FAILS)


# --- gates


@dataclass(frozen=True)
class Gate:
    """Can a measure resolve the question that it is used for?

    ``closed`` says why not; None: it can.
    """

    closed: str | None = None

    def judged(self, verdict: str) -> str:
        """``verdict``, or "not testable here" behind a closed gate."""
        return verdict if self.closed is None else UNSEEN

    def seen(self, found: Estimate) -> Estimate:
        """``found``, or NaN behind a closed gate: figures leave it out, rules do not use it."""
        return found if self.closed is None else Estimate(math.nan, math.nan, math.nan)

    def text(self, found: Estimate, digits: int = 2) -> str:
        """The number with its interval, or why there is none."""
        if self.closed is not None:
            return f"{UNSEEN} ({self.closed})"
        return formatted(found, f".{digits}f")


OPEN = Gate()


def class_gate_of(sigmas: Sequence[float], told: Sequence[Estimate], midpoint: float) -> Gate:
    """May T_s be read? Only where a network that is *told* the class keeps it.

    ``told`` (S,) is the class retention with the label given, at ``sigmas`` (S,), the levels beyond
    T_m up to where T_s is read; all must lie above ``midpoint``. If the network does not paint the
    class it is told, or the classifier does not recognise it, then a class that is lost without
    the label says nothing about speciation.
    """
    if not len(sigmas) or len(sigmas) != len(told):
        raise ValueError(
            f"told has {len(told)} values for {len(sigmas)} sigmas; "
            "at least one, and one of each, is needed"
        )
    worst = min(range(len(sigmas)), key=lambda k: told[k].low)
    if above(told[worst], midpoint) == HOLDS:
        return OPEN
    return Gate(
        f"class retention with the label given is {formatted(told[worst], '.2f')} "
        f"at sigma_u = {sigmas[worst]:g}, not above {midpoint:.2f}: the network does not paint "
        "the class it is told, or the classifier does not recognise it"
    )


def quality_gate(free: Estimate, floor: Estimate, unit: float) -> Gate:
    """May a change of quality be judged? Only around samples that are good.

    Their Frechet distance ``free`` exceeds the ``floor`` by at most :data:`MARGINS` "free samples"
    of ``unit``, the squared distance between two classes in the same features. Both sets have one
    size, so the bias of small sets cancels in the difference.
    """
    if not unit > 0:
        raise ValueError(f"unit = {unit} must be positive")
    excess = difference(free, floor)
    excess = Estimate(excess.value / unit, excess.low / unit, excess.high / unit)
    judged = below(excess, margin("free samples"))
    if judged == HOLDS:
        return OPEN
    why = "too bad" if judged == FAILS else "not shown to be good enough"
    return Gate(
        f"free samples of the network exceed the floor by {formatted(excess, '.2f')} of the "
        f"squared distance between two classes, allowed {margin('free samples'):g}: {why} for a "
        "change of quality to mean anything"
    )
