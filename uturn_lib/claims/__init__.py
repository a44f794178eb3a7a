"""Statements of the papers, the rules that judge them, and the ledger of verdicts.

A page needs :class:`Ledger`. The statements and their rules in words are in statements.toml, the
numbers in margins.toml. The rules as code: ``paper``, ``companions``, and a file for each page
beyond the paper. The four verdicts and the gates: ``verdicts``. Markdown: ``pages``. Numbers of
others: ``published``.
"""

from . import b2, b6, b8, chains, class_entropy, companions, memory, paper, susceptibility
from .claim import RULES, Claim, Finding, judge, rule
from .late_starts import LateStart, late_starts
from .ledger import Ledger, record
from .pages import judged, numbers, overall_verdicts, page, read_ledger, summary
from .statements import CHANGES, PAPER_CLAIMS, STATEMENTS, Statement

__all__ = [
    "CHANGES",
    "Claim",
    "Finding",
    "LateStart",
    "Ledger",
    "PAPER_CLAIMS",
    "RULES",
    "STATEMENTS",
    "Statement",
    "class_entropy",
    "b2",
    "b6",
    "b8",
    "chains",
    "companions",
    "judge",
    "judged",
    "late_starts",
    "memory",
    "numbers",
    "overall_verdicts",
    "page",
    "paper",
    "read_ledger",
    "record",
    "rule",
    "summary",
    "susceptibility",
]
