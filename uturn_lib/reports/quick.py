"""The method in a minute: `make quick` takes 40 digits through U-Turns at a few noise levels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from .. import experiments
from ..measures.estimate import Estimate
from . import plotting

LEVELS = (0.4, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0, 80.0)
COUNT, ROWS = 40, 6


def turned(study: experiments.Study, seed: int = 0) -> experiments.Transitions:
    """``COUNT`` held-out images through U-Turns at ``LEVELS``: retention, T_m and T_s."""
    sweep = experiments.profile_sweep(study, study.test.take(COUNT), LEVELS, seed=seed)
    return experiments.transitions(study, seed, sweep)


def draw(found: experiments.Transitions, class_names: tuple[str, ...]) -> plotting.Figure:
    """The first ``ROWS`` images with their U-Turns; below, identity and class retention of all."""
    plotting.use_style()
    figure = plotting.plt.figure(figsize=(plotting.PAGE, 6.4))
    rows: Any = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    upper, lower = rows
    sweep, axes = found.sweep, upper.subplots()
    shown = torch.stack([sweep.x0[:ROWS], *sweep.y0[:, :ROWS]], dim=1)
    names = [class_names[k] for k in sweep.labels[:ROWS]]
    plotting.image_grid(axes, shown, names, ["image", *(f"{s:g}" for s in sweep.sigmas)])
    frames = plotting.retention_frames(found.identity[:, :ROWS], found.same_class[:, :ROWS])
    plotting.frame_images(axes, frames, *shown.shape[-2:])
    upper.suptitle(r"noise up to $\sigma_u$, then back: U-Turns", fontsize=10, fontweight="bold")
    plotting.frame_legend(upper)
    axes = lower.subplots()
    for rows, quantity, label in (
        (found.identity_curve, "identity_retention", "the image itself comes back"),
        (found.class_curve, "class_retention", "its class comes back"),
    ):
        plotting.curve(axes, sweep.sigmas, rows, quantity, label)
    plotting.sigma_axis(axes)
    axes.set(ylabel=f"fraction of {COUNT}", ylim=(-0.03, 1.03))
    axes.legend(fontsize=8)
    return figure


def words(found: experiments.Transitions) -> str:
    """T_m and T_s in two sentences."""

    def level(t: Estimate) -> str:
        return f"{t.value:.2g} [{t.low:.2g}, {t.high:.2g}]"

    return (
        f"The image itself is lost at sigma_u = {level(found.t_m)} (T_m, memorization), "
        f"its class at {level(found.t_s)} (T_s, speciation).\n"
        f"In brackets: 95 % intervals, from {COUNT} images. Figure 9 uses more of both."
    )


def open_picture(path: Path) -> bool:
    """Show a picture in the desktop's viewer; False where there is no desktop."""
    opener = {"darwin": "open", "linux": "xdg-open"}.get(sys.platform)
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if opener is None or (sys.platform == "linux" and not screen):
        return False
    try:
        subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return True


def show(profile: str, device: str) -> None:
    """Compute, draw and print: what ``uturn quick`` does."""
    study = experiments.prepare(profile, device)
    found = turned(study)
    path = plotting.save_figure(draw(found, study.test.class_names), profile, "quick")
    print(words(found))
    print(f"picture: {path}{'' if open_picture(path) else ' (open it in a viewer)'}")
