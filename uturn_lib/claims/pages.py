"""What a profile's claims.json says as Markdown: CLAIMS.md, and tables for other pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..profiles import describe, load_profile
from ..support.files import read_json
from ..support.places import ROOT, figure_folder
from .published import SPECIATION
from .statements import CHANGES, PAPER_CLAIMS, SOURCES, STATEMENTS
from .verdicts import MARGINS, UNSEEN, VERDICTS, all_of

Place = Callable[[str], Path]  # profile -> folder


def read_ledger(profile: str, place: Place = figure_folder) -> list[dict]:
    """The entries of a profile's claims.json, one per claim and figure; none where it is missing.

    ``place``: :func:`places.figure_folder` for what was computed here,
    :func:`places.reference_folder` for what is committed. Raises ``ValueError`` for a damaged file.
    """
    path = place(profile) / "claims.json"
    entries = read_json(path) if path.is_file() else []
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ValueError(
            f"{path} is damaged: it is not a list of judged claims. Remove it and run the notebooks"
        )
    return entries


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("id", "figure", "source", "measured"))
        and entry.get("verdict") in VERDICTS
        and isinstance(entry.get("senses", {}), dict)
    )


def judged(profile: str, place: Place = figure_folder) -> dict[str, list[dict]]:
    """The entries of each claim, the worst first; claims in the order of :data:`STATEMENTS`.

    Entries of withdrawn claims are left out.
    """
    entries = read_ledger(profile, place)
    entries.sort(key=lambda entry: (VERDICTS.index(entry["verdict"]), entry["figure"]))
    found = {id: [entry for entry in entries if entry["id"] == id] for id in STATEMENTS}
    return {id: rows for id, rows in found.items() if rows}


def overall_verdicts(profile: str, place: Place = figure_folder) -> dict[str, str]:
    """Per claim its verdict over all figures."""
    return {id: overall(id, rows) for id, rows in judged(profile, place).items()}


def overall(id: str, entries: Sequence[dict]) -> str:
    """The verdict of ``entries``, all of the claim ``id``: that of the figure which decides, else
    the worst."""
    deciding = [entry for entry in entries if entry["figure"] == STATEMENTS[id].decides]
    return all_of(entry["verdict"] for entry in deciding or entries)


def in_senses(id: str, entries: Sequence[dict]) -> str:
    """The verdict of a claim that has several senses in each of them; "" for other claims."""
    words = STATEMENTS[id].senses
    found = {sense: verdict for one in entries for sense, verdict in one.get("senses", {}).items()}
    said = {v: [words[s] for s, own in found.items() if own == v and s in words] for v in VERDICTS}
    return "; ".join(f"{verdict}: {' / '.join(texts)}" for verdict, texts in said.items() if texts)


# --- CLAIMS.md

HOW_TO_READ = (
    "Verdicts are computed from the rules folded below each claim: an interval against a fixed "
    "margin. **Holds**: the interval lies on the right side. **Does not hold**: on the wrong side. "
    "**Too weak to tell**: the margin lies inside. **Not testable here**: the measure cannot "
    "resolve it with this network. Of several figures or conditions the worst decides; of several "
    "senses the primary one, which was fixed before any result."
)


def page(profile: str, place: Place = figure_folder) -> str:
    """CLAIMS.md: one row for each claim, with its evidence from all figures."""
    found, group = judged(profile, place), profile.partition("/")[0]
    intro = f"Written by the notebooks; do not edit. Data and scale: {describe(profile)}. "
    glossary = Path(os.path.relpath(ROOT / "docs" / "glossary.md", place(profile))).as_posix()
    intro += "Intervals are 95 %. The numbers behind each line are in [claims.json](claims.json), "
    intro += f"the terms in the [glossary]({glossary})."
    if group != "laptop":
        intro += " Machine, time and scale of the run: [RUN.md](RUN.md)."
    lines = [f"# Claims, profile {group}", "", intro, "", HOW_TO_READ, ""]
    lines += ["<details><summary>How the rules came about</summary>", "", CHANGES, "", "</details>"]
    for source, title in SOURCES.items():
        rows = {id: rows for id, rows in found.items() if STATEMENTS[id].source == source}
        if source.startswith("P") and not rows:
            continue
        lines += ["", f"## {title}", ""]
        lines += ["| | claim | verdict | what was found |", "|---|---|---|---|"]
        lines += [_row(place(profile), id, entries) for id, entries in rows.items()]
        missing = [id for id in PAPER_CLAIMS if id not in found]
        if source == "paper" and missing:
            lines += ["", f"Not judged yet: {', '.join(missing)} (run `make figures`)."]
    lines += ["", "<details><summary>The margins and their reasons</summary>", ""]
    lines += ["| margin | | reason |", "|---|---|---|"]
    lines += [f"| {name} | {one.value:g} | {one.reason} |" for name, one in MARGINS.items()]
    return "\n".join([*lines, "", "</details>"]) + "\n"


def _row(folder: Path, id: str, entries: Sequence[dict]) -> str:
    """A claim in one line of a table: verdict over all figures, meaning, evidence, rule."""
    one, verdict = STATEMENTS[id], overall(id, entries)
    parts = [one.meaning(verdict)]
    if senses := in_senses(id, entries):
        parts.append(f"By sense, the worst first. {senses}.")
    for entry in entries:
        own = f" {entry['verdict']}" if len(entries) > 1 else ""
        link = f"[{entry['figure']}]({_png(folder, entry['figure'])})"
        parts.append(f"{link}{own}: {entry['measured']}")
    parts.append(one.folded_rule())
    cells = (id, one.text, f"**{verdict}**", "<br>".join(parts))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _png(folder: Path, figure: str) -> str:
    return next((path.name for path in sorted(folder.glob(f"{figure}_*.png"))), f"{figure}.png")


# --- tables for other pages


def summary(*profiles: str, place: Place = figure_folder) -> str:
    """The ledgers in short: claim and verdict, a column per profile."""
    columns = [judged(profile, place) for profile in profiles]
    heads = ["verdict"] if len(profiles) == 1 else profiles
    rows = [f"| | claim | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for id in (id for id in STATEMENTS if any(id in column for column in columns)):
        statement = STATEMENTS[id].text.replace("|", "\\|")
        cells = [_cell(id, column[id]) if id in column else "-" for column in columns]
        rows.append(f"| {id} | {statement} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(id: str, entries: Sequence[dict]) -> str:
    """The verdict in a table, and the senses in which it holds, or does not."""
    senses = in_senses(id, entries)
    return f"**{overall(id, entries)}**" + (f"<br>({senses})" if senses else "")


# Compared between profiles: what it is, figure and claim whose values hold it, name of the value.
NUMBERS = (
    ("memorization time $T_m$", "fig09", "C1", "T_m"),
    ("speciation time $T_s$", "fig09", "C2", "T_s"),
    ("$T_m$ of the empirical score, training images", "fig13", "O4", "memorising"),
    ("largest $C - C_G$ on $[T_m, T_s]$, no label", "fig14", "C4", "between"),
    ("largest share that no affine score explains beyond $T_s$", "fig14", "C4", "unexplained"),
    ("how far the start distribution moves an image", "fig04", "C5", "moved"),
    ("last step of the deterministic sampler", "fig15", "C7b", "moved"),
    ("times fewer calls at the full run's quality", "fig10", "C6", "speed_up"),
)
SCALE = "published speciation scale (Biroli et al. 2024: two classes, another level)"


def numbers(*profiles: str, place: Place = figure_folder) -> str:
    """The main numbers of several profiles with their 95 % intervals, and published scales."""
    rows = [f"| | figure | {' | '.join(profiles)} |", "|---" * (2 + len(profiles)) + "|"]
    for text, figure, id, name in NUMBERS:
        cells = [_number(read_ledger(profile, place), figure, id, name) for profile in profiles]
        rows.append(f"| {text} | {figure} | {' | '.join(cells)} |")
    cells = [_published(load_profile(profile).dataset) for profile in profiles]
    return "\n".join([*rows, f"| {SCALE} | | {' | '.join(cells)} |"])


def _published(dataset: str) -> str:
    scale = SPECIATION.get(dataset)
    if scale is None:
        return "none published"
    return f"{scale.predicted:g} predicted, {scale.measured:g} measured ({scale.name})"


def _number(entries: Sequence[dict], figure: str, id: str, name: str) -> str:
    """A value of claims.json in a cell; "-" where the figure has not judged the claim."""
    found = [entry for entry in entries if (entry["figure"], entry["id"]) == (figure, id)]
    if not found:
        return "-"
    value = found[0]["values"].get(name)
    if value is None:
        return UNSEEN if found[0]["verdict"] == UNSEEN else "none"
    if not isinstance(value, dict):
        return _short(value)
    if "nan" in value.values():
        return "none"
    return f"{_short(value['value'])} [{_short(value['low'])}, {_short(value['high'])}]"


def _short(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:.3g}"
