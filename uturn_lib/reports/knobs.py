"""The four sliders of pages and lessons: each is one call that returns a ``Knob``.

==============  ==================================================================================
u_turns         ten ground truths and their outputs at every sigma_u, with r and c
way_back        one reverse trajectory: the state, the denoiser's guess, and what it resembles
score_field     an exact score in the plane: it points to samples, to clouds, to the mean
three_scores    the same images given back by the network and by two exact scores
==============  ==================================================================================

Everything comes from cached sweeps and closed forms. A warm call takes seconds, most of it drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .. import experiments
from ..denoisers import GaussianDenoiser, GaussianMixtureDenoiser
from ..empirical import EmpiricalDenoiser
from ..experiments import Study, Sweep
from ..measures import retention
from ..noise import proportional_steps
from ..seeding import NoiseStream, sample_seeds
from ..support import checks
from ..uturn import forward_path, posterior_draws
from . import plotting
from .knob import Knob, TooLarge, knob

WIDTH = 4.4  # inches: letters of 10 points can be read on a phone
LEFT, RIGHT, BOTTOM = 0.55, 0.07, 0.47  # inches around the axes
DOTS = (130, 100, 75)  # per inch; fewer where noise or photographs need too many bytes
TURN = "Noise level of the turn, σᵤ"
TEXTS = plotting.COLOURS | {"identity_retention": "#0b6fa4", "gaussian": "#9a6a00"}  # readable


# ------------------------------------------------------------------------- what all of them share


def style() -> AbstractContextManager:
    """The same letters and lines whatever the page has set: a frame depends on its input only."""
    own = {
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
    }
    return plt.style.context(["default", own])


def canvas(*heights: float, top: float = 0.3, gap: float = 0.2) -> tuple[Figure, list[Axes]]:
    """Axes of ``heights`` inches below each other, at fixed places.

    From frame to frame nothing moves but what the slider changes.
    """
    total = top + sum(heights) + gap * (len(heights) - 1) + BOTTOM
    figure, axes, place = Figure(figsize=(WIDTH, total)), [], total - top
    for height in heights:
        place -= height
        width = (WIDTH - LEFT - RIGHT) / WIDTH
        axes.append(figure.add_axes((LEFT / WIDTH, place / total, width, height / total)))
        place -= gap
    return figure, axes


def fitted(
    draw: Callable[[int], Figure], labels: Sequence[str], name: str, alt: str, start: int
) -> Knob:
    """The knob of ``draw(k)`` for every label, as sharp as its limit of bytes allows.

    Photographs need more bytes than digits: where the least sharp pictures are still too large,
    every second one is left out, but never the ``start``.
    """
    with style():
        frames = [draw(k) for k in range(len(labels))]
        for dots in DOTS:
            for frame in frames:
                frame.set_dpi(dots)
            try:
                return knob(frames, labels, name, alt, start)
            except TooLarge as error:
                failed = error
    kept = range(start % 2, len(labels), 2)
    if len(kept) < 3:
        raise failed
    return fitted(lambda k: draw(kept[k]), [labels[k] for k in kept], name, alt, start // 2)


def visible(x: Tensor, sigma: float) -> Tensor:
    """A noisy state scaled to be seen, in five greys: noise is most of a picture's bytes."""
    return (2 * x / max(1.0, sigma / 2)).round().clamp(-2, 2) / 2


def level_axis(axes: Axes, low: float, high: float, label: str) -> None:
    """A logarithmic axis of noise levels with plain numbers on it."""
    plotting.sigma_axis(axes, label)
    axes.set_xlim(low, high)  # low above high: the axis runs down
    ticks = [t for t in (0.03, 0.1, 0.3, 1, 3, 10, 30) if min(low, high) <= t <= max(low, high)]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def mark_level(axes: Axes, sigma: float, values: Mapping[str, float]) -> None:
    """Where the slider stands: a line at ``sigma``, and a dot on the curve of each quantity.

    The line ends below the names that stand at the top.
    """
    axes.axvline(sigma, ymax=0.84, color="black", linewidth=1.2, zorder=4)
    for quantity, value in values.items():
        (dot,) = axes.plot(sigma, value, "o", color=plotting.COLOURS[quantity], zorder=5)
        dot.set(markersize=8, markeredgecolor="black")


