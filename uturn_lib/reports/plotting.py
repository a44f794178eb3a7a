"""One look for all figures: each quantity has one colour and one name (Okabe-Ito colours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ..measures.estimate import Estimate
from ..noise import ddpm_step_to_sigma, sigma_to_ddpm_step, sigma_to_vp_time, vp_time_to_sigma
from ..support.files import atomic_path
from ..support.places import figure_folder

COLOURS = {
    "u_turn": "#0072B2",  # U-Turn outputs and their correlation
    "identity": "#009E73",  # E|D|^2 / E|x_0|^2
    "gaussian": "#E69F00",  # Gaussian approximation or prediction, and what starts from it
    "g_turn": "#E69F00",
    "artificial": "#CC79A7",  # artificial start
    "network": "#0072B2",  # where scores are compared: the network is what U-Turns use,
    "empirical": "#6A3D9A",  # the empirical score,
    "local": "#117733",  # the local one,
    "mixture": "#8C564B",  # a Gaussian for each class
    "identity_retention": "#56B4E9",  # and T_m, which is read off it
    "T_m": "#56B4E9",
    "class_retention": "#D55E00",  # and T_s, which is read off it
    "T_s": "#D55E00",
    "calibrated": "#999933",  # a calibrated variant of a measure
    "difference": "#332288",  # C - C_G
    "sde": "#555555",  # the stochastic sampler, where the deterministic one is the subject
    "denoised_norm": "#44AA99",  # |D|, and what is read off the end of the path
    "few_classes": "#44AA99",
    "many_classes": "#882255",
    "published": "#000000",  # read off a publication
    "exact": "#000000",  # closed form
    "data": "#999999",  # ground truth, chance, tolerance
}
SIGMA_LABEL = r"noise level $\sigma$"
TURN_LABEL = r"turn $\sigma_u$"
PAGE = 7.0  # inches: the width of a page
PNG_LIMIT = 380_000  # bytes; larger pictures get fewer colours
GAP = 4  # pixels between the images of a grid


def use_style() -> None:
    """Seaborn's ticks with text that stays readable at page width; text in PDFs stays text."""
    sns.set_theme(
        context="paper",
        style="ticks",
        font_scale=1.1,
        rc={
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": True,
            "legend.framealpha": 0.85,
            "legend.edgecolor": "none",
            "pdf.fonttype": 42,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
        },
    )


def curve(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    quantity: str,
    label: str,
    marker: str = "o",
    linestyle: str = "-",
) -> None:
    """A line of estimates with their 95 % intervals as a band."""
    value, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
    look: dict[str, Any] = {"marker": marker, "linestyle": linestyle, "markersize": 4}
    axes.plot(x, value, color=COLOURS[quantity], label=label, **look)
    axes.fill_between(x, low, high, color=COLOURS[quantity], alpha=0.2, linewidth=0)


def sigma_axis(
    axes: Axes,
    label: str = TURN_LABEL,
    vp_time: bool = False,
    ddpm_step: bool | Sequence[float] = False,
) -> None:
    """Logarithmic noise level.

    On top, if wanted: the time of the variance-preserving SDE, or the step of a DDPM with 1,000 of
    them (``ddpm_step``: True, or the steps to mark).
    """
    axes.set_xscale("log")
    axes.set_xlabel(label)
    if vp_time:
        times, label = [0.1, 0.5, 1, 2, 3, 4], "VP time $t$,  $\\sigma^2 = e^{2t} - 1$"
        _top_axis(axes, (_to_time, _from_time), label, times)
    if ddpm_step:
        steps = [20, 50, 100, 200, 400, 700] if ddpm_step is True else ddpm_step
        _top_axis(axes, (_to_step, _from_step), "DDPM step (linear schedule, of 1000)", steps)


def _top_axis(axes: Axes, functions: tuple, label: str, ticks: Sequence[float]) -> None:
    top = axes.secondary_xaxis("top", functions=functions)
    top.set_xlabel(label, fontsize=8)
    top.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    top.minorticks_off()


def _to_time(sigma):
    return sigma_to_vp_time(np.maximum(sigma, 1e-9))


