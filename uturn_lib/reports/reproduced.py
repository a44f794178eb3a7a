"""Reproduced, or not: the verdicts and numbers of this run beside the committed ones.

The committed results are in figures/reference/<profile>, those of a run in figures/<profile>, which
git does not track: processors differ in the last digits, and a clone must not look modified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support.files import read_json, write_text
from ..support.places import figure_folder, reference_folder

LARGE = 1.0  # half-widths of the committed interval: a number that moves farther has left it
SHOWN = 10  # rows of the table
PLAIN = 0.01  # numbers that have no interval count as moved beyond this part of their size


@dataclass(frozen=True)
class Move:
    """A number of a claim in both ledgers.

    ``moved``: how far, in half-widths of the committed interval (nan: it has none).
    """

    claim: str
    figure: str
    name: str
    committed: str
    here: str
    moved: float


@dataclass(frozen=True)
class Comparison:
    """Two ledgers side by side: ``agree`` of ``compared`` verdicts are the same.

    ``differ``: (claim, figure, committed verdict, verdict here). ``moves``: largest first.
    ``missing``: claims of the committed ledger that this run has not judged. ``same_network``: both
    were made with the same weights.
    """

    agree: int
    compared: int
    differ: list[tuple[str, str, str, str]]
    missing: list[str]
    moves: list[Move]
    same_network: bool


def compare(committed: list[dict[str, Any]], here: list[dict[str, Any]]) -> Comparison:
    """Two ledgers (entries of claims.json), matched by claim and figure."""
    known = {(entry["id"], entry["figure"]): entry for entry in committed}
    found = {(entry["id"], entry["figure"]): entry for entry in here}
    shared = [key for key in known if key in found]
    verdicts = [(*key, known[key]["verdict"], found[key]["verdict"]) for key in shared]
    differ = [row for row in verdicts if row[-2] != row[-1]]
    moves = [move for key in shared for move in _moves(known[key], found[key])]
    moves.sort(key=lambda move: -1.0 if math.isnan(move.moved) else move.moved, reverse=True)
    networks = {entry.get("network") for entry in (*committed, *here)}
    missing = [f"{id} ({figure})" for id, figure in known if (id, figure) not in found]
    return Comparison(
        len(shared) - len(differ), len(shared), differ, missing, moves, len(networks) <= 1
    )


def _moves(committed: dict[str, Any], here: dict[str, Any]) -> list[Move]:
    """The numbers that two entries of one claim share."""
    rows = []
    for name, old in committed["values"].items():
        new = here["values"].get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            half = (_number(old["high"]) - _number(old["low"])) / 2
            moved = _distance(_number(old["value"]), _number(new["value"]), half)
        elif isinstance(old, (int, float)) and isinstance(new, (int, float)):
            moved = math.nan
            if math.isclose(old, new, rel_tol=PLAIN, abs_tol=1e-12):
                continue
        else:
            continue
        rows.append(Move(committed["id"], committed["figure"], name, _text(old), _text(new), moved))
    return rows


def _distance(old: float, new: float, half: float) -> float:
    """Distance in half-widths; 0 for equal numbers (infinite ones as well).

    inf where an interval has no width, nan where nothing can be said.
    """
    if old == new:
        return 0.0
    if not math.isfinite(half) or math.isnan(old - new):
        return math.nan
    return abs(new - old) / half if half > 0 else math.inf


def _number(value: float | str) -> float:
    return float(value)  # JSON has no infinity: such numbers are stored as text


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{value:.4g} [{low:.4g}, {high:.4g}]".format(
            **{end: _number(value[end]) for end in ("value", "low", "high")}
        )
    return f"{value:.4g}"


def summary(found: Comparison) -> str:
    """One or two lines for the terminal."""
    if not found.compared:
        return "nothing to compare: the committed ledger has none of these claims"
    text = f"{found.agree} of {found.compared} verdicts are the committed ones"
    measured = [move for move in found.moves if not math.isnan(move.moved)]
    if measured:
        most = measured[0]
        text += f"; the number that moved most: {most.name} of {most.claim} ({most.figure}), "
        text += f"{most.committed} -> {most.here}, {most.moved:.2g} half-widths of its interval"
    for id, figure, old, new in found.differ:
        text += f"\n  {id} ({figure}): {new}; committed: {old}"
    return text


def page(profile: str, found: Comparison) -> str:
    """REPRODUCED.md."""
    lines = [
        f"# Reproduced? Profile {profile}",
        "",
        "Written at the end of `make figures`; not tracked by git. "
        f"Compared with the committed ledger, [claims.json](../reference/{profile}/claims.json).",
        "",
        f"* **Verdicts**: {found.agree} of {found.compared} agree.",
    ]
    lines += [
        f"  * {id} ({figure}): **{new}** here, **{old}** committed"
        for id, figure, old, new in found.differ
    ]
    if found.missing:
        lines.append(f"* Not judged in this run: {', '.join(found.missing)}.")
    if not found.same_network:
        lines.append("* **Other weights**: the two ledgers were made with different networks.")
    far = sum(move.moved > LARGE for move in found.moves)
    lines += [
        f"* **Numbers**: {far} of {len(found.moves)} have left their committed 95 % interval. "
        "Those that moved most, in half-widths of that interval:",
        "",
        "| claim | figure | number | committed | here | moved |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {move.claim} | {move.figure} | {move.name} | {move.committed} | {move.here} | "
        f"{'no interval' if math.isnan(move.moved) else f'{move.moved:.2g}'} |"
        for move in found.moves[:SHOWN]
    ]
    lines += ["", "P2.2 measures wall times: its numbers belong to the machine and the moment."]
    return "\n".join(lines) + "\n"


def report(profile: str) -> str | None:
    """Compare the run in figures/<profile> with the committed results; the summary in words.

    Writes REPRODUCED.md beside the run. None where nothing is committed for ``profile``.
    """
    name = profile.partition("/")[0]
    reference, mine = reference_folder(name) / "claims.json", figure_folder(name) / "claims.json"
    if not reference.is_file() or not mine.is_file():
        return None
    found = compare(read_json(reference), read_json(mine))
    path: Path = figure_folder(name) / "REPRODUCED.md"
    write_text(path, page(name, found))
    return summary(found)
