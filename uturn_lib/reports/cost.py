"""What a run will cost, before it is begun: `uturn cost --profile paper --device cuda` (or `make cost PROFILE=paper`).

Network calls per figure follow from the profile; images per second are measured on the machine at hand (or given). The times are estimates: sweeps that several figures
share are counted once, with the first of them; what is not the network (nearest neighbours, features, drawing) is left out.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from ..noise import proportional_steps
from ..profiles import COMPOSITES, Profile, load_profile, profile_of
from ..uturn import INITIAL_LAWS
from .run import figure_of, find_notebooks

FIG06 = {"repeats": 6, "count": 10, "levels": 5}  # as the notebook's parameters; its levels are those around T_m
PARTS = 36  # of a U-Net that are switched off one by one, about
LATE = 3  # levels of a late start with whose calls Figures 7 and 10 also make full runs, about two thirds of the steps each


def sde_calls(profile: Profile, sigmas: tuple[float, ...], count: int) -> int:
    """Calls of a U-Turn sweep by the "sde" sampler: one per step."""
    return count * sum(proportional_steps(s, profile.steps, profile.sigma_max) for s in sigmas)


def ode_calls(profile: Profile, sigmas: tuple[float, ...], count: int, steps: int) -> int:
    """The same by Heun's method: two per step, one in the last."""
    return count * sum(2 * proportional_steps(s, steps, profile.sigma_max) - 1 for s in sigmas)