def name_curve(
    axes: Axes, x: float, y: float, text: str, quantity: str, side: str = "left"
) -> None:
    """The name of a curve beside it."""
    plotting.label_curve(axes, x, y, text, quantity, color=TEXTS[quantity], fontsize=9.5, ha=side)


def name_frames(axes: Axes, names: Mapping[str, str]) -> None:
    """What coloured frames around images mean (quantity -> words), in a line above the images."""
    for place, (quantity, text) in zip((0.0, 0.36, 0.7), names.items(), strict=False):
        axes.text(place, 1.03, "■", color=plotting.COLOURS[quantity], transform=axes.transAxes)
        axes.text(place + 0.045, 1.03, text, transform=axes.transAxes)


# --------------------------------------------------------------- 1 what a U-Turn keeps, at sigma_u


def u_turns(study: Study, seed: int = 0, sweep: Sweep | None = None, shown: int = 10) -> Knob:
    """Ten ground truths, their noisy states and outputs at every sigma_u; r and c below.

    By default from the multi-class sweep of Figure 9, with T_m and T_s. ``sweep``: another one,
    such as that of ``shown`` images alone: r and c are then theirs, and T_m and T_s, which take
    many images, are not marked. Raises ``ValueError`` for a ``shown`` that is no number of images.
    """
    times = experiments.transitions(study, seed, sweep)
    gate = None if sweep else experiments.class_gate(study, seed)
    sigmas, r, c = times.sweep.sigmas, times.identity_curve, times.class_curve
    x0 = times.sweep.x0[: checks.positive_int("shown", shown)]
    kept = plotting.retention_frames(
        times.identity[:, : len(x0)], times.same_class[:, : len(x0)], 0
    )

    def draw(k: int) -> Figure:
        figure, (images, curves) = canvas(1.12, 1.3)
        x_u = visible(forward_path(x0, [sigmas[k]], seed)[0].float(), sigmas[k])
        rows = torch.stack([x0, x_u, times.sweep.y0[k, : len(x0)]])
        plotting.image_grid(images, rows, ["$x_0$", "$x_u$", "$y_0$"])
        none: list[str | None] = [None] * len(x0)
        plotting.frame_images(images, [none, none, [row[k] for row in kept]], *x0.shape[-2:])
        named = {"identity_retention": "image kept", "class_retention": "class kept"}
        name_frames(images, named | {"data": "other class"})
        for curve, quantity in ((r, "identity_retention"), (c, "class_retention")):
            plotting.curve(curves, sigmas, curve, quantity, "", marker="")
        curves.axhline(1 / len(study.test.class_names), color="0.6", linestyle=":")
        curves.set(ylim=(-0.05, 1.2), yticks=(0, 0.5, 1), ylabel="kept")
        level_axis(curves, 0.09, 90, r"$\sigma_u$")
        name_curve(curves, 0.1, 0.8, "image, $r$", "identity_retention")
        name_curve(curves, 85, 0.3, "class, $c$", "class_retention", "right")
        if gate:
            plotting.mark_times(curves, times.t_m, gate.seen(times.t_s))
        mark_level(
            curves, sigmas[k], {"identity_retention": r[k].value, "class_retention": c[k].value}
        )
        return figure

    labels = [
        f"σᵤ = {s:g}: r = {a.value:.2f} of the outputs are nearest to their own image, "
        f"c = {b.value:.2f} keep the class."
        for s, a, b in zip(sigmas, r, c, strict=True)
    ]
    alt = (
        f"Three rows of {len(x0)} images: ground truths, noisy states, outputs of U-Turns. "
        "Below, two falling curves: first the image is lost, then the class."
    )
    apart = [b.value - a.value for a, b in zip(r, c, strict=True)]
    return fitted(draw, labels, TURN, alt, int(np.argmax(apart)))


# ------------------------------------------------------------------------------ 2 the way back


