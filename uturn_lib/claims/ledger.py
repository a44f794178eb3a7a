"""The ledger of a profile, claims.json: one entry for each claim and figure; its pages and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from ..networks.loader import shipped_fingerprint
from ..profiles import describe, load_profile
from ..support.files import read_json, write_json, write_text
from ..support.places import cache_folder, figure_folder
from .claim import Claim, meaning
from .published import SPECIATION
from .statements import CHANGES, PAPER_CLAIMS, STATEMENTS
from .verdicts import MARGINS, UNSEEN, VERDICTS, all_of

Place = Callable[[str], Path]  # profile -> folder


def record(*claims: Claim) -> Path:
    """Put the claims of a figure into the profile's claims.json, in place of its older ones, and write CLAIMS.md beside it."""
    if not claims:
        raise ValueError("claims is empty; at least one is needed")
    profile = load_profile(claims[0].profile)
    path = figure_folder(profile.name) / "claims.json"
    if {claim.profile for claim in claims} != {profile.name}:
        raise ValueError(f"claims of several profiles: {sorted({claim.profile for claim in claims})}")
    made_with = {"data": profile.dataset, "network": shipped_fingerprint(profile.checkpoint)}
    figures = {claim.figure for claim in claims}
    lock = cache_folder() / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # two figures may end at the same time
        known = [entry for entry in read_ledger(profile.name) if entry["id"] in STATEMENTS]  # others were withdrawn
        kept = [entry for entry in known if entry["figure"] not in figures]
        entries = kept + [asdict(claim) | made_with for claim in claims]
        write_json(path, sorted(entries, key=lambda entry: (entry["id"], entry["figure"])))
        write_text(path.with_name("CLAIMS.md"), page(profile.name))
    return path


def report(*claims: Claim) -> str:
    """Record the claims of a figure and return them as Markdown: statement, verdict in plain words, what was measured, rule."""
    record(*claims)
    return "\n\n".join(
        f"**{claim.id}** ({claim.source}): {claim.statement}  \n**{claim.verdict}**. {claim.meaning}  \nMeasured: {claim.measured}.  \nRule: {claim.rule}"
        for claim in claims
    )


def read_ledger(profile: str, place: Place = figure_folder) -> list[dict]:
    """The entries of a profile's claims.json, none when it does not exist yet; one for each claim and figure.

    ``place``: :func:`places.figure_folder` for what was computed here, :func:`places.reference_folder` for what is committed.
    """
    path = place(profile) / "claims.json"
    return read_json(path) if path.is_file() else []


def judged(profile: str, place: Place = figure_folder) -> dict[str, list[dict]]:
    """The entries of each claim, in the order of :data:`STATEMENTS`; of one claim the worst first. Entries of withdrawn claims are left out."""
    entries = read_ledger(profile, place)
    found = {id: [entry for entry in entries if entry["id"] == id] for id in STATEMENTS}
    order = {verdict: k for k, verdict in enumerate(VERDICTS)}
    return {
        id: sorted(rows, key=lambda entry: (order[entry["verdict"]], entry["figure"]))
        for id, rows in found.items()
        if rows
    }


TITLES = {
    "paper": "## The paper's claims",
    "P2": "## P2: the U-Net's parts (Prasad et al. 2023)",
    "P3": "## P3: trajectories (Chen et al. 2023)",
    "P4": "## P4: the length of the diffusion (Franzese et al. 2023)",
    "ours": "## Ours: tests of the method, and what unites the papers",
}


def page(profile: str, place: Place = figure_folder) -> str:
    """CLAIMS.md: one row for each claim, with its evidence from all figures."""
    found, group = judged(profile, place), profile.partition("/")[0]
    lines = [
        f"# Claims, profile {group}",
        "",
        f"Written by the notebooks; do not edit. Data and scale: {describe(profile)}. Intervals are 95 %. The numbers behind each line are in [claims.json](claims.json)."
        + (" Machine, time and scale of the run: [RUN.md](RUN.md)." if group != "laptop" else ""),
        "",
        "Verdicts are computed from the rules folded below each claim: an interval against a fixed margin. **Holds**: the interval lies on the right side. **Does not hold**: on the wrong side. **Too weak to tell**: the "
        "margin lies inside. **Not testable here**: the instrument cannot see it (which one is said). Of several figures, and of several conditions, the worst decides.",
        "",
        CHANGES,
    ]
    for source, title in TITLES.items():
        rows = {id: entries for id, entries in found.items() if STATEMENTS[id][1] == source}
        if source.startswith("P") and not rows:
            continue
        lines += ["", title, "", "| | claim | verdict | what was found |", "|---|---|---|---|"]
        lines += [_row(place(profile), id, entries) for id, entries in rows.items()]
        missing = [id for id in PAPER_CLAIMS if id not in found]
        if source == "paper" and missing:
            lines += ["", f"Not judged yet: {', '.join(missing)} (run `make figures`)."]
    lines += [
        "",
        "<details><summary>The margins and their reasons</summary>",
        "",
        "| margin | | reason |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {one.value:g} | {one.reason} |" for name, one in MARGINS.items()]
    return "\n".join([*lines, "", "</details>"]) + "\n"