def sweeps(profile: Profile) -> dict[str, int]:
    """Network calls (one image each) of every sweep of a profile."""
    p, few = profile, profile.quality_sigmas
    resumed = sum(range(p.flow_steps, 0, -2))  # calls of one generation resumed at every window
    return {
        "conditional": sde_calls(p, p.sigmas, p.ground_truths),
        "multi-class": sde_calls(p, p.sigmas, p.ground_truths),
        "training images": sde_calls(p, p.repeat_sigmas, p.ground_truths),
        "repeated": sde_calls(p, p.repeat_sigmas, p.repeated * p.repeats),
        "around T_m": sde_calls(p, p.repeat_sigmas[: FIG06["levels"]], FIG06["count"] * FIG06["repeats"]),
        "artificial, labels": sde_calls(p, few, p.ground_truths),
        "full run": p.ground_truths * p.steps,
        "artificial": sde_calls(p, tuple(s for s in few if s < p.sigma_max), p.ground_truths),
        "gaussian": sde_calls(p, few, p.ground_truths),
        "shortened, labels": LATE * p.ground_truths * 2 * p.steps // 3,
        "shortened": LATE * p.ground_truths * 2 * p.steps // 3,
        "laws": (len(INITIAL_LAWS) - 1) * p.ground_truths * p.steps,  # the usual start is the full run
        "generation": p.ks_sets * p.ks_samples * (2 * p.ks_steps - 1),
        "deviation": p.ode_ground_truths * (2 * p.ode_steps - 1),
        "deterministic": ode_calls(p, p.sigmas, p.ode_ground_truths, p.ode_steps),
        "refined": sum(ode_calls(p, p.sigmas[-2:], 16, p.ode_steps * factor) for factor in (1, 2)),
        "affinity": len(p.sigmas) * (p.affinity_fit + p.affinity_held_out),
        "effect map": PARTS * p.ablated * resumed,
        "flows": p.ground_truths * (p.flow_steps + sum(n for n in (6, 10, 14) if n < p.flow_steps)),
        "shortcuts": 12 * (p.ground_truths // 2) * 2 * p.flow_steps // 3
        + 13 * p.ablated * p.flow_steps
        + 6 * 13 * 8 * 2 * p.flow_steps // 3,
        "shapes": p.paths * p.flow_steps,
        "solvers": p.paths // 4 * (191 + 6 * 108),
        "optimal paths": p.ode_ground_truths * p.ode_steps,
        "losses": 2 * (5 * p.paths // 2) * 25,
        "likelihoods": 3 * (3 * p.paths // 8) * 110,  # a call with its derivative counts as three
        "mixture": sde_calls(p, few, p.ground_truths),
        "second": ode_calls(p, p.sigmas, p.second_ground_truths, p.second_steps) if p.second_checkpoint else 0,
    }


# In the order of the figures; a sweep is counted where it is needed first.
NEEDS = {
    "fig02": ("generation",),
    "fig03": ("generation", "deviation", "multi-class"),
    "fig04": ("laws", "full run"),
    "fig05": ("conditional", "multi-class"),
    "fig06": ("conditional", "around T_m"),
    "fig07": ("conditional", "artificial, labels", "shortened, labels"),
    "fig08": ("conditional", "multi-class"),
    "fig09": ("multi-class",),
    "fig10": ("multi-class", "full run", "artificial", "gaussian", "shortened"),
    "fig11": ("repeated", "multi-class"),
    "fig12": ("repeated", "multi-class"),
    "fig13": ("multi-class", "training images"),
    "fig14": ("multi-class", "affinity", "full run", "artificial", "gaussian"),
    "fig15": ("deterministic", "refined", "multi-class"),
    "fig16": ("second",),
    "p2a": ("effect map", "multi-class"),
    "p2b": ("effect map", "flows", "shortcuts"),
    "p3a": ("shapes", "multi-class"),
    "p3b": ("flows", "solvers"),
    "p3c": ("deviation", "optimal paths", "multi-class"),
    "p4a": ("losses", "likelihoods", "multi-class"),
    "p4b": ("multi-class", "full run", "artificial", "gaussian", "mixture"),
}


def calls_per_figure(name: str, device: str) -> dict[str, tuple[str, int]]:
    """For every figure of a profile or composite: the profile that computes it, and the network calls that it adds."""
    found: dict[str, tuple[str, int]] = {}
    done: set[tuple[str, str]] = set()
    for path in find_notebooks([]):
        figure = figure_of(path)
        profile = load_profile(profile_of(name, figure)).on(device)
        if not profile.shows(figure):
            continue
        needed = NEEDS.get(figure, ())
        if profile.labels == "always":  # its "multi-class" sweep is the class-conditional one
            needed = tuple("conditional" if sweep == "multi-class" else sweep for sweep in needed)
        new = {(profile.name, sweep) for sweep in needed} - done
        done |= new
        total = sweeps(profile)
        found[figure] = profile.name, sum(total[sweep] for _, sweep in new)
    return found


@torch.no_grad()
def measured_rate(checkpoint: str, device: torch.device, batch: int, rounds: int = 3) -> float:
    """Images per second of one call of the network, as the figures use it on ``device``; the median of ``rounds``."""
    from ..experiments.study import build_denoiser

    denoiser: Any = build_denoiser(checkpoint, device, device.type == "cuda")
    x = torch.randn(batch, *denoiser.sample_shape, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device) if denoiser.num_classes else None

    def once() -> float:
        begun = time.perf_counter()
        denoiser(x, 1.0, labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    once()
    return batch / statistics.median(once() for _ in range(rounds))


def show(name: str, device: torch.device, rate: float | None = None) -> None:
    """Print calls and hours per figure of profile ``name``; ``rate`` (images per second) is measured unless given."""
    calls = calls_per_figure(name, device.type)
    rates = {}
    for part in dict.fromkeys(part for part, _ in calls.values()):
        profile = load_profile(part).on(device.type)
        rates[part] = rate or measured_rate(profile.checkpoint, device, profile.batch_size)
        print(f"{part}: {profile.checkpoint}, {rates[part]:,.1f} images/s per call{'' if rate else ' (measured)'}")
    print("| figure | network calls | estimated hours |\n|---|---|---|")
    for figure, (part, count) in calls.items():
        print(f"| {figure} | {count:,} | {count / rates[part] / 3600:.2f} |")
    hours = sum(count / rates[part] for part, count in calls.values()) / 3600
    print(f"| all | {sum(count for _, count in calls.values()):,} | {hours:.1f} |")
    if name in COMPOSITES:
        print("Figure 16 is counted at the rate of its part's first network: its own is smaller.")
