"""What rules share: numbers in words, and checks of their evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measures.estimate import Estimate
from .verdicts import UNSEEN, Gate, formatted


def same_length(**sequences: Sequence) -> None:
    """``ValueError`` unless all have one value per level."""
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
    return formatted(value, f".{digits}f")


def signed(value: Estimate, digits: int = 3) -> str:
    """The same with its sign, for differences."""
    return formatted(value, f"+.{digits}f")


def short(value: Estimate) -> str:
    """Three significant digits."""
    return formatted(value, ".3g")


def share(value: Estimate) -> str:
    """In per cent."""
    return formatted(value, ".0%")


def exponential(value: Estimate) -> Estimate:
    """A ratio from the difference of logarithms."""
    return Estimate(math.exp(value.value), math.exp(value.low), math.exp(value.high))


def why_closed(gate: Gate) -> str:
    """What a closed gate adds to the measured numbers."""
    return f"; {UNSEEN}: {gate.closed}" if gate.closed else ""
