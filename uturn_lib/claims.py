"""A paper's statement beside what was measured; the verdict follows from a stated rule, never from a hand.

The rules of C1 to C8 were fixed before any run; those of the O (ours) are tests of the method, and two of them were corrected after a
first run. The claims C are the paper's (its abstract and section titles); all rules are ours. The P are those of the companion studies, their rules fixed after a first look at
digits; a review of first results on both data sets made those of P2.1, P2.2, P3.2, P3.4, P3.5 and P4.2 stricter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from . import checks
from .files import read_json, write_json, write_text
from .measures.estimate import Estimate
from .measures.retention import Heterogeneity
from .networks import shipped_fingerprint
from .profiles import cache_folder, describe, figure_folder, load_profile
from .published import SPECIATION

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
    "C3": (
        "T_m and T_s depend on the ground truth (no self-averaging).",
        "paper",
        "log T_m and log T_s of single ground truths vary more than one curve common to all allows with the same number of "
        "repeats: p < 0.01 each, by parametric bootstrap",
    ),
    "C5": (
        "The result is insensitive to how the reverse process is initialised at the large final time.",
        "paper",
        "changing only the law at sigma_max (same seeds) moves images by a median distance below 5 % of that between unrelated images, "
        "and the Frechet distance by less than the half-width of its interval",
    ),
    "C6": (
        "The U-Turn needs fewer network calls at the same Frechet distance; the artificial start fails at small T_u.",
        "paper",
        "some sigma_u reaches the full run's Frechet distance (value not above the end of the full run's interval) with at most 1/1.2 of the "
        "calls, without being nearer to its ground truths than held-out data are (the interval of the ratio of median distances reaches 1); and the interval of "
        "the artificial start at T_m lies above that of the full run",
    ),
    "C7": (
        "Deterministic sampler: no randomness in the output, which stops changing as T_u grows; no speciation transition.",
        "paper",
        "repeated runs from the same x_u are identical; between the two largest sigma_u (same eps) the median image distance is below 5 % of "
        "that between unrelated images and at most 5 % of the output classes change",
    ),
    "C8": (
        "The kernel distance as a function of T_u selects the best T_u.",
        "paper",
        "the kernel distance has an interior minimum whose interval excludes both ends of the grid",
    ),
    "O1": (
        "C = E|D|^2 / E|x_0|^2: under the exact reverse SDE x_0 and y_0 are independent draws from p(. | x_u).",
        "ours",
        "the 95 % interval of C - E|D|^2 / E|x_0|^2, paired over ground truths, contains 0 at every sigma_u "
        "(level corrected for their number)",
    ),
    "O2": (
        "While the noise dominates, the authors' KS rule flags pixels at the rate of Gaussian numbers (2.6 % at n = 256).",
        "ours",
        "at the level nearest to sigma = 10, after many reverse steps, the 95 % interval of the flagged fraction over independent "
        "sets of images contains the rule's null rate",
    ),
    "O3": (
        "(x_0, y_0) and (y_0, x_0) have the same law: the exact U-Turn is a reversible Markov kernel.",
        "ours",
        "on a Gaussian mixture with exact score no test of exchangeability has p < 0.01 / (number of tests)",
    ),
    "O4": (
        "The network's T_m is not recall: training and held-out images are returned alike, and sooner lost than by a score that has "
        "memorised the training images.",
        "ours",
        "the 95 % interval of log T_m(training) - log T_m(held out) of the network contains 0, and the interval of the empirical score's T_m "
        "(training starts) lies above that of the network's",
    ),
    "O5": (
        "The two halves of C4 are one: 1 - R^2 = (C - C_Gauss) / C (C centred) for an exact denoiser.",
        "ours",
        "at every level with C > 0.1 the two sides agree to 0.02 (the tolerance of C4) or within their combined intervals (level corrected "
        "for their number)",
    ),
}
# The companions' (judged in ``companions.claims``). Their papers' statements are known to us from abstracts and from what an authors' notebook prints.
STATEMENTS |= {
    "P2.1": (
        "Generation has phases: which parts of the U-Net matter changes with the noise level.",
        "P2",
        "borders of three phases (two change points of the shares) from one half of the images; on the other half Spearman's correlation, over parts, between the effects in neighbouring phases is lower than that within them by more than 0.1 (lower end of the paired 95 % interval), for at least one border",
    ),
    "P2.2": (
        "Leaving parts out by a schedule makes inference about 27 % faster with minimal degradation.",
        "P2",
        "a schedule chosen on other seeds under a budget (median image distance 0.1 of that between unrelated images) saves at least 27 % of the wall time (median of at least 5 interleaved rounds), keeps the budget, and raises the Frechet distance by at most 25 % (upper end of the paired 95 % interval; not testable here when 25 % lies inside the interval)",
    ),
    "P2.3": (
        "At equal cost the shortcut comes closer to the full run's images than fewer steps do, and than cached deep features do.",
        "ours",
        "the paired 95 % interval of its median image distance minus that of each, relative to unrelated images, lies below 0; all at equal operations, to one step of the sampler or one cell of the schedule",
    ),
    "P3.1": (
        "The sampling trajectory is nearly straight.",
        "P3",
        "its greatest distance from the chord is below 1 % of its length (upper end of the 95 % interval of the mean; published: 0.3 %)",
    ),
    "P3.2": (
        "The denoising trajectory converges faster than the sampling trajectory, and both come ever nearer to the end.",
        "P3",
        "in at least 95 % of the generations r is nearer to the end than x at every level above the last, and neither distance ever grows by more than 1 % of that between unrelated images",
    ),
    "P3.3": (
        "The optimal denoiser is a step of mean shift, and sampling with it is annealed mean shift.",
        "P3",
        "empirical denoiser and mean-shift step agree to 1e-5 of the image's length at every level, and all its trajectories end within 1 % of the distance between "
        "unrelated images of a stored image",
    ),
    "P3.4": (
        "The network is close to the optimal denoiser at large noise and parts from it below.",
        "P3",
        "on the model's paths and on the optimal ones the distance of the two at every level above 12 is below a quarter of its greatest value on that path (upper end of the 95 % interval of the mean)",
    ),
    "P3.5": (
        "Stopping early and taking the denoised image costs little.",
        "P3",
        "stopped at 1/1.25 of the calls the Frechet distance is at most 25 % higher (upper end of the paired 95 % interval; not testable here when 25 % lies inside the interval)",
    ),
    "P4.1": (
        "There is an optimal finite diffusion time for a start from plain noise.",
        "P4",
        "the T that minimises G(T) + KL[p_T | noise] has an interval inside the grid",
    ),
    "P4.2": (
        "By the bound an auxiliary law allows a shorter diffusion at no loss.",
        "P4",
        "KL[p_T | law] + G(T) <= min over T of (KL[p_T | noise] + G(T)) at every T from some level, at most 1/1.5 of where that minimum is, up to there (upper ends of the 95 % intervals of the difference)",
    ),
    "P4.3": (
        "With an auxiliary law the quality of samples is kept at a shorter diffusion.",
        "P4",
        "at some T with at most 1/1.2 of the full run's calls the Frechet distance from the mixture is not above the end of the full run's interval, and from plain noise it is",
    ),
    "P4.4": (
        "One axis for both papers: at a short diffusion, the more the start knows the better the samples: noise, Gaussian (G-Turn), mixture, ground truth (U-Turn).",
        "ours",
        "at the quality level nearest to T_s the Frechet distances fall in this order, and the intervals of noise and ground truth do not overlap",
    ),
    "P4.5": (
        "The best T for an auxiliary law, where its denoiser becomes as good as the network, is the same against the memorising score on training images and by losses on held-out images.",
        "ours",
        "for the Gaussian and the mixture the 95 % intervals of the two overlap and lie inside the grid",
    ),
}
PAPER_CLAIMS = tuple(f"C{number}" for number in range(1, 9))


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


def _same_length(**sequences: Sequence) -> None:
    if len({len(sequence) for sequence in sequences.values()}) != 1:
        sizes = ", ".join(f"{name} {len(sequence)}" for name, sequence in sequences.items())
        raise ValueError(f"one value per level is needed, got {sizes}")


def decide(condition: bool | None) -> str:
    """True: holds; False: does not hold; None: not testable here."""
    return VERDICTS[2] if condition is None else VERDICTS[0] if condition else VERDICTS[1]


def memorization(
    figure: str, profile: str, sigmas: Sequence[float], identity: Sequence[Estimate], t_m: Estimate
) -> Claim:
    """C1 from the identity retention at each level and T_m."""
    _same_length(sigmas=sigmas, identity=identity)
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
    unexplained: Sequence[Estimate] | None = None,
) -> Claim:
    """C4 from centred correlations with their Gaussian approximation, and 1 - R^2 at the same levels (None: not measured).

    One half that fails decides; both are needed for "holds".
    """
    gaps = [Estimate(c.value - g, c.low - g, c.high - g) for c, g in zip(measured, gaussian, strict=True)]
    beyond = _largest(gap for s, gap in zip(sigmas, gaps, strict=True) if s >= t_s.value)
    between = _largest(gap for s, gap in zip(sigmas, gaps, strict=True) if t_m.value <= s < t_s.value)
    correlation_half = abs(beyond.value) <= 0.02 and not abs(between.value) > 0.05
    text = f"largest C - C_Gauss {_signed(beyond)} beyond T_s, "
    text += "no level lies on [T_m, T_s]" if math.isnan(between.value) else f"{_signed(between)} on [T_m, T_s]"
    values = {"beyond": beyond, "between": between, "T_m": t_m, "T_s": t_s}
    if math.isnan(beyond.value):
        return make_claim("C4", figure, profile, "no level of the grid lies beyond T_s", decide(None), **values)
    if unexplained is None:
        return make_claim("C4", figure, profile, text, decide(None if correlation_half else False), **values)
    left = _largest(u for s, u in zip(sigmas, unexplained, strict=True) if s >= t_s.value)
    text += f"; largest 1 - R^2 beyond T_s {left.value:.3f} [{left.low:.3f}, {left.high:.3f}]"
    return make_claim(
        "C4", figure, profile, text, decide(correlation_half and left.value <= 0.02), unexplained=left, **values
    )


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
        "O3",
        figure,
        profile,
        measured,
        decide(all(p >= 0.01 / len(p_values) for p in p_values)),
        smallest_p=min(p_values),
    )


def individual_transitions(figure: str, profile: str, memory: Heterogeneity, species: Heterogeneity) -> Claim:
    """C3 from the spread of T_m and T_s over ground truths."""
    texts = [
        f"spread of log {name} {found.spread.value:.2f} [{found.spread.low:.2f}, {found.spread.high:.2f}], {found.expected:.2f} expected of a "
        f"common curve, p {_p_value(found.p_value)}"
        for name, found in (("T_m", memory), ("T_s", species))
    ]
    return make_claim(
        "C3",
        figure,
        profile,
        "; ".join(texts),
        decide(memory.p_value < 0.01 and species.p_value < 0.01),
        spread_T_m=memory.spread,
        spread_T_s=species.spread,
        p_T_m=memory.p_value,
        p_T_s=species.p_value,
    )


def _p_value(p: float) -> str:
    return f"< {0.001:g}" if p < 0.001 else f"= {p:.3f}"


def insensitive(
    figure: str, profile: str, moved: dict[str, Estimate], changed: dict[str, Estimate], full: Estimate
) -> Claim:
    """C5 from the median distance between paired images (in units of that between unrelated ones) and the change of the Frechet
    distance for each law, and the Frechet distance of the usual start."""
    worst = max(moved, key=lambda law: moved[law].value)
    farthest = max(changed, key=lambda law: abs(changed[law].value))
    half = (full.high - full.low) / 2
    measured = (
        f"images move by at most {moved[worst].value:.3f} [{moved[worst].low:.3f}, {moved[worst].high:.3f}] of the distance between unrelated ones "
        f"(law: {worst}); Frechet distance changes by at most {_signed(changed[farthest])} (law: {farthest}; paired), the half-width that the rule "
        f"compares it with is {half:.2f}"
    )
    holds = all(m.value < 0.05 for m in moved.values()) and all(abs(c.value) < half for c in changed.values())
    return make_claim("C5", figure, profile, measured, decide(holds), moved=moved[worst], changed=changed[farthest])


def faster(
    figure: str,
    profile: str,
    sigmas: Sequence[float],
    calls: Sequence[int],
    frechet: Sequence[Estimate],
    nearness: Sequence[Estimate],
    full: Estimate,
    full_calls: int,
    artificial_at_t_m: Estimate,
) -> Claim:
    """C6 from the U-Turn's Frechet distance, calls and nearness to ground truths at each level, and the full run.

    ``nearness``: median distance of outputs to the nearest ground truth, divided by that of held-out images.
    """
    rows = list(zip(sigmas, calls, frechet, nearness, strict=True))
    good = [row for row in rows if row[2].value <= full.high and row[1] * 1.2 <= full_calls]
    fair = [row for row in good if row[3].high >= 1]
    fails = artificial_at_t_m.low > full.high
    text = f"full run {full.value:.2f} [{full.low:.2f}, {full.high:.2f}] with {full_calls} calls; "
    if fair:
        sigma, count, distance, near = min(fair, key=lambda row: row[1])
        text += f"U-Turn at sigma_u = {sigma:g} {distance.value:.2f} [{distance.low:.2f}, {distance.high:.2f}] with {count} calls ({full_calls / count:.2f} times fewer), "
        text += f"nearness {near.value:.2f} [{near.low:.2f}, {near.high:.2f}]"
        if any(row[3].value >= 0.99 for row in fair):  # the same without leaning on the width of the interval
            safe = min((row for row in fair if row[3].value >= 0.99), key=lambda row: row[1])
            text += f" ({full_calls / safe[1]:.2f} times fewer at sigma_u = {safe[0]:g}, nearness {safe[3].value:.2f})"
    elif good:
        near = max(good, key=lambda row: row[3].value)
        text += f"where the U-Turn is as good and 1.2 times cheaper it is nearer to its ground truths than held-out data are (nearness at most {near[3].value:.2f} [{near[3].low:.2f}, {near[3].high:.2f}], at sigma_u = {near[0]:g})"
    else:
        text += "no sigma_u is as good and 1.2 times cheaper"
    text += f"; artificial start near T_m {artificial_at_t_m.value:.1f} [{artificial_at_t_m.low:.1f}, {artificial_at_t_m.high:.1f}]"
    speed_up = full_calls / min(row[1] for row in fair) if fair else None
    return make_claim(
        "C6",
        figure,
        profile,
        text,
        decide(bool(fair) and fails),
        full=full,
        speed_up=speed_up,
        artificial_at_T_m=artificial_at_t_m,
    )


def deterministic(
    figure: str,
    profile: str,
    identical: bool,
    moved: Estimate,
    changed: Estimate | None,
    levels: Sequence[float],
    class_kept: Estimate | None,
) -> Claim:
    """C7 from repeated runs, and from the two largest levels: median image distance in units of that between unrelated images, and
    fraction of output classes that change. ``class_kept``: class retention at the largest level; "no speciation transition" has no rule, so it is
    reported and not judged. Both are None for data without classes: then that part of the rule is left out."""
    measured = (
        f"repeated runs {'identical' if identical else 'differ'}; from sigma_u = {levels[0]:g} to {levels[1]:g} images move by "
        f"{moved.value:.3f} [{moved.low:.3f}, {moved.high:.3f}] of the distance between unrelated ones"
    )
    if changed is None or class_kept is None:
        measured += "; the data have no classes" + (
            " (5 % lies inside the interval: close)" if moved.contains(0.05) else ""
        )
        return make_claim("C7", figure, profile, measured, decide(identical and moved.value < 0.05), moved=moved)
    measured += f" and {changed.value:.1%} [{changed.low:.1%}, {changed.high:.1%}] change class"
    clear = moved.low > 0.05 or changed.low > 0.05  # then nothing else matters
    if not clear and (moved.contains(0.05) or changed.contains(0.05)):
        measured += " (5 % lies inside an interval: close)"
    measured += (
        f"; not judged, for want of a rule: that no speciation is seen (class kept at the largest level {class_kept.value:.2f} "
        f"[{class_kept.low:.2f}, {class_kept.high:.2f}])"
    )
    holds = identical and moved.value < 0.05 and changed.value <= 0.05
    return make_claim(
        "C7", figure, profile, measured, decide(holds), moved=moved, changed=changed, class_kept=class_kept
    )


def best_turn(figure: str, profile: str, sigmas: Sequence[float], minimum: Estimate, at_minimum: Estimate) -> Claim:
    """C8 from the level of the smallest kernel distance."""
    measured = (
        f"smallest kernel distance at sigma_u = {minimum.value:g} [{minimum.low:g}, {minimum.high:g}] of a grid from {sigmas[0]:g} to "
        f"{sigmas[-1]:g}, where it is {at_minimum.value:.3f} [{at_minimum.low:.3f}, {at_minimum.high:.3f}]"
    )
    if minimum.low == sigmas[0] and minimum.high == sigmas[-1]:
        measured += "; the interval is the whole grid: no minimum can be located"
    inside = sigmas[0] < minimum.low and minimum.high < sigmas[-1]
    return make_claim("C8", figure, profile, measured, decide(inside), minimum=minimum, kernel_distance=at_minimum)


def not_recall(figure: str, profile: str, log_ratio: Estimate, network: Estimate, memorising: Estimate) -> Claim:
    """O4 from log T_m(training) - log T_m(held out) of the network, and T_m for training starts of the network and the empirical score."""
    measured = (
        f"network: T_m(training) / T_m(held out) = {math.exp(log_ratio.value):.2f} [{math.exp(log_ratio.low):.2f}, {math.exp(log_ratio.high):.2f}]; "
        f"T_m for training starts {network.value:.2f} [{network.low:.2f}, {network.high:.2f}], of the empirical score {memorising.value:.2f} "
        f"[{memorising.low:.2f}, {memorising.high:.2f}]"
    )
    holds = log_ratio.contains(0) and memorising.low > network.high
    return make_claim("O4", figure, profile, measured, decide(holds), log_ratio=log_ratio, memorising=memorising)


def halves_agree(
    figure: str, profile: str, sigmas: Sequence[float], unexplained: Sequence[Estimate], excess: Sequence[Estimate]
) -> Claim:
    """O5 from 1 - R^2 and (C - C_Gauss) / C at each level, with intervals at the corrected confidence."""

    def apart(a: Estimate, b: Estimate) -> float:
        """Their difference in units of what is allowed: 0.02, or its half-interval (the two come from different samples)."""
        return abs(a.value - b.value) / max(0.02, math.hypot(a.high - a.low, b.high - b.low) / 2)

    rows = [(apart(a, b), s, a, b) for s, a, b in zip(sigmas, unexplained, excess, strict=True)]
    worst, sigma, a, b = max(rows, key=lambda row: row[0])
    widest = max(math.hypot(a.high - a.low, b.high - b.low) / 2 for _, _, a, b in rows)
    measured = (
        f"at {len(rows)} levels up to sigma = {sigmas[-1]:g}; farthest apart at sigma = {sigma:g}: {a.value:.3f} [{a.low:.3f}, {a.high:.3f}] against "
        f"{b.value:.3f} [{b.low:.3f}, {b.high:.3f}]; resolved to +-{widest:.2f} at worst"
    )
    return make_claim(
        "O5", figure, profile, measured, decide(all(row[0] <= 1 for row in rows)), unexplained=a, excess=b
    )


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
        kept = [entry for entry in read_ledger(profile.name) if entry["figure"] not in figures]
        entries = kept + [asdict(claim) | made_with for claim in claims]
        write_json(path, sorted(entries, key=lambda entry: (entry["id"], entry["figure"])))
        write_text(path.with_name("CLAIMS.md"), page(profile.name))
    return path


def report(*claims: Claim) -> str:
    """Record the claims of a figure and return them as Markdown: statement, rule, what was measured, verdict."""
    record(*claims)
    return "\n\n".join(
        f"**{claim.id}** ({claim.source}): {claim.statement}  \nRule: {claim.rule}.  \nMeasured: {claim.measured}.  \n**{claim.verdict}**"
        for claim in claims
    )


def read_ledger(profile: str) -> list[dict]:
    """The entries of a profile's claims.json, none when it does not exist yet."""
    path = figure_folder(profile) / "claims.json"
    return read_json(path) if path.is_file() else []