def _row(folder: Path, id: str, entries: Sequence[dict]) -> str:
    """A claim in one line of a table: the verdict over all figures, what it means, the evidence of each figure, the rule."""
    statement, _, rule = STATEMENTS[id]
    verdict = all_of(entry["verdict"] for entry in entries)
    parts = [meaning(id, verdict)]
    for entry in entries:
        own = f" {entry['verdict']}" if len(entries) > 1 else ""
        parts.append(f"[{entry['figure']}]({_png(folder, entry['figure'])}){own}: {entry['measured']}")
    parts.append(f"<details><summary>rule</summary>{rule}</details>")
    cells = (id, statement, f"**{verdict}**", "<br>".join(parts))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _png(folder: Path, figure: str) -> str:
    return next((path.name for path in sorted(folder.glob(f"{figure}_*.png"))), f"{figure}.png")


def overall_verdicts(profile: str, place: Place = figure_folder) -> dict[str, str]:
    """Per claim its verdict over all figures."""
    return {id: all_of(entry["verdict"] for entry in entries) for id, entries in judged(profile, place).items()}


def summary(*profiles: str, place: Place = figure_folder) -> str:
    """The ledgers in short, for docs/results.md: claim and verdict, a column per profile."""
    columns = [overall_verdicts(profile, place) for profile in profiles]
    heads = ["verdict"] if len(profiles) == 1 else [f"{profile}" for profile in profiles]
    rows = [f"| | claim | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for id in (id for id in STATEMENTS if any(id in column for column in columns)):
        statement = STATEMENTS[id][0].replace("|", "\\|")
        cells = [f"**{column[id]}**" if id in column else "-" for column in columns]
        rows.append(f"| {id} | {statement} | {' | '.join(cells)} |")
    return "\n".join(rows)


# What docs/results.md compares between profiles: what it is, the figure and the claim whose values hold it, and the name of the value.
NUMBERS = (
    ("memorization time $T_m$", "fig09", "C1", "T_m"),
    ("speciation time $T_s$", "fig09", "C2", "T_s"),
    ("$T_m$ of the memorising score, training images", "fig13", "O4", "memorising"),
    ("largest $C - C_G$ on $[T_m, T_s]$, no label", "fig14", "C4", "between"),
    ("largest share that no affine score explains beyond $T_s$", "fig14", "C4", "unexplained"),
    ("how far the law of the start moves an image", "fig04", "C5", "moved"),
    ("last step of the deterministic sampler", "fig15", "C7b", "moved"),
    ("times fewer calls at the full run's quality", "fig10", "C6", "speed_up"),
)


def numbers(*profiles: str, place: Place = figure_folder) -> str:
    """The main numbers of several profiles side by side with their 95 % intervals, and the published speciation scales, as Markdown."""
    rows = [f"| | figure | {' | '.join(profiles)} |", "|---" * (2 + len(profiles)) + "|"]
    for text, figure, id, name in NUMBERS:
        cells = [_number(read_ledger(profile, place), figure, id, name) for profile in profiles]
        rows.append(f"| {text} | {figure} | {' | '.join(cells)} |")
    scales = [SPECIATION.get(load_profile(profile).dataset) for profile in profiles]
    cells = [
        f"{scale.predicted:g} predicted, {scale.measured:g} measured ({scale.name})" if scale else "none published"
        for scale in scales
    ]
    rows.append(
        f"| published speciation scale (Biroli et al. 2024: two classes, another level) | | {' | '.join(cells)} |"
    )
    return "\n".join(rows)


def _number(entries: Sequence[dict], figure: str, id: str, name: str) -> str:
    for entry in entries:
        if (entry["figure"], entry["id"]) == (figure, id):
            value = entry["values"].get(name)
            if isinstance(value, dict) and "nan" in value.values():
                return "none"
            if isinstance(value, dict):
                return "{value} [{low}, {high}]".format(**{end: _short(number) for end, number in value.items()})
            if value is None and entry["verdict"] == UNSEEN:
                return UNSEEN
            return "none" if value is None else _short(value)
    return "-"


def _short(number: float | str) -> str:
    return number if isinstance(number, str) else f"{number:.3g}"