def _from_time(time):
    return vp_time_to_sigma(np.maximum(time, 1e-12))


def _to_step(sigma):
    return sigma_to_ddpm_step(np.maximum(sigma, 1e-9))


def _from_step(step):
    return ddpm_step_to_sigma(np.maximum(step, 1e-9))


def mark_transition(axes: Axes, estimate: Estimate, quantity: str, name: str | None) -> None:
    """A vertical line at T_m or T_s with its interval as a band, unless it lies off the grid.

    In the legend under ``name``, if any.
    """
    if np.isfinite(estimate.value) and estimate.value > 0:
        colour, label = COLOURS[quantity], f"{name} = {estimate.value:.2g}" if name else None
        axes.axvspan(estimate.low, estimate.high, color=colour, alpha=0.2, linewidth=0)
        axes.axvline(estimate.value, color=colour, linestyle="--", linewidth=1.2, label=label)


def mark_times(
    axes: Axes, t_m: Estimate, t_s: Estimate | None = None, height: float = 0.98
) -> None:
    """T_m and T_s as vertical lines with their intervals as bands, their names beside them.

    The names stand outside of the pair, at ``height`` (fraction of the axes). What was not seen, or
    is not testable (NaN), is not drawn. Call it last: the sides depend on the axis.
    """
    times = [("T_m", t_m), *([("T_s", t_s)] if t_s is not None else [])]
    seen = [(name, t) for name, t in times if np.isfinite(t.value) and t.value > 0]
    places = [axes.transData.transform((t.value, 0))[0] for _, t in seen]
    for (name, t), place in zip(seen, places, strict=True):
        mark_transition(axes, t, name, None)
        side = -1 if len(seen) == 2 and place == min(places) else 1
        look: dict[str, Any] = {"color": COLOURS[name], "fontsize": 8, "va": "top"}
        look |= {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        side_of_line = "right" if side < 0 else "left"
        text, place = f"${name}$ = {t.value:.2g}", (t.value, height)
        axes.annotate(text, place, (4 * side, 0), ha=side_of_line, **look)


def label_curve(axes: Axes, x: float, y: float, text: str, quantity: str, **options: Any) -> None:
    """Name a curve where it runs, in its colour; ``options`` go to ``Axes.text``."""
    axes.text(x, y, text, **{"color": COLOURS[quantity], "fontsize": 8, **options})


def image_grid(
    axes: Axes,
    images: Tensor,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap: int = GAP,
) -> None:
    """Images (R, K, C, H, W) in [-1, 1] as R rows and K columns with labels."""
    rows, columns, channels, height, width = images.shape
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    pixels = ((images.clamp(-1, 1) + 1) / 2).permute(0, 1, 3, 4, 2).numpy()
    for r in range(rows):
        for k in range(columns):
            top, left = r * (height + gap), k * (width + gap)
            canvas[top : top + height, left : left + width] = pixels[r, k]
    axes.imshow(canvas.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(
        [k * (width + gap) + width / 2 for k in range(len(column_labels))], column_labels
    )
    axes.set_yticks([r * (height + gap) + height / 2 for r in range(len(row_labels))], row_labels)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.grid(False)
    sns.despine(ax=axes, left=True, bottom=True)


def image_column(axes: Axes, images: Tensor, most: int = 20) -> None:
    """Images (N, C, H, W) in [-1, 1] as a column without labels, image i at height y = i.

    Of more than ``most`` images as many are shown, at equal steps. For axes that share their y-axis
    with a plot of one value for each image.
    """
    shown = np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int))
    step = (len(images) - 1) / max(1, len(shown) - 1) or 1  # between neighbours
    half = 0.46 * min(step, len(images) / most)  # few images stay small
    pixels = ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy()
    pixels = pixels.squeeze(-1) if images.shape[1] == 1 else pixels
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    for i in shown:
        axes.imshow(pixels[i], extent=(0.0, 1.0, i - half, i + half), aspect="auto", **look)
    axes.set(xlim=(0, 1), xticks=[])
    axes.grid(False)
    sns.despine(ax=axes, left=True, bottom=True)