def page(profile: str) -> str:
    """CLAIMS.md: every claim with what was measured, its verdict, its rule and its figure."""
    entries, group = read_ledger(profile), profile.partition("/")[0]
    missing = [id for id in PAPER_CLAIMS if id not in {entry["id"] for entry in entries}]
    lines = [
        f"# Claims, profile {group}",
        "",
        f"Written by the notebooks; do not edit. Data and scale: {describe(profile)}. Intervals are 95 %. Verdicts are computed from the "
        "rules below. Those of C1 to C8 were fixed before any run; C6's \"not nearer\" is read at the 95 % level. Those of the O are ours; O2's noise level and "
        "O5's tolerance were changed after a first run (the notebooks say why). Those of the P (companion studies) were fixed after a first look at digits; a review of first results on both data sets made P2.1, P2.2, P3.2, P3.4, P3.5 and P4.2 stricter. The numbers behind each line are in [claims.json](claims.json)."
        + (" Machine, time and scale of the run: [RUN.md](RUN.md)." if group != "laptop" else ""),
    ]
    titles = {
        "paper": "## The paper's claims",
        "P2": "## P2: the U-Net's parts (Prasad et al. 2023)",
        "P3": "## P3: trajectories (Chen et al. 2023)",
        "P4": "## P4: the length of the diffusion (Franzese et al. 2023)",
        "ours": "## Ours: tests of the method, and what unites the papers",
    }
    for source, title in titles.items():
        if source.startswith("P") and source not in {entry["source"] for entry in entries}:
            continue
        lines += ["", title, "", "| | claim | measured | verdict | figure |", "|---|---|---|---|---|"]
        for entry in entries:
            if entry["source"] == source:
                link = f"[{entry['figure']}]({_png(profile, entry['figure'])})"
                cells = (entry["id"], entry["statement"], entry["measured"], f"**{entry['verdict']}**", link)
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if source == "paper" and missing:
            lines += ["", f"Not judged yet: {', '.join(missing)} (run `make figures`)."]
    lines += ["", "## Rules", ""]
    lines += [f"* **{id}** holds when {STATEMENTS[id][2]}." for id in sorted(STATEMENTS)]
    return "\n".join(lines) + "\n"


