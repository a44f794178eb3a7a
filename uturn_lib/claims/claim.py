"""From evidence to a judged claim: the registry of rules, their answer, the entry in the ledger."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ..measures.estimate import Estimate
from ..support import checks
from .statements import STATEMENTS, Statement


@dataclass(frozen=True)
class Finding:
    """What a rule answers: the verdict, what was measured, and the numbers behind it.

    ``values``: numbers, or estimates with their intervals; None where there is none. ``senses``:
    the verdict in each sense of the claim that was judged, the deciding one first.
    """

    verdict: str
    measured: str
    values: Mapping[str, object] = field(default_factory=dict)
    senses: Mapping[str, str] = field(default_factory=dict)


Rule = TypeVar("Rule", bound=Callable[..., Finding])
RULES: dict[str, Callable[..., Finding]] = {}


def rule(id: str) -> Callable[[Rule], Rule]:
    """Decorator: the function judges the claim ``id``, from evidence to a :class:`Finding`."""
    checks.one_of("claim", id, STATEMENTS)

    def register(function: Rule) -> Rule:
        if id in RULES:
            raise ValueError(f"claim {id} has a rule already: {RULES[id].__name__}")
        RULES[id] = function
        return function

    return register


@dataclass(frozen=True)
class Claim:
    """A claim judged in one figure of one profile."""

    id: str
    figure: str
    profile: str
    finding: Finding

    def __post_init__(self) -> None:
        checks.one_of("claim", self.id, STATEMENTS)
        self.statement.meaning(self.verdict)  # refuses an unknown verdict

    @property
    def statement(self) -> Statement:
        return STATEMENTS[self.id]

    @property
    def verdict(self) -> str:
        return self.finding.verdict

    @property
    def measured(self) -> str:
        return self.finding.measured

    @property
    def meaning(self) -> str:
        """The verdict in a plain sentence."""
        return self.statement.meaning(self.verdict)

    def entry(self) -> dict[str, object]:
        """The claim in claims.json. Estimates become {value, low, high}."""
        entry: dict[str, object] = {
            "id": self.id,
            "figure": self.figure,
            "profile": self.profile,
            "measured": self.measured,
            "verdict": self.verdict,
            "values": {name: plain(value) for name, value in self.finding.values.items()},
            "statement": self.statement.text,
            "source": self.statement.source,
            "rule": self.statement.rule,
            "meaning": self.meaning,
        }
        if self.finding.senses:
            entry["senses"] = dict(self.finding.senses)
        return entry

    def __str__(self) -> str:
        return f"{self.id} {self.verdict}"


def judge(id: str, figure: str, profile: str, /, **evidence: object) -> Claim:
    """The claim ``id``, judged from ``evidence``, the arguments of its rule.

    Raises ``ValueError`` for an unknown claim, ``TypeError`` for evidence its rule does not take.
    """
    checks.one_of("claim", id, RULES)
    signature = inspect.signature(RULES[id])
    try:
        signature.bind(**evidence)
    except TypeError as error:
        allowed = ", ".join(signature.parameters)
        raise TypeError(f"evidence of {id}: {error}; its rule takes {allowed}") from None
    return Claim(id, figure, profile, RULES[id](**evidence))


def plain(value: object) -> object:
    """``value`` as JSON: four digits, "nan" and "inf" as text."""
    if isinstance(value, Estimate):
        return {name: plain(number) for name, number in value.as_dict().items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value