def frame_images(
    axes: Axes, colours: Sequence[Sequence[str | None]], height: int, width: int, gap: int = GAP
) -> None:
    """Frames around the images of :func:`image_grid`; ``colours`` [row][column], None for none."""
    for r, row in enumerate(colours):
        for k, colour in enumerate(row):
            if colour is not None:
                place = (k * (width + gap) - 0.5, r * (height + gap) - 0.5)
                frame = plt.Rectangle(
                    place, width, height, fill=False, edgecolor=colour, linewidth=1.6
                )
                frame.set_clip_on(False)  # the outermost frames lie on the border of the axes
                axes.add_patch(frame)


def retention_frames(
    identity: Tensor, same_class: Tensor, before: int = 1
) -> list[list[str | None]]:
    """Frame colours [row][column] from retention (columns, rows).

    Nearest to its ground truth, same class, other class. The first ``before`` columns (the ground
    truths) get no frame.
    """
    names = ("data", "class_retention", "identity_retention")
    levels = same_class.long() + identity.long() * (1 + (~same_class).long())
    return [[None] * before + [COLOURS[names[int(level)]] for level in row] for row in levels.T]


def mark_on_grid(
    axes: Axes,
    estimate: Estimate,
    quantity: str,
    name: str,
    sigmas: Sequence[float],
    rows: int,
    size: int,
    before: int = 1,
    gap: int = GAP,
) -> None:
    """A dashed line across an image grid where T lies between its columns of ``sigmas``."""
    if not sigmas[0] < estimate.value < sigmas[-1]:
        return
    place = np.interp(
        np.log(estimate.value), np.log(sigmas), np.arange(before, before + len(sigmas))
    )
    x, bottom = place * (size + gap) + size / 2, rows * (size + gap)
    axes.axvline(x, color="black", linestyle="--", linewidth=1.2)
    look: dict[str, Any] = {"color": COLOURS[quantity], "fontsize": 10, "fontweight": "bold"}
    axes.text(x, bottom + size / 10, name, ha="center", va="top", **look)


def frame_legend(figure: Figure) -> None:
    """What the frames of :func:`retention_frames` mean, below the figure."""
    names = {
        "identity_retention": "nearest to its GT",
        "class_retention": "same class",
        "data": "other class",
    }
    look: dict[str, Any] = {"marker": "s", "linestyle": "", "markeredgewidth": 1.6}
    look["markerfacecolor"] = "none"
    entries = [plt.Line2D([], [], color=COLOURS[q], label=t, **look) for q, t in names.items()]
    figure.legend(handles=entries, loc="outside lower center", ncols=3, fontsize=8)


def save_figure(figure: Figure, profile: str, name: str) -> Path:
    """Write figures/<profile>/<name>.png and .pdf, each whole or not at all.

    Without dates: the same figure is the same file.
    """
    folder = figure_folder(profile)
    dates = {".png": ("Software",), ".pdf": ("CreationDate", "Producer", "Creator")}
    for suffix, names in dates.items():
        metadata = dict.fromkeys(names)
        with atomic_path(folder / f"{name}{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata)
            if suffix == ".png" and temporary.stat().st_size > PNG_LIMIT:
                _fewer_colours(temporary)
    return folder / f"{name}.png"


def _fewer_colours(path: Path) -> None:
    """Reduce a picture to 256 colours, those of the curves kept: a third of the size."""
    from PIL import Image

    names = ("white", "black", *COLOURS.values())
    own = [tuple(round(255 * part) for part in to_rgb(colour)) for colour in names]
    with Image.open(path) as image:
        picture = image.convert("RGB")
    first = 256 - len(own)
    chosen = picture.quantize(first, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    pixels, numbers = np.asarray(picture), np.array(chosen)
    for place, colour in enumerate(own, first):
        numbers[(pixels == colour).all(2)] = place
    reduced = Image.fromarray(numbers)
    palette = ((chosen.getpalette() or []) + [0] * 768)[: 3 * first]
    reduced.putpalette(palette + [part for colour in own for part in colour])
    reduced.save(path, format="PNG", optimize=True)


def show(figure: Figure) -> None:
    """Display once and free the memory (a notebook would otherwise draw an open figure again)."""
    from IPython.display import display

    display(figure)
    plt.close(figure)