def _png(profile: str, figure: str) -> str:
    return next((path.name for path in sorted(figure_folder(profile).glob(f"{figure}_*.png"))), f"{figure}.png")


def verdicts(profile: str) -> dict[str, str]:
    """Per claim its verdicts with the figures that gave them, as Markdown."""
    entries = read_ledger(profile)
    texts = {}
    for id in sorted({entry["id"] for entry in entries}):
        judged = [entry for entry in entries if entry["id"] == id]
        found = {entry["verdict"] for entry in judged}
        figures = {
            verdict: ", ".join(entry["figure"] for entry in judged if entry["verdict"] == verdict) for verdict in found
        }
        texts[id] = "; ".join(f"**{verdict}** ({figures[verdict]})" for verdict in VERDICTS if verdict in found)
    return texts


def summary(*profiles: str) -> str:
    """The ledgers in short, for the README: claim and verdict, with the figure of each judgement; a column per profile."""
    columns = [verdicts(profile) for profile in profiles]
    heads = ["verdict"] if len(profiles) == 1 else [f"{profile}" for profile in profiles]
    rows = [f"| | claim | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for id in sorted(set().union(*columns)):
        statement = STATEMENTS[id][0].replace("|", "\\|")
        rows.append(f"| {id} | {statement} | {' | '.join(column.get(id, '-') for column in columns)} |")
    return "\n".join(rows)


# What the README compares between profiles: what it is, the figure and the claim whose values hold it, and the name of the value.
NUMBERS = (
    ("memorization time $T_m$", "fig09", "C1", "T_m"),
    ("speciation time $T_s$", "fig09", "C2", "T_s"),
    ("$T_m$ of the memorising score, training images", "fig13", "O4", "memorising"),
    ("largest $C - C_G$ on $[T_m, T_s]$, no label", "fig14", "C4", "between"),
    ("largest share that no affine score explains beyond $T_s$", "fig14", "C4", "unexplained"),
    ("how far the law of the start moves an image", "fig04", "C5", "moved"),
    ("last step of the deterministic sampler", "fig15", "C7", "moved"),
    ("times fewer calls at the full run's quality", "fig10", "C6", "speed_up"),
)


def numbers(*profiles: str) -> str:
    """The main numbers of several profiles side by side with their 95 % intervals, and the published speciation scales, as Markdown."""
    rows = [f"| | figure | {' | '.join(profiles)} |", "|---" * (2 + len(profiles)) + "|"]
    for text, figure, id, name in NUMBERS:
        cells = [_number(profile, figure, id, name) for profile in profiles]
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


def _number(profile: str, figure: str, id: str, name: str) -> str:
    for entry in read_ledger(profile):
        if (entry["figure"], entry["id"]) == (figure, id):
            value = entry["values"].get(name)
            if isinstance(value, dict) and "nan" in value.values():
                return "none"
            if isinstance(value, dict):
                return "{value} [{low}, {high}]".format(**{end: _short(number) for end, number in value.items()})
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
