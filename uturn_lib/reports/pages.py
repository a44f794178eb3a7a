"""What README.md and docs/*.md quote from the committed claims: written and checked here.

Between marks stand

* ``<!-- claims:begin -->`` ... ``<!-- claims:end -->``: the table of all verdicts; ``numbers``
  likewise
* ``<!-- laptop fig09 C1.T_m -->1.83 [1.73, 1.94]<!-- / -->``: the value ``T_m`` of claim C1 in
  Figure 9; with ``%`` after the name in per cent, with ``exp`` its exponential
* ``<!-- laptop C4 -->does not hold<!-- / -->``: the verdict on C4 over all figures.

:func:`update` rewrites tables and numbers. It does not rewrite a verdict: the sentence around it
has to be read again by a person.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from ..claims import pages as ledger
from ..support import checks
from ..support.files import write_text
from ..support.places import needs_checkout, reference_folder

COMPARED = ("laptop", "cifar10")  # profiles whose results are in the repository
CLAIM = r"[A-Z]\d[a-z]?(?:\.\d)?"
NUMBER = re.compile(rf"(<!-- (\w+) (\w+) ({CLAIM})\.([\w ]+?)(?: (%|exp))? -->)(.*?)(<!-- / -->)")
VERDICT = re.compile(rf"<!-- (\w+) ({CLAIM}) -->(.*?)<!-- / -->")


def documents() -> list[Path]:
    """README.md and the pages in docs/; ``FileNotFoundError`` in an installed package."""
    root = needs_checkout("README and docs")
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def update() -> None:
    """Put the committed claims into all pages.

    Raises ``ValueError`` where a quoted verdict is no longer the ledger's.
    """
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if (new := with_claims(text)) != text:
            write_text(path, new)
        stale += [f"{path.name}: {found}" for found in stale_verdicts(new)]
    if stale:
        raise ValueError(f"correct these verdicts and the sentences around: {'; '.join(stale)}")


def with_claims(text: str) -> str:
    """``text`` with the tables and numbers of the committed ledgers between its marks."""
    text = _with_table(text, "claims", ledger.summary(*COMPARED, place=reference_folder))
    text = _with_table(text, "numbers", ledger.numbers(*COMPARED, place=reference_folder))
    return NUMBER.sub(lambda found: found[1] + number(*found.group(2, 3, 4, 5, 6)) + found[8], text)


def stale_verdicts(text: str) -> Iterator[str]:
    """The verdicts quoted in ``text`` that are not the committed ones."""
    for profile, claim, quoted in VERDICT.findall(text):
        known = ledger.overall_verdicts(profile, reference_folder).get(claim, "not judged")
        if quoted.strip("* ") != known:
            yield f"{claim} of {profile} is quoted as {quoted!r}, the ledger says {known!r}"


def number(profile: str, figure: str, claim: str, name: str, form: str | None = None) -> str:
    """Value ``name`` of ``claim`` in the committed ledger with its interval: "1.83 [1.73, 1.94]".

    ``form``: "%" for per cent, "exp" for the exponential of a logarithm. Raises ``ValueError`` for
    a claim or value that is not there.
    """
    entries = ledger.read_ledger(profile, reference_folder)
    values = {(entry["figure"], entry["id"]): entry["values"] for entry in entries}
    checks.one_of("claim", (figure, claim), values)
    checks.one_of(f"value of {claim}", name, values[figure, claim])
    value = values[figure, claim][name]
    ends = [float(end) for end in (value.values() if isinstance(value, dict) else [value])]
    ends = [100 * end if form == "%" else math.exp(end) if form == "exp" else end for end in ends]
    shown = _rounded(ends)
    ends_shown = f" [{shown[1]}, {shown[2]}]" if len(shown) == 3 else ""
    return shown[0] + ends_shown + (" %" if form == "%" else "")


def _rounded(ends: list[float]) -> list[str]:
    """A value and the ends of its interval, rounded to 1/50 to 1/5 of the half-width.

    A value alone: three digits.
    """
    half = (ends[-1] - ends[1]) / 2 if len(ends) == 3 else 0.0
    if not 0 < half < math.inf:
        return [f"{end:.3g}" for end in ends]
    decimals = max(0, math.floor(1.7 - math.log10(half)))
    return [f"{end:.{decimals}f}" for end in ends]


def _with_table(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marks of ``name``, where it has them."""
    marks = re.compile(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)
