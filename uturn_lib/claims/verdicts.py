"""Four answers, the margins they are read against, and the gates in front of instruments.

A rule compares a 95 % interval with a fixed margin. It never uses the value alone or the width of the interval: few samples make an answer
uncertain, not favourable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..measures.estimate import Estimate, difference

HOLDS, FAILS, WEAK, UNSEEN = "holds", "does not hold", "too weak to tell", "not testable here"
VERDICTS = (FAILS, UNSEEN, WEAK, HOLDS)  # worst first


@dataclass(frozen=True)
class Margin:
    """A number and why it is this one. All were fixed on 2026-11-24, before the runs that are judged by them."""

    value: float
    reason: str


MARGINS = {
    "returned": Margin(0.95, "'(nearly) its ground truth': nineteen of twenty outputs"),
    "lost": Margin(0.05, "the mirror image of 'returned': one of twenty"),
    "chance": Margin(0.10, "a tenth above chance: 200 ground truths resolve 0.04, 160 resolve 0.05"),
    "own spread": Margin(0.10, "in log sigma: 10 % either way; less would be no property of an image worth having"),
    "affine": Margin(0.02, "'effectively affine': 2 % of the variance"),
    "nearly affine": Margin(0.05, "'approximately' on [T_m, T_s]"),
    "identity": Margin(0.05, "'approximately', as in C4"),
    "moved": Margin(0.05, "of the distance between unrelated images: below what is seen by eye"),
    "loss": Margin(0.25, "of the floor: what a set of real images a fifth smaller would add (the bias goes like 1/N)"),
    "free samples": Margin(
        0.10,
        "of the squared distance between two classes: squared, since Frechet distances are; 0.1 is a third of the way from one class to the next",
    ),
    "fewer calls": Margin(1.2, "below the paper's 1.35, above what one step more or less changes"),
    "nearness": Margin(0.95, "outputs at most 5 % nearer to their ground truths than other real images are"),
    "null rate": Margin(0.02, "the paper's plateau lies 0.034 above the null rate: it must not pass"),
    "alike": Margin(1.2, "half a step of the grid of levels, a factor of 1.4"),
    "phases": Margin(0.10, "of rank correlation: one tenth of its range"),
    "time saved": Margin(0.27, "the published saving"),
    "budget": Margin(0.10, "of the distance between unrelated images: twice what is hardly seen"),
    "straight": Margin(0.01, "of the length; published: 0.3 %"),
    "generations": Margin(0.90, "'always' as far as 48 generations can show it: all of 48 resolve 0.93"),
    "close": Margin(0.25, "of the greatest distance on the path"),
    "shorter": Margin(1.5, "two levels of the grid"),
    "same T": Margin(2.0, "two levels of the grid, a factor of 1.4 each"),
}


def margin(name: str) -> float:
    """The number of :data:`MARGINS`."""
    return MARGINS[name].value


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
    """Does the interval lie inside ``grid``, without its ends? It fails where the whole interval is one end, or lies beyond it."""
    if grid[0] < found.low and found.high < grid[-1]:
        return HOLDS
    return FAILS if found.high <= grid[0] or found.low >= grid[-1] else WEAK


def yes(condition: bool) -> str:
    """A condition without uncertainty."""
    return HOLDS if condition else FAILS


def all_of(verdicts: Iterable[str]) -> str:
    """Of several conditions: one that does not hold decides; then one that is not testable, then one that is too weak. Nothing is never enough."""
    verdicts = set(verdicts)
    return next((verdict for verdict in VERDICTS if verdict in verdicts), WEAK)


def any_of(verdicts: Iterable[str]) -> str:
    """Of several chances: one that holds is enough; else what is undecided decides. None at all: does not hold."""
    verdicts = set(verdicts)
    return next((verdict for verdict in (HOLDS, WEAK, UNSEEN) if verdict in verdicts), FAILS)


# ------------------------------------------------------------------------------------------------------------- gates


@dataclass(frozen=True)
class Gate:
    """Can an instrument see what it is to judge? ``closed`` names the instrument and says why not; None: it can."""

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
        return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


OPEN = Gate()


def class_gate_of(sigmas: Sequence[float], told: Sequence[Estimate], midpoint: float) -> Gate:
    """May T_s be read? Only where a network that is *told* the class keeps it: class retention with the label given, ``told`` (S,), above ``midpoint``.

    If the network does not paint the class it is told, or the classifier does not recognise it, then a class that is lost without the label
    says nothing about speciation. ``sigmas``: the levels beyond T_m up to where T_s is read.
    """
    if not len(sigmas) or len(sigmas) != len(told):
        raise ValueError(
            f"told has {len(told)} values for {len(sigmas)} sigmas; at least one, and one of each, is needed"
        )
    worst = min(range(len(sigmas)), key=lambda k: told[k].low)
    if above(told[worst], midpoint) == HOLDS:
        return OPEN
    found = told[worst]
    return Gate(
        f"class retention with the label given is {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] at sigma_u = {sigmas[worst]:g}, not above {midpoint:.2f}: "
        "the network does not paint the class it is told, or the classifier does not recognise it"
    )


def quality_gate(free: Estimate, floor: Estimate, unit: float) -> Gate:
    """May a change of quality be judged? Only around samples that are good: their Frechet distance ``free`` exceeds the ``floor`` by at most
    :data:`MARGINS` "free samples" of ``unit``, the squared distance between two classes in the same features.

    Both sets have one size, so the bias of small sets cancels in the difference.
    """
    if not unit > 0:
        raise ValueError(f"unit = {unit} must be positive")
    excess = difference(free, floor)
    excess = Estimate(excess.value / unit, excess.low / unit, excess.high / unit)
    judged = below(excess, margin("free samples"))
    if judged == HOLDS:
        return OPEN
    why = (
        "too bad for a change of quality to mean anything"
        if judged == FAILS
        else "not shown to be good enough for a change of quality to mean anything"
    )
    return Gate(
        f"free samples of the network exceed the floor by {excess.value:.2f} [{excess.low:.2f}, {excess.high:.2f}] of the squared distance between two classes, "
        f"allowed {margin('free samples'):g}: {why}"
    )
