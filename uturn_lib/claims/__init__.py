"""Statements of the papers, the rules that judge them, and the ledger of verdicts.

Statements and rules in words: ``statements``. Margins and the four answers: ``verdicts``. The paper's claims are judged in ``paper``, those of the companion studies in
``companions``; ``ledger`` keeps the results, ``published`` has the numbers and curves of others that they are compared with.
"""

from .claim import Claim, LateStart, late_starts, make_claim, meaning, signed, some, text, why_closed
from .ledger import judged, numbers, overall_verdicts, page, read_ledger, record, report, summary
from .paper import (
    best_turn,
    deterministic,
    faster,
    gaussian_test,
    halves_agree,
    identity_holds,
    individual_transitions,
    insensitive,
    memorization,
    no_speciation,
    not_recall,
    null_rate_met,
    settles,
    speciation,
)
from .statements import CHANGES, MEANINGS, PAPER_CLAIMS, STATEMENTS

__all__ = [
    "CHANGES",
    "Claim",
    "LateStart",
    "MEANINGS",
    "PAPER_CLAIMS",
    "STATEMENTS",
    "best_turn",
    "deterministic",
    "faster",
    "gaussian_test",
    "halves_agree",
    "identity_holds",
    "individual_transitions",
    "insensitive",
    "judged",
    "late_starts",
    "make_claim",
    "meaning",
    "memorization",
    "no_speciation",
    "not_recall",
    "null_rate_met",
    "numbers",
    "overall_verdicts",
    "page",
    "read_ledger",
    "record",
    "report",
    "settles",
    "signed",
    "some",
    "speciation",
    "summary",
    "text",
    "why_closed",
]
