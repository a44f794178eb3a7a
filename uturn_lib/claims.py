"""A paper's statement beside what was measured; the verdict follows from a stated rule, never from a hand.

The rules were fixed before any run. They are ours; the claims are the paper's (its abstract and section titles).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from . import checks
from .files import read_json, write_json
from .measures.estimate import Estimate
from .networks import shipped_fingerprint
from .profiles import cache_folder, figure_folder, load_profile

VERDICTS = ("holds", "does not hold", "not testable here")

# id: (statement, whose it is, rule)
STATEMENTS = {
    "C1": (
        "There is a memorization time T_m: below it the U-Turn returns (nearly) its ground truth, beyond it it does not.",
        "paper",
        "identity retention >= 0.95 at the smallest sigma_u and <= 0.05 at the largest; the interval of T_m lies inside the grid",
    ),
    "C2": (
        "There is a speciation time T_s > T_m, beyond which outputs belong to other classes.",
        "paper",
        "the paired 95 % interval of log T_s - log T_m is above 0; class retention at the largest sigma_u is compatible with chance",
    ),
    "C4": (
        "Gaussian test: U-Turn auto-correlation and its Gaussian approximation agree beyond T_s, and approximately on [T_m, T_s].",
        "paper",
        "|C - C_Gauss| (centred) <= 0.02 for all sigma_u >= T_s and <= 0.05 on [T_m, T_s]; 1 - R^2 of the held-out affine regression "
        "<= 0.02 for sigma >= T_s",
    ),
    "O1": (
        "C = E|D|^2 / E|x_0|^2: under the exact reverse SDE x_0 and y_0 are independent draws from p(. | x_u).",
        "ours",
        "the 95 % interval of C - E|D|^2 / E|x_0|^2, paired over ground truths, contains 0 at every sigma_u "
        "(level corrected for their number)",
    ),
    "O2": (
        "Pixels are Gaussian while the noise dominates: the authors' KS rule flags no more of them than of Gaussian numbers "
        "(2.6 % at n = 256).",
        "ours",
        "at the level nearest to sigma = 10, after many reverse steps, the 95 % interval of the flagged fraction over independent "
        "sets of images contains the rule's null rate",
    ),
    "O3": (
        "(x_0, y_0) and (y_0, x_0) have the same law: the exact U-Turn is a reversible Markov kernel.",
        "ours",
        "on a Gaussian mixture with exact score no test of exchangeability has p < 0.01 / (number of tests)",
    ),
}


@dataclass(frozen=True)
class Claim:
    """One line of the ledger. ``values`` holds the numbers behind ``measured``, each with its interval."""

    id: str
    figure: str
    profile: str
    measured: str
    verdict: str
    values: dict[str, object] = field(default_factory=dict)
    statement: str = ""
    source: str = ""
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.id} ({self.source}) {self.verdict}: {self.measured}"


def make_claim(id: str, figure: str, profile: str, measured: str, verdict: str, **values: object) -> Claim:
    """A claim with its statement and rule looked up. Estimates among ``values`` are stored as {value, low, high}."""
    checks.one_of("claim", id, STATEMENTS)
    checks.one_of("verdict", verdict, VERDICTS)
    statement, source, rule = STATEMENTS[id]
    return Claim(
        id,
        figure,
        profile,
        measured,
        verdict,
        {name: _plain(value) for name, value in values.items()},
        statement,
        source,
        rule,
    )


def decide(condition: bool | None) -> str:
    """True: holds; False: does not hold; None: not testable here."""
    return VERDICTS[2] if condition is None else VERDICTS[0] if condition else VERDICTS[1]


def memorization(
    figure: str, profile: str, sigmas: Sequence[float], identity: Sequence[Estimate], t_m: Estimate
) -> Claim:
    """C1 from the identity retention at each level and T_m."""
    first, last = identity[0], identity[-1]
    inside = sigmas[0] < t_m.low and t_m.high < sigmas[-1]
    measured = (
        f"identity retention {first.value:.2f} at sigma_u = {sigmas[0]:g}, {last.value:.2f} at {sigmas[-1]:g}; "
        f"T_m = {t_m.value:.2f} [{t_m.low:.2f}, {t_m.high:.2f}]"
    )
    return make_claim(
        "C1",
        figure,
        profile,
        measured,
        decide(first.value >= 0.95 and last.value <= 0.05 and inside),
        T_m=t_m,
        smallest=first,
        largest=last,
    )


def speciation(
    figure: str, profile: str, classes: int, retained: Sequence[Estimate], t_s: Estimate, gap: Estimate
) -> Claim:
    """C2 from the class retention at each level, T_s and the paired log T_s - log T_m."""
    last = retained[-1]
    measured = (
        f"T_s = {t_s.value:.2f} [{t_s.low:.2f}, {t_s.high:.2f}], T_s / T_m = {math.exp(gap.value):.2f} "
        f"[{math.exp(gap.low):.2f}, {math.exp(gap.high):.2f}]; class retention at the largest sigma_u {last.value:.2f} "
        f"[{last.low:.2f}, {last.high:.2f}], chance {1 / classes:.2f}"
    )
    return make_claim(
        "C2",
        figure,
        profile,
        measured,
        decide(gap.low > 0 and last.contains(1 / classes)),
        T_s=t_s,
        log_gap=gap,
        largest=last,
    )


def gaussian_test(
    figure: str,
    profile: str,
    sigmas: Sequence[float],
    measured: Sequence[Estimate],
    gaussian: Sequence[float],
    t_m: Estimate,
    t_s: Estimate,
    unexplained: float | None = None,
) -> Claim:
    """C4 from centred correlations with their Gaussian approximation and the largest 1 - R^2 beyond T_s (None: not measured).

    One half that fails decides; both are needed for "holds".
    """
    gaps = [Estimate(c.value - g, c.low - g, c.high - g) for c, g in zip(measured, gaussian, strict=True)]
    beyond = _largest(gap for s, gap in zip(sigmas, gaps, strict=True) if s >= t_s.value)
    between = _largest(gap for s, gap in zip(sigmas, gaps, strict=True) if t_m.value <= s < t_s.value)
    correlation_half = abs(beyond.value) <= 0.02 and not abs(between.value) > 0.05
    if not correlation_half:
        condition = False
    else:
        condition = None if unexplained is None else unexplained <= 0.02
    text = f"largest C - C_Gauss {_signed(beyond)} beyond T_s, {_signed(between)} on [T_m, T_s]; 1 - R^2 "
    text += "not measured in this figure" if unexplained is None else f"at most {unexplained:.3f}"
    return make_claim("C4", figure, profile, text, decide(condition), beyond=beyond, between=between, T_m=t_m, T_s=t_s)


def _largest(gaps: Iterable[Estimate]) -> Estimate:
    return max(gaps, key=lambda gap: abs(gap.value), default=Estimate(math.nan, math.nan, math.nan))


def _signed(gap: Estimate) -> str:
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def identity_holds(figure: str, profile: str, sigmas: Sequence[float], gaps: Sequence[Estimate]) -> Claim:
    """O1 from the paired difference at each level, with intervals at the corrected confidence."""
    failed = [f"{s:g}" for s, gap in zip(sigmas, gaps, strict=True) if not gap.contains(0.0)]
    worst = max(gaps, key=lambda gap: abs(gap.value))
    widest = max((gap.high - gap.low) / 2 for gap in gaps)
    measured = f"largest difference {_signed(worst)}, resolved to +-{widest:.3f} at worst; "
    measured += (
        f"0 lies outside at sigma_u = {', '.join(failed)}" if failed else f"0 lies inside at all {len(gaps)} levels"
    )
    return make_claim("O1", figure, profile, measured, decide(not failed), largest=worst)


def null_rate_met(figure: str, profile: str, sigma: float, rate: Estimate, expected: float) -> Claim:
    """O2 from the flagged fraction at noise level ``sigma`` and the rate of the rule on Gaussian data."""
    measured = (
        f"flagged at sigma = {sigma:.3g}: {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}], null rate {expected:.3f}"
    )
    return make_claim("O2", figure, profile, measured, decide(rate.contains(expected)), rate=rate, expected=expected)


def exchangeable(figure: str, profile: str, p_values: Sequence[float]) -> Claim:
    """O3 from the p-values of the tests."""
    measured = f"smallest p = {min(p_values):.2f} in {len(p_values)} tests"
    return make_claim(
        "O3", figure, profile, measured, decide(min(p_values) >= 0.01 / len(p_values)), smallest_p=min(p_values)
    )


def record(*claims: Claim) -> Path:
    """Put claims into the profile's claims.json, each in place of the older one of the same id and figure."""
    profile = load_profile(claims[0].profile)
    path = figure_folder(profile.name) / "claims.json"
    made_with = {"data": profile.dataset, "network": shipped_fingerprint(profile.checkpoint)}
    lock = cache_folder() / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # two figures may end at the same time
        known = read_json(path) if path.is_file() else []
        entries = {(entry["id"], entry["figure"]): entry for entry in known}
        entries |= {(claim.id, claim.figure): asdict(claim) | made_with for claim in claims}
        write_json(path, [entries[key] for key in sorted(entries)])
    return path


def table(profile: str) -> str:
    """The ledger of a profile as a Markdown table."""
    path = figure_folder(profile) / "claims.json"
    rows = ["| | claim | measured | verdict | figure |", "|---|---|---|---|---|"]
    for entry in read_json(path) if path.is_file() else []:
        cells = (entry["id"], entry["statement"], entry["measured"], f"**{entry['verdict']}**", entry["figure"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _plain(value: object) -> object:
    if isinstance(value, Estimate):
        return {name: _plain(number) for name, number in value.as_dict().items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)  # JSON has no infinity
    return value
