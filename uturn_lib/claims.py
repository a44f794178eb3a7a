"""A paper's statement beside what was measured; the verdict follows from a stated rule, never from a hand.

Statements and rules: ``statements``. Margins and the four answers: ``verdicts``. Here each claim is judged (the companions' in
``companions.claims``), and the ledger is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from . import checks
from .files import read_json, write_json, write_text
from .measures.estimate import Estimate, difference
from .measures.retention import Heterogeneity, chance_level
from .networks import shipped_fingerprint
from .profiles import cache_folder, describe, figure_folder, load_profile
from .published import SPECIATION
from .statements import CHANGES, MEANINGS, PAPER_CLAIMS, STATEMENTS, UNDECIDED
from .verdicts import (
    FAILS,
    HOLDS,
    MARGINS,
    UNSEEN,
    VERDICTS,
    WEAK,
    Gate,
    above,
    all_of,
    any_of,
    below,
    inside,
    margin,
    within,
    yes,
)

Place = Callable[[str], Path]  # profile -> folder


@dataclass(frozen=True)
class Claim:
    """One judgement in the ledger. ``values`` holds the numbers behind ``measured``, each with its interval; ``meaning`` says the verdict in plain words."""

    id: str
    figure: str
    profile: str
    measured: str
    verdict: str
    values: dict[str, object] = field(default_factory=dict)
    statement: str = ""
    source: str = ""
    rule: str = ""
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.source}) {self.verdict}: {self.measured}"


def make_claim(id: str, figure: str, profile: str, measured: str, verdict: str, **values: object) -> Claim:
    """A claim with its statement, rule and meaning looked up. Estimates among ``values`` are stored as {value, low, high}."""
    checks.one_of("claim", id, STATEMENTS)
    checks.one_of("verdict", verdict, VERDICTS)
    statement, source, rule = STATEMENTS[id]
    plain = {name: _plain(value) for name, value in values.items()}
    return Claim(id, figure, profile, measured, verdict, plain, statement, source, rule, meaning(id, verdict))


def meaning(id: str, verdict: str) -> str:
    """What ``verdict`` on the claim ``id`` means, in a plain sentence."""
    if verdict in UNDECIDED:
        return UNDECIDED[verdict]
    return MEANINGS[id][0 if verdict == HOLDS else 1]


def _same_length(**sequences: Sequence) -> None:
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
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def signed(value: Estimate, digits: int = 3) -> str:
    """The same with its sign, for differences."""
    return f"{value.value:+.{digits}f} [{value.low:+.{digits}f}, {value.high:+.{digits}f}]"


def why_closed(gate: Gate) -> str:
    """What a closed gate adds to the measured numbers."""
    return f"; {UNSEEN}: {gate.closed}" if gate.closed else ""


def memorization(
    figure: str, profile: str, sigmas: Sequence[float], identity: Sequence[Estimate], t_m: Estimate
) -> Claim:
    """C1 from the identity retention at each level and T_m."""
    _same_length(sigmas=sigmas, identity=identity)
    first, last = identity[0], identity[-1]
    verdict = all_of([above(first, margin("returned")), below(last, margin("lost")), inside(t_m, sigmas)])
    measured = f"identity retention {text(first)} at sigma_u = {sigmas[0]:g}, {text(last)} at {sigmas[-1]:g}; T_m = {text(t_m)}"
    return make_claim("C1", figure, profile, measured, verdict, T_m=t_m, smallest=first, largest=last)


def speciation(
    figure: str,
    profile: str,
    classes: int,
    retained: Sequence[Estimate],
    t_s: Estimate,
    gap: Estimate,
    gate: Gate,
) -> Claim:
    """C2 from the class retention at each level, T_s and the paired log T_s - log T_m. ``gate``: may T_s be read?"""
    last = retained[-1]
    measured = f"class retention at the largest sigma_u {text(last)}, chance {1 / classes:.2f}"
    if gate.closed:
        return make_claim("C2", figure, profile, measured + why_closed(gate), UNSEEN, largest=last)
    ratio = Estimate(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high))
    verdict = all_of([above(gap, 0.0), below(last, 1 / classes + margin("chance"))])
    measured = f"T_s = {text(t_s)}, T_s / T_m = {text(ratio)}; {measured}"
    return make_claim("C2", figure, profile, measured, verdict, T_s=t_s, log_gap=gap, largest=last)


def gaussian_test(
    figure: str,
    profile: str,
    sigmas: Sequence[float],
    measured: Sequence[Estimate],
    gaussian: Sequence[float],
    t_m: Estimate,
    t_s: Estimate,
    gate: Gate,
    unexplained: Sequence[Estimate] | None = None,
) -> Claim:
    """C4 from centred correlations with their Gaussian approximation, and 1 - R^2 at the same levels (None: this figure has the half on correlations only).

    Intervals at the confidence corrected for the number of levels. ``gate``: may T_s be read?
    """
    gaps = [Estimate(c.value - g, c.low - g, c.high - g) for c, g in zip(measured, gaussian, strict=True)]
    largest = _largest(gaps)
    if gate.closed:
        said = f"largest C - C_Gauss of all levels {signed(largest)}" + why_closed(gate)
        return make_claim("C4", figure, profile, said, UNSEEN, largest=largest)
    past = [gap for s, gap in zip(sigmas, gaps, strict=True) if s >= t_s.value]
    middle = [gap for s, gap in zip(sigmas, gaps, strict=True) if t_m.value <= s < t_s.value]
    values = {"beyond": _largest(past), "between": _largest(middle), "T_m": t_m, "T_s": t_s}
    if not past:
        return make_claim("C4", figure, profile, "no level of the grid lies beyond T_s", UNSEEN, **values)
    said = f"largest C - C_Gauss {signed(values['beyond'])} beyond T_s, "
    said += f"{signed(values['between'])} on [T_m, T_s]" if middle else "no level lies on [T_m, T_s]"
    parts = [within(gap, margin("affine")) for gap in past] + [within(gap, margin("nearly affine")) for gap in middle]
    if unexplained is None:
        return make_claim("C4", figure, profile, f"{said} (the half on correlations)", all_of(parts), **values)
    left = [u for s, u in zip(sigmas, unexplained, strict=True) if s >= t_s.value]
    parts += [below(u, margin("affine")) for u in left]
    values["unexplained"] = _largest(left)
    said += f"; largest 1 - R^2 beyond T_s {text(values['unexplained'], 3)}"
    return make_claim("C4", figure, profile, said, all_of(parts), **values)


def _largest(gaps: Iterable[Estimate]) -> Estimate:
    return max(gaps, key=lambda gap: abs(gap.value), default=Estimate(math.nan, math.nan, math.nan))


def identity_holds(figure: str, profile: str, sigmas: Sequence[float], gaps: Sequence[Estimate]) -> Claim:
    """O1 from the paired difference at each level, with intervals at the corrected confidence."""
    _same_length(sigmas=sigmas, gaps=gaps)
    some(gaps=gaps)
    worst = max(range(len(gaps)), key=lambda k: max(abs(gaps[k].low), abs(gaps[k].high)))
    measured = f"farthest from 0 at sigma_u = {sigmas[worst]:g}: {signed(gaps[worst])}, of {len(gaps)} levels"
    verdict = all_of(within(gap, margin("identity")) for gap in gaps)
    return make_claim("O1", figure, profile, measured, verdict, largest=gaps[worst])


def null_rate_met(figure: str, profile: str, sigma: float, rate: Estimate, expected: float) -> Claim:
    """O2 from the flagged fraction at noise level ``sigma`` and the rate of the rule on Gaussian data."""
    excess = Estimate(rate.value - expected, rate.low - expected, rate.high - expected)
    measured = f"flagged at sigma = {sigma:.3g}: {text(rate, 3)}, null rate {expected:.3f}"
    verdict = within(excess, margin("null rate"))
    return make_claim("O2", figure, profile, measured, verdict, rate=rate, expected=expected)


def individual_transitions(
    figure: str, profile: str, memory: Heterogeneity, species: Heterogeneity, gate: Gate
) -> Claim:
    """C3 from the spread of T_m and T_s over ground truths. ``gate``: may T_s be read?"""
    texts = [
        f"spread of log {name} {text(found.spread)}, {found.expected:.2f} expected of a common curve, p {_p_value(found.p_value)}"
        for name, found in (("T_m", memory), ("T_s", species))[: 1 if gate.closed else 2]
    ]
    verdict = all_of([_individual(memory), gate.judged(_individual(species))])
    values = {"spread_T_m": memory.spread, "p_T_m": memory.p_value}
    values |= {} if gate.closed else {"spread_T_s": species.spread, "p_T_s": species.p_value}
    said = "; ".join(texts) + (f"; T_s {UNSEEN}: {gate.closed}" if gate.closed else "")
    return make_claim("C3", figure, profile, said, verdict, **values)


def _individual(found: Heterogeneity) -> str:
    """Do ground truths differ? A test that does not reject proves nothing: "does not hold" takes a spread that is shown to be small."""
    chance2 = float((found.null**2).mean())
    own = math.sqrt(max(0.0, found.spread.high**2 - chance2))
    if own < margin("own spread"):
        return FAILS
    return HOLDS if found.p_value < 0.01 else WEAK


def _p_value(p: float) -> str:
    return f"< {0.001:g}" if p < 0.001 else f"= {p:.3f}"


def insensitive(
    figure: str, profile: str, moved: Mapping[str, Estimate], changed: Mapping[str, Estimate], floor: float
) -> Claim:
    """C5 from the median distance between paired images (in units of that between unrelated ones) and the paired change of the Frechet
    distance for each law; ``floor``: the Frechet distance of as many held-out images."""
    some(moved=moved, changed=changed)
    allowed = margin("loss") * floor
    worst = max(moved, key=lambda law: moved[law].high)
    farthest = max(changed, key=lambda law: max(abs(changed[law].low), abs(changed[law].high)))
    measured = (
        f"images move by at most {text(moved[worst], 3)} of the distance between unrelated ones (law: {worst}); the Frechet distance changes by "
        f"{signed(changed[farthest])} (law: {farthest}; paired), allowed +-{allowed:.2f}"
    )
    parts = [below(m, margin("moved")) for m in moved.values()] + [within(c, allowed) for c in changed.values()]
    return make_claim("C5", figure, profile, measured, all_of(parts), moved=moved[worst], changed=changed[farthest])


@dataclass(frozen=True)
class LateStart:
    """A start at ``sigma`` that takes ``calls`` network calls, and its Frechet distance.

    ``loss``: minus the full run's; ``gain``: minus that of a full run shortened to as many calls (negative: a late start is better).
    ``nearness`` to the ground truths, for starts that have some; ``plain_loss``: the loss of plain noise at the same level, where a claim asks for it.
    """

    sigma: float
    calls: int
    frechet: Estimate
    loss: Estimate
    gain: Estimate
    nearness: Estimate | None = None
    plain_loss: Estimate | None = None

    def verdict(self, allowed: float) -> str:
        """Is it as good as the full run, better than the shortened one, no copy, and does plain noise fail here?"""
        parts = [below(self.loss, allowed), below(self.gain, 0.0)]
        parts += [] if self.nearness is None else [above(self.nearness, margin("nearness"))]
        parts += [] if self.plain_loss is None else [above(self.plain_loss, allowed)]
        return all_of(parts)

    def describe(self) -> str:
        """The numbers in words."""
        said = f"at sigma = {self.sigma:g} with {self.calls} calls {text(self.frechet)}: {signed(self.loss, 2)} against the full run, {signed(self.gain, 2)} against a full run of as many calls"
        said += "" if self.nearness is None else f", nearness {text(self.nearness)}"
        return said + ("" if self.plain_loss is None else f"; plain noise there {signed(self.plain_loss, 2)}")


def late_starts(starts: Sequence[LateStart], full_calls: int, allowed: float) -> tuple[str, LateStart]:
    """The verdict over several levels (one that holds is enough), and the start that stands for it: the cheapest of the best-judged.

    Raises ``ValueError`` for a start with too many calls, or none at all.
    """
    some(starts=starts)
    for start in starts:
        if start.calls * margin("fewer calls") > full_calls:
            raise ValueError(
                f"starts: {start.calls} calls at sigma = {start.sigma:g}; at most 1/{margin('fewer calls'):g} of {full_calls} is asked for"
            )
    verdicts = [start.verdict(allowed) for start in starts]
    found = any_of(verdicts)
    return found, min((s for s, v in zip(starts, verdicts, strict=True) if v == found), key=lambda start: start.calls)


def faster(
    figure: str,
    profile: str,
    starts: Sequence[LateStart],
    full: Estimate,
    full_calls: int,
    artificial_loss: Estimate,
    floor: float,
    gate: Gate,
) -> Claim:
    """C6 from U-Turns at several levels, the full run, and the loss of the artificial start at T_m. ``gate``: are free samples good?"""
    allowed = margin("loss") * floor
    found, shown = late_starts(starts, full_calls, allowed)
    verdict = gate.judged(all_of([found, above(artificial_loss, allowed)]))
    said = f"full run {text(full)} with {full_calls} calls, allowed +{allowed:.2f}; U-Turn {shown.describe()}; artificial start near T_m {signed(artificial_loss, 1)} against the full run"
    speed_up = full_calls / shown.calls if verdict == HOLDS else None
    values = {"full": full, "loss": shown.loss, "gain": shown.gain, "artificial_at_T_m": artificial_loss}
    return make_claim("C6", figure, profile, said + why_closed(gate), verdict, speed_up=speed_up, **values)


def deterministic(figure: str, profile: str, identical: bool) -> Claim:
    """C7a from repeated runs."""
    measured = f"repeated runs {'agree in every bit' if identical else 'differ'}"
    return make_claim("C7a", figure, profile, measured, yes(identical))


def settles(
    figure: str, profile: str, levels: Sequence[float], moved: Estimate, changed: Estimate | None = None
) -> Claim:
    """C7b from the two largest levels: median image distance in units of that between unrelated images, and the fraction of outputs that change class (None: no classes)."""
    measured = f"from sigma_u = {levels[0]:g} to {levels[1]:g} images move by {text(moved, 3)} of the distance between unrelated ones"
    parts, values = [below(moved, margin("moved"))], {"moved": moved}
    if changed is None:
        measured += "; the data have no classes"
    else:
        measured += f" and {changed.value:.1%} [{changed.low:.1%}, {changed.high:.1%}] change class"
        parts.append(below(changed, margin("moved")))
        values["changed"] = changed
    return make_claim("C7b", figure, profile, measured, all_of(parts), **values)


def no_speciation(
    figure: str, profile: str, classes: int, sigmas: Sequence[float], retained: Sequence[Estimate], gate: Gate
) -> Claim:
    """C7c from the class retention of the ODE at each level. ``gate``: can classes be read?"""
    _same_length(sigmas=sigmas, retained=retained)
    if classes < 2:
        gate = Gate("the data have no classes")
    midpoint = chance_level(max(2, classes))
    least = min(range(len(retained)), key=lambda k: retained[k].value)
    measured = f"least class retention {text(retained[least])} at sigma_u = {sigmas[least]:g}, midpoint {midpoint:.2f}"
    verdict = gate.judged(all_of(above(kept, midpoint) for kept in retained))
    return make_claim("C7c", figure, profile, measured + why_closed(gate), verdict, class_kept=retained[-1])


def best_turn(
    figure: str, profile: str, sigmas: Sequence[float], minimum: Estimate, at_minimum: Estimate, gate: Gate
) -> Claim:
    """C8 from the level of the smallest kernel distance. ``gate``: are free samples good?"""
    measured = (
        f"smallest kernel distance at sigma_u = {minimum.value:g} [{minimum.low:g}, {minimum.high:g}] of a grid from {sigmas[0]:g} to "
        f"{sigmas[-1]:g}, where it is {at_minimum.value:.3g} [{at_minimum.low:.3g}, {at_minimum.high:.3g}]"
    )
    verdict = gate.judged(inside(minimum, sigmas))
    return make_claim(
        "C8", figure, profile, measured + why_closed(gate), verdict, minimum=minimum, kernel_distance=at_minimum
    )


def not_recall(figure: str, profile: str, log_ratio: Estimate, network: Estimate, memorising: Estimate) -> Claim:
    """O4 from log T_m(training) - log T_m(held out) of the network, and T_m for training starts of the network and the empirical score."""
    ratio = Estimate(math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high))
    measured = f"network: T_m(training) / T_m(held out) = {text(ratio)}; T_m for training starts {text(network)}, of the empirical score {text(memorising)}"
    sooner = above(difference(memorising, network), 0.0)
    verdict = all_of([within(log_ratio, math.log(margin("alike"))), sooner])
    return make_claim("O4", figure, profile, measured, verdict, log_ratio=log_ratio, memorising=memorising)


def halves_agree(
    figure: str, profile: str, sigmas: Sequence[float], unexplained: Sequence[Estimate], excess: Sequence[Estimate]
) -> Claim:
    """O5 from 1 - R^2 and (C - C_Gauss) / C at each level, with intervals at the corrected confidence."""
    _same_length(sigmas=sigmas, unexplained=unexplained, excess=excess)
    some(sigmas=sigmas)
    apart = [difference(a, b) for a, b in zip(unexplained, excess, strict=True)]  # other samples: independent
    verdicts = [within(gap, margin("affine")) for gap in apart]
    found = all_of(verdicts)
    worst = max(
        (k for k, v in enumerate(verdicts) if v == found), key=lambda k: max(abs(apart[k].low), abs(apart[k].high))
    )
    measured = (
        f"at {len(apart)} levels up to sigma = {sigmas[-1]:g}, {sum(v == HOLDS for v in verdicts)} of them within {margin('affine'):g}; at sigma = {sigmas[worst]:g} {text(unexplained[worst], 3)} against "
        f"{text(excess[worst], 3)}, difference {signed(apart[worst])}"
    )
    return make_claim("O5", figure, profile, measured, found, unexplained=unexplained[worst], excess=excess[worst])


# ------------------------------------------------------------------------------------------------------- ledger


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

    ``place``: :func:`profiles.figure_folder` for what was computed here, :func:`profiles.reference_folder` for what is committed.
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


def verdicts(profile: str, place: Place = figure_folder) -> dict[str, str]:
    """Per claim its verdict over all figures."""
    return {id: all_of(entry["verdict"] for entry in entries) for id, entries in judged(profile, place).items()}


def summary(*profiles: str, place: Place = figure_folder) -> str:
    """The ledgers in short, for docs/results.md: claim and verdict, a column per profile."""
    columns = [verdicts(profile, place) for profile in profiles]
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


def _plain(value: object) -> object:
    if isinstance(value, Estimate):
        return {name: _plain(number) for name, number in value.as_dict().items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)  # JSON has no infinity
    return value
