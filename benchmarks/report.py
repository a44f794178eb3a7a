"""benchmarks/README.md from the rows of a run: speed, then error against calls, and where another
library is better."""

from __future__ import annotations

from collections.abc import Sequence

from accuracy import CALLS, LEVELS, MEASURES

MEANINGS = {
    "covariance": "relative error of the output's covariance (Frobenius norm)",
    "mean": "error of the output's mean, over the root of the total variance",
    "correlation": "U-Turn correlation, minus its exact value",
    "retention": "class retention, minus its exact value",
}


def markdown(
    machine: dict, speed: Sequence[dict], accuracy: Sequence[dict], skipped: str | None
) -> str:
    """The whole page; ``skipped``: a line for libraries that are not installed."""
    parts = [
        "# Benchmarks",
        "Written by `make bench`; the numbers are in results.json. Speeds are ratios within one "
        f"run on {machine['device']}, {machine['threads']} threads, torch {machine['torch']}.",
        *([f"**{skipped}**"] if skipped else []),
        "## Speed",
        "Median over the rounds of the run; in brackets the quartiles of the loops' rounds.",
        _grid(
            ["what", "ratio", "aim"],
            [[row["what"], _ratio(row), row.get("aim", "")] for row in speed],
        ),
        "## Error against calls",
        "Two unequal clouds in 8 dimensions, exact score, the same starts for all. Every peer has, "
        "at every number of calls, the best for its covariance of three spacings of levels: the "
        "Karras grid (k), equal ratios (l) and ours (o). Thousandths, with standard errors; "
        "lengths (covariance, mean) are freed of the part that noise adds. KDPM2A and "
        "PC call the denoiser twice per step.",
    ]
    for sigma_u in LEVELS:
        for measure in MEANINGS:
            if measure == "correlation" and sigma_u > 10:
                continue  # nothing is left of x_0 there, for any sampler
            parts += [
                f"**Turned at {sigma_u:g}: {MEANINGS[measure]}**",
                _errors(accuracy, sigma_u, measure),
            ]
    parts += ["## Where a peer is better", better(accuracy)]
    return "\n\n".join(parts) + "\n"


def better(accuracy: Sequence[dict]) -> str:
    """A list of all cells in which a peer's error is below ours by more than two standard errors of
    the difference."""
    lines = []
    for sigma_u in LEVELS:
        for calls in CALLS:
            cell = [row for row in accuracy if row["sigma_u"] == sigma_u and row["calls"] == calls]
            (own,) = [row for row in cell if row["sampler"] == "ours"]
            for row in cell:
                for measure in MEASURES:
                    (a, da), (b, db) = own[measure], row[measure]
                    if row is not own and abs(b) + 2 * (da**2 + db**2) ** 0.5 < abs(a):
                        where = f"{row['sampler']}, turned at {sigma_u:g}, {calls} calls"
                        errors = f"{abs(b):.3f} against our {abs(a):.3f}"
                        lines.append(f"* {where}, {measure}: {errors}")
    return (
        "By more than two standard errors:\n\n" + "\n".join(lines)
        if lines
        else "Nowhere, by more than two standard errors."
    )


def _ratio(row: dict) -> str:
    low, high = row.get("quartiles", (None, None))
    return f"{row['ratio']:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")


def _errors(accuracy: Sequence[dict], sigma_u: float, measure: str) -> str:
    cells: dict[str, dict[int, str]] = {}
    for row in accuracy:
        if row["sigma_u"] == sigma_u:
            value, error = (1000 * number for number in row[measure])
            grid = "" if row["sampler"] == "ours" else f" {row['grid'][0]}"
            sign = "+" if measure in ("correlation", "retention") else ""
            cells.setdefault(row["sampler"], {})[row["calls"]] = (
                f"{value:{sign}.0f} ± {error:.0f}{grid}"
            )
    return _grid(
        ["calls", *map(str, CALLS)],
        [[name, *(found[calls] for calls in CALLS)] for name, found in cells.items()],
    )


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