def way_back(study: Study, index: int = 1, sigma_u: float = 8.0, seed: int = 0) -> Knob:
    """One U-Turn of a held-out image, step by step on its way back.

    The state, the network's guess D of what is in it, and how far D is from the ground truth and
    from the output (root mean square over pixels). ``index``: of the image among the ground truths.
    """
    starts, one = study.ground_truths, slice(index, index + 1)
    x0 = starts.images[one]
    if len(x0) != 1:
        raise ValueError(f"index = {index} is no ground truth; 0 to {len(starts) - 1} are allowed")
    labels = starts.labels[one] if study.profile.labels == "always" else None
    x_u = forward_path(x0, [sigma_u], seed)[0].float()
    steps = 2 * proportional_steps(sigma_u, study.profile.steps)
    sigmas, states, guesses = experiments.reverse_trajectory(
        study, x_u, sigma_u, steps, seed, labels
    )
    levels, y0 = sigmas[:-1], states[-1]  # at 0 state and guess are the output
    far = {
        "published": (guesses[:-1] - x0).flatten(1).square().mean(1).sqrt().tolist(),
        "u_turn": (guesses[:-1] - y0).flatten(1).square().mean(1).sqrt().tolist(),
    }

    def draw(k: int) -> Figure:
        figure, (images, curves) = canvas(0.92, 1.35, gap=0.2)
        row = torch.stack([x0[0], visible(states[k, 0], levels[k]), guesses[k, 0], y0[0]])
        titles = ["$x_0$", "state $x$", r"guess $D(x, \sigma)$", "output $y_0$"]
        plotting.image_grid(images, row[None], [], titles, gap=8)
        for quantity, distances in far.items():
            curves.plot(levels, distances, color=plotting.COLOURS[quantity], linewidth=1.6)
        top = 1.15 * max(map(max, far.values()))
        curves.set(ylim=(-0.03, top), ylabel="distance of $D$")
        level_axis(curves, 1.15 * levels[0], 0.9 * levels[-1], r"$\sigma$, on the way down")
        for quantity, text in (("published", "from $x_0$"), ("u_turn", "from $y_0$")):
            height = far[quantity][-1] + 0.06 * top
            name_curve(curves, levels[-1], height, text, quantity, "right")
        mark_level(curves, levels[k], {name: values[k] for name, values in far.items()})
        return figure

    labels_of = [
        f"Step {k} of {steps}, σ = {s:.2g}: the guess is {far['published'][k]:.2f} from the ground "
        f"truth and {far['u_turn'][k]:.2f} from the output."
        for k, s in enumerate(levels)
    ]
    alt = (
        "Four images: ground truth, state, the network's guess, output. Below, the guess comes to "
        "the output as the noise falls."
    )
    half = far["u_turn"][0] / 2
    turning = next(k for k, value in enumerate(far["u_turn"]) if value <= half)
    return fitted(draw, labels_of, "Steps of the way back", alt, turning)


# ------------------------------------------------------------------------ 3 a score in the plane


