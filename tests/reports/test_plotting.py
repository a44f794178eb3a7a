"""Marks of T_m and T_s: named wherever they are drawn, on the outer sides of the pair, and not
drawn where nothing was seen."""

import math

import pytest
import torch

from uturn_lib.measures.estimate import Estimate
from uturn_lib.reports import plotting

T_M, T_S = Estimate(1.8, 1.7, 1.9), Estimate(3.4, 3.0, 3.8)


@pytest.fixture
def axes():
    figure, axes = plotting.plt.subplots()
    axes.set(xscale="log", xlim=(0.1, 80))
    yield axes
    plotting.plt.close(figure)


@pytest.mark.parametrize(
    "limits, sides", [((0.1, 80), ("right", "left")), ((80, 0.1), ("left", "right"))]
)
def test_both_times_are_named_on_the_outer_sides(axes, limits, sides):
    axes.set_xlim(*limits)
    plotting.mark_times(axes, T_M, T_S)
    assert [text.get_text() for text in axes.texts] == ["$T_m$ = 1.8", "$T_s$ = 3.4"]
    assert tuple(text.get_horizontalalignment() for text in axes.texts) == sides
    assert [line.get_xdata()[0] for line in axes.lines] == [1.8, 3.4]


@pytest.mark.parametrize("unseen", [math.nan, math.inf, 0.0])
def test_what_was_not_seen_is_not_drawn(axes, unseen):
    plotting.mark_times(axes, T_M, Estimate(unseen, unseen, unseen))
    assert [text.get_text() for text in axes.texts] == ["$T_m$ = 1.8"] and len(axes.lines) == 1


def test_a_curve_is_named_in_its_colour(axes):
    plotting.label_curve(axes, 1, 0.5, "network", "network")
    (text,) = axes.texts
    assert text.get_color() == plotting.COLOURS["network"] and text.get_fontsize() >= 7


@pytest.mark.parametrize("count, shown", [(1, 1), (7, 7), (100, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_column_of_images_stands_beside_its_values(axes, count, shown, channels):
    axes.set_xscale("linear")
    plotting.image_column(axes, torch.zeros(count, channels, 4, 4))
    heights = [sorted(image.get_extent()[2:]) for image in axes.images]
    assert len(heights) == shown
    assert all(top - bottom <= count / 20 for bottom, top in heights)  # few images do not fill it
    middles = [sum(ends) / 2 for ends in heights]
    assert middles[0] == pytest.approx(0) and middles[-1] == pytest.approx(
        count - 1
    )  # the first and the last value
    assert all(
        above[0] > below[1] for below, above in zip(heights, heights[1:], strict=False)
    )  # no overlap
