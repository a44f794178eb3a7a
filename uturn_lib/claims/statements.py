"""The statements of statements.toml, with the numbers of margins.toml filled into their rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..support import checks
from ..support.files import read_toml
from .verdicts import CONDITIONS, HOLDS, MARGINS, VERDICTS

DATA = read_toml(Path(__file__).with_name("statements.toml"))
CHANGES: str = DATA["changes"]
SOURCES: dict[str, str] = DATA["sources"]
UNDECIDED: dict[str, str] = DATA["undecided"]


class Number(float):
    """A float that is shown as briefly as possible unless a format is given: 0.10 as 0.1."""

    def __format__(self, form: str) -> str:
        return super().__format__(form or "g")


NUMBERS = {name: Number(one.value) for name, one in MARGINS.items()}
NUMBERS |= {name: Number(value) for name, value in CONDITIONS.items()}


@dataclass(frozen=True)
class Statement:
    """A claim: what is said, whose it is, the figures that judge it, its rule, and what follows.

    ``sentences`` and ``table`` (quantity, where its interval must lie) make up the rule.
    ``holds`` and ``fails`` say the verdicts in plain words. ``decides``: of several figures the one
    whose verdict counts; None: the worst of all. ``senses``: what the claim means in each of
    several senses, in words.
    """

    text: str
    source: str
    figures: tuple[str, ...]
    sentences: tuple[str, ...]
    table: tuple[tuple[str, str], ...]
    holds: str
    fails: str
    decides: str | None
    senses: Mapping[str, str]

    @property
    def rule(self) -> str:
        """The rule as plain text."""
        rows = [f"{quantity}: {condition}." for quantity, condition in self.table]
        return " ".join([*self.sentences, *rows])

    def folded_rule(self) -> str:
        """The rule as HTML that opens on a click; it fits into one line of a table."""
        rows = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in self.table)
        text = "<br>".join(map(escape, self.sentences)) + (f"<table>{rows}</table>" if rows else "")
        return f"<details><summary>rule</summary>{text}</details>"

    def meaning(self, verdict: str) -> str:
        """What ``verdict`` means, in a plain sentence; ``ValueError`` for an unknown verdict."""
        checks.one_of("verdict", verdict, VERDICTS)
        return UNDECIDED.get(verdict) or (self.holds if verdict == HOLDS else self.fails)


def read_statement(entry: dict) -> Statement:
    """A table of statements.toml with its gates and numbers in words."""
    gates = [DATA["gates"][gate] for gate in entry.get("gates", ())]
    first = [f"Gate: {' and '.join(gates)}."] if gates else []
    sentences = [text.format(**NUMBERS) for text in entry.get("rule", ())]
    rows = [[text.format(**NUMBERS) for text in row] for row in entry.get("table", ())]
    return Statement(
        text=entry["statement"],
        source=entry["source"],
        figures=tuple(entry["figures"]),
        sentences=tuple(first + sentences),
        table=tuple((quantity, condition) for quantity, condition in rows),
        holds=entry["holds"],
        fails=entry["fails"],
        decides=entry.get("decides"),
        senses=entry.get("senses", {}),
    )


STATEMENTS = {id: read_statement(entry) for id, entry in DATA["claims"].items()}
PAPER_CLAIMS = tuple(id for id, one in STATEMENTS.items() if one.source == "paper")


def claims_of(figure: str) -> list[str]:
    """Claims that ``figure`` judges; ``ValueError`` where there is none."""
    known = {name for statement in STATEMENTS.values() for name in statement.figures}
    checks.one_of("figure", figure, sorted(known))
    return [id for id, statement in STATEMENTS.items() if figure in statement.figures]