def cloud_points(count: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``count`` samples (N, 2) of the three clouds of Figure 1, and their clouds (N,)."""
    spreads = [[[0.3, 0.08], [0.08, 0.12]], [[0.15, -0.05], [-0.05, 0.3]], [[0.25, 0], [0, 0.1]]]
    mixture = GaussianMixtureDenoiser(
        weights=torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64),
        means=torch.tensor([[-2.0, -0.8], [2.0, -0.8], [0.3, 1.9]], dtype=torch.float64),
        covariances=torch.tensor(spreads, dtype=torch.float64),
    )
    return mixture.sample(sample_seeds(seed, range(count), "start"))


def exact_retention(
    points: Tensor, clouds: Tensor, levels: np.ndarray, draws: int = 200, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """r and c (S,) of U-Turns with the exact score of ``points`` (N, 2) in ``clouds`` (N,).

    Given x_u the output is point i with weight w_i, and so is the ground truth: they agree with
    probability ``sum_i w_i^2``, and their clouds with ``sum_k (sum_{i in k} w_i)^2``. The mean over
    x_u is one over ``draws`` noises of each point, the same at all levels.
    """
    memory = EmpiricalDenoiser(points)
    belongs = torch.nn.functional.one_hot(clouds).to(points)
    noise = NoiseStream(sample_seeds(seed, range(draws * len(points)), "forward"), (2,)).normal()
    starts = points.repeat(draws, 1)
    r, c = [], []
    for sigma in levels:
        weights = memory.weights(starts + float(sigma) * noise, float(sigma))
        r.append(float(retention.agreement(weights).mean()))
        c.append(float(retention.agreement(weights @ belongs).mean()))
    return np.array(r), np.array(c)


def toy_times(
    points: Tensor, clouds: Tensor, levels: np.ndarray, r: np.ndarray, c: np.ndarray
) -> tuple[float, float]:
    """T_m and T_s of :func:`exact_retention`: r crosses 1/2, c the midpoint of 1 and chance."""
    chance = float((clouds.bincount().double() / len(points)).square().sum())
    return (
        retention.crossing_between(levels.tolist(), r.tolist(), 0.5),
        retention.crossing_between(levels.tolist(), c.tolist(), (1 + chance) / 2),
    )


def score_field(count: int = 24, seed: int = 0) -> Knob:
    """The exact score of ``count`` points in three clouds, at rising noise; r and c below.

    Below T_m the arrows lead to single points, up to T_s to clouds, beyond to the mean of all.
    """
    points, clouds = cloud_points(count, seed)
    levels, every = np.geomspace(0.03, 10, 61), 6
    r, c = exact_retention(points, clouds, levels, seed=seed)
    t_m, t_s = toy_times(points, clouds, levels, r, c)
    memory = EmpiricalDenoiser(points)
    span = torch.linspace(-4, 4, 15).double(), torch.linspace(-3, 3.5, 12).double()
    places = torch.cartesian_prod(*span)

    def draw(k: int) -> Figure:
        sigma = float(levels[every * k])
        figure, (plane, curves) = canvas(2.7, 1.1, top=0.1, gap=0.25)
        way = memory(places, sigma) - places  # sigma^2 times the score
        way = way / way.norm(dim=1, keepdim=True).clamp(min=0.25)  # short only near D
        plane.quiver(*places.T, *way.T, color="0.55", scale=18, width=0.006, pivot="mid")
        for cloud, colour in enumerate(("#0072B2", "#D55E00", "#009E73")):
            members = points[clouds == cloud].T
            plane.plot(*members, "o", color=colour, markersize=6, markeredgecolor="white")
        plane.set(xlim=(-4.3, 4.3), ylim=(-3.3, 3.9), xticks=[], yticks=[])
        plane.grid(False)
        plane.spines[:].set_visible(False)
        for curve, quantity in ((r, "identity_retention"), (c, "class_retention")):
            curves.plot(levels, curve, color=plotting.COLOURS[quantity], linewidth=1.6)
            t, name = (t_m, "$T_m$") if quantity == "identity_retention" else (t_s, "$T_s$")
            curves.axvline(t, color=plotting.COLOURS[quantity], linestyle="--", linewidth=1.2)
            side = "right" if quantity == "identity_retention" else "left"
            place = t / 1.06 if side == "right" else 1.06 * t
            name_curve(curves, place, 1.08, f"{name} = {t:.2g}", quantity, side)
        curves.set(ylim=(-0.05, 1.25), yticks=(0, 0.5, 1), ylabel="kept")
        level_axis(curves, 0.028, 11, r"$\sigma$")
        name_curve(curves, 0.03, 0.7, "point, $r$", "identity_retention")
        name_curve(curves, 10, 0.5, "cloud, $c$", "class_retention", "right")
        mark_level(
            curves,
            sigma,
            {"identity_retention": r[every * k], "class_retention": c[every * k]},
        )
        return figure

    frames = levels[::every]
    goals = ["single points" if s < t_m else "clouds" if s < t_s else "the mean" for s in frames]
    labels = [
        f"σ = {s:.2g}: the score points to {goal}; r = {a:.2f} return to their point, "
        f"c = {b:.2f} to their cloud."
        for s, goal, a, b in zip(frames, goals, r[::every], c[::every], strict=True)
    ]
    alt = (
        f"A field of arrows over {count} points in three clouds of a plane. Below, two falling "
        "curves: first the point is lost, then the cloud."
    )
    middle = int(np.abs(np.log(frames / math.sqrt(t_m * t_s))).argmin())
    return fitted(draw, labels, "Noise level, σ", alt, middle)


# --------------------------------------------------------------------------------- 4 three scores


def three_scores(study: Study, seed: int = 0, shown: int = 5) -> Knob:
    """The same noisy images given back by the network, the empirical and the Gaussian score.

    ``shown`` training images on the left, as many held-out ones on the right; below, r of each
    score (solid: training, dashed: held out), as in Figure 13.
    """
    levels, found = study.profile.repeat_sigmas, experiments.identity_at_all_levels(study, seed)
    kept = {key: rows.kept for key, rows in found.items()}
    sweeps = {
        "training": experiments.training_sweep(study, seed),
        "held out": experiments.profile_sweep(study, seed=seed),
    }
    x0 = {starts: sweep.x0[:shown] for starts, sweep in sweeps.items()}
    exact: dict[str, EmpiricalDenoiser | GaussianDenoiser] = {
        "empirical": EmpiricalDenoiser(study.train.images),
        "gaussian": study.gaussian,
    }
    kinds = ("network", "empirical", "gaussian")
    r = {key: rows.double().mean(1).tolist() for key, rows in kept.items()}

    def outputs(kind: str, starts: str, sigma: float) -> Tensor:
        if kind in exact:
            return posterior_draws(exact[kind], x0[starts], sigma, seed)
        sweep = sweeps[starts]
        return sweep.y0[sweep.sigmas.index(sigma), :shown]

    def draw(k: int) -> Figure:
        figure, (images, curves) = canvas(1.52, 1.25, top=0.5)
        rows = [torch.cat(list(x0.values()))]
        rows += [torch.cat([outputs(kind, s, levels[k]) for s in x0]) for kind in kinds]
        plotting.image_grid(images, torch.stack(rows), ["$x_0$", "net", "emp.", "Gauss"])
        own = plotting.COLOURS["identity_retention"]
        frames: list[list[str | None]] = [[None for _ in rows[0]]]
        for kind in kinds:
            rest = torch.cat([kept[kind, s][k, :shown] for s in x0])
            frames.append([own if kept_it else None for kept_it in rest.tolist()])
        plotting.frame_images(images, frames, *rows[0].shape[-2:])
        images.text(0.25, 1.12, "training", transform=images.transAxes, ha="center")
        images.text(0.75, 1.12, "held out", transform=images.transAxes, ha="center")
        name_frames(images, {"identity_retention": "own image kept"})
        for (kind, starts), curve in r.items():
            line = "-" if starts == "training" else "--"
            curves.plot(levels, curve, line, color=plotting.COLOURS[kind], linewidth=1.6)
        curves.set(ylim=(-0.05, 1.1), yticks=(0, 0.5, 1), ylabel="$r$")
        level_axis(curves, 0.9 * levels[0], 1.05 * levels[-1], r"$\sigma_u$")
        for kind, height in {"empirical": 0.95, "network": 0.77, "gaussian": 0.59}.items():
            name_curve(curves, levels[-1], height, kind.capitalize(), kind, "right")
        name_curve(curves, levels[-1], 0.4, "dashed: held out", "exact", "right")
        mark_level(curves, levels[k], {kind: r[kind, "training"][k] for kind in kinds})
        return figure

    labels = [
        f"σᵤ = {s:g}: of the training images the network returns {r['network', 'training'][k]:.2f}"
        f", the empirical score {r['empirical', 'training'][k]:.2f}, the Gaussian "
        f"{r['gaussian', 'training'][k]:.2f}."
        for k, s in enumerate(levels)
    ]
    alt = (
        f"Four rows of images: {shown} training and {shown} held-out ground truths, and what the "
        "network, the empirical and the Gaussian score return. Below, the share returned."
    )
    lead = [
        a - b for a, b in zip(r["empirical", "training"], r["network", "training"], strict=True)
    ]
    return fitted(draw, labels, TURN, alt, int(np.argmax(lead)))
