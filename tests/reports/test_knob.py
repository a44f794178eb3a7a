"""Sliders: what the HTML promises to readers, keyboards and screen readers; the four that pages
use; a real browser where there is one."""

import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from uturn_lib import GaussianDenoiser, experiments
from uturn_lib.reports import knobs
from uturn_lib.reports.knob import LIMIT, TooLarge, knob

VOID = ("img", "input")


def picture(grey, size=(40, 30)):
    """Bytes of a PNG of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def three():
    labels = ['σ = 1: "low" & <dark>', "σ = 2", "σ = 3"]
    return knob([picture(g) for g in (0, 128, 255)], labels, "noise level, σ", "A grey square.", 1)


class Elements(HTMLParser):
    """All elements with their attributes; complains of tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def accessible(html):
    """What every slider must have; returns its elements."""
    page = Elements(html)
    (slider,) = page.all("input")
    images = page.all("img")
    assert slider["type"] == "range" and "tabindex" not in slider and "disabled" not in slider
    assert (slider["min"], slider["max"], slider["step"]) == ("0", str(len(images) - 1), "1")
    assert len(page.all("label")) == 1 and slider["aria-label"].strip()
    shown = [number for number, image in enumerate(images) if "hidden" not in image]
    assert shown == [int(slider["value"])]
    assert slider["aria-valuetext"] == images[shown[0]]["data-label"]
    assert all(image["alt"].endswith(image["data-label"]) for image in images)
    assert all("max-width:100%" in image["style"] for image in images)
    assert {image["src"].partition(",")[0] for image in images} == {"data:image/webp;base64"}
    text = re.sub(r'base64,[^"]*', "", html)
    assert not re.search(r"//|http|url\(|<script|<link|\bid=", text)
    assert len(html.encode()) <= LIMIT
    return page


def pixels(image):
    data = base64.b64decode(image["src"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_native_slider_with_words_for_all_it_shows(three):
    page = accessible(three._repr_html_())
    assert page.all("input")[0]["aria-label"] == "noise level, σ"
    assert page.all("img")[0]["data-label"] == 'σ = 1: "low" & <dark>'  # escaped, and read back
    for image, grey in zip(page.all("img"), (0, 128, 255), strict=True):
        assert pixels(image).shape == (30, 40, 3)
        assert np.abs(pixels(image).astype(int) - grey).max() <= 8  # 16 greys


def test_without_html_its_words_remain(three):
    assert "A grey square." in repr(three) and "3 pictures" in repr(three)


def test_thin_curves_keep_their_colours():
    """One dot each of four colours among 256 greys, in pictures of 32 colours."""
    greys = np.arange(256, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    dots = [(213, 94, 0), (0, 114, 178), (0, 158, 115), (86, 180, 233)]
    for place, colour in enumerate(dots):
        greys[8 * place : 8 * place + 3, 100:103] = colour
    buffer = io.BytesIO()
    Image.fromarray(greys).save(buffer, format="PNG")
    seen = pixels(accessible(knob([buffer.getvalue()] * 2, "ab", "n", "A.").html).all("img")[0])
    for place, colour in enumerate(dots):
        assert np.abs(seen[8 * place + 1, 101].astype(int) - colour).max() <= 4
    # Half a step of 16 greys, and the 4 levels to which Pillow rounds when it looks a colour up.
    assert np.abs(seen[60].astype(int) - greys[60]).max() <= 8.5 + 4


def test_figures_are_frames_and_the_same_input_is_the_same_html():
    def made():
        frames = [Figure(figsize=(2, 1), dpi=50) for _ in range(2)]
        for k, frame in enumerate(frames):
            frame.add_axes((0, 0, 1, 1)).plot([0, 1], [0, k])
        return knob(frames, ["a", "b"], "n", "A line.").html

    assert made() == made()
    first, second = (pixels(image) for image in accessible(made()).all("img"))
    assert first.shape == (50, 100, 3) and (first != second).any()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"frames": []}, ValueError, "frames: 0 given; a slider needs at least 2"),
        ({"labels": ["a"]}, ValueError, "labels: 1 given for 2 frames"),
        ({"labels": ["a", " "]}, ValueError, "labels is empty"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"alt": ""}, ValueError, "alt is empty"),
        ({"start": 2}, ValueError, "start = 2 is no frame; allowed is 0 to 1"),
        ({"colours": 1000}, ValueError, "colours = 1000; 4 to 256"),
        ({"frames": [picture(0), "no"]}, TypeError, r"frames\[1\] is a str"),
        ({"frames": [picture(0), b"no"]}, ValueError, r"frames\[1\] is not an image"),
        ({"frames": [picture(0), picture(0, (9, 9))]}, ValueError, "frames have different sizes"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"frames": [picture(0)] * 2, "labels": ["a", "b"], "name": "n", "alt": "a"} | change
    with pytest.raises(error, match=message):
        knob(**given)


def test_too_many_bytes_are_refused_with_what_to_reduce():
    noise = np.random.default_rng(0).integers(0, 256, (250, 250, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    with pytest.raises(TooLarge, match=r"kB are allowed: reduce the frames \(4\), their size"):
        knob([buffer.getvalue()] * 4, list("abcd"), "n", "Noise.", colours=256)


# ------------------------------------------------------------------------------- the four of pages


@pytest.fixture(scope="module")
def study():
    """The laptop's digits and frames around the exact score of their Gaussian: no network runs.

    Its outputs are noisier than a network's, so that its pictures have more bytes.
    """
    made = experiments.prepare("laptop", "cpu")
    gaussian = GaussianDenoiser.fit(made.train.images)
    profile = replace(made.profile, labels="never", ground_truths=20, steps=6)
    given = {"fingerprint": gaussian.fingerprint, "profile": profile}
    made = replace(made, make_denoiser=lambda: gaussian, **given)
    made.__dict__["gaussian"] = gaussian
    return made


@pytest.fixture(scope="module")
def _module_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _one_cache(_private_folders, _module_cache, monkeypatch):
    monkeypatch.setenv("UTURN_CACHE", _module_cache)  # shared by the tests of this file


MADE = {
    "u_turns": lambda study: knobs.u_turns(study),
    "way_back": lambda study: knobs.way_back(study),
    "score_field": lambda study: knobs.score_field(),
    "three_scores": lambda study: knobs.three_scores(study),
}


@pytest.mark.parametrize("name", MADE)
def test_the_sliders_of_pages(name, study):
    page = accessible(MADE[name](study).html)
    images = page.all("img")
    assert len({image["data-label"] for image in images}) == len(images)
    assert len({image["src"] for image in images}) == len(images)
    assert 0 < int(page.all("input")[0]["value"]) < len(images) - 1  # it starts where the story is


def test_u_turns_of_a_few_images_alone(study):
    few = experiments.profile_sweep(study, study.test.take(4), (0.5, 2.0, 8.0))
    page = accessible(knobs.u_turns(study, sweep=few).html)
    assert [image["data-label"].split(":")[0] for image in page.all("img")] == [
        "σᵤ = 0.5",
        "σᵤ = 2",
        "σᵤ = 8",
    ]


def test_the_way_back_needs_a_ground_truth(study):
    with pytest.raises(ValueError, match="index = 20 is no ground truth; 0 to 19"):
        knobs.way_back(study, index=20)


def test_retention_of_two_points_is_the_integral():
    """Two points at -1 and 1: x_u / its mean gives w = sigmoid(2 x / sigma^2), and r is an
    integral."""
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    levels, x = np.array([0.3, 1.0, 3.0]), torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    r, c = knobs.exact_retention(points, torch.tensor([0, 1]), levels, draws=4000)
    for sigma, measured in zip(levels, r, strict=True):
        density = torch.exp(-((x - 1) ** 2) / (2 * sigma**2)) / (sigma * (2 * torch.pi) ** 0.5)
        w = torch.sigmoid(2 * x / sigma**2)
        exact = float((density * (w**2 + (1 - w) ** 2)).sum() * (x[1] - x[0]))
        # 8,000 draws of a number in [1/2, 1]: standard error below 0.25 / sqrt(8000) = 0.003
        assert abs(measured - exact) < 0.012
    assert np.allclose(r, c)  # every point is a cloud of its own


def test_the_toy_forgets_points_before_clouds_and_its_limits_are_known():
    points, clouds = knobs.cloud_points()
    shares = clouds.bincount().double() / len(points)
    levels = np.geomspace(0.005, 300, 60)
    r, c = knobs.exact_retention(points, clouds, levels)
    assert r[0] > 0.98 and c[0] == pytest.approx(1)
    assert r[-1] == pytest.approx(1 / len(points), abs=1e-3)
    assert c[-1] == pytest.approx(float(shares.square().sum()), abs=1e-3)
    assert (c >= r - 1e-12).all()
    t_m, t_s = knobs.toy_times(points, clouds, levels, r, c)
    assert 0 < t_m < t_s < 10


# ----------------------------------------------------------------------------------- in a browser

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Slider</title>'
    '<meta name="viewport" content="width=device-width">{policy}<main>{slider}</main></html>'
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: the slider is not tried in a browser"
    )
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium: the slider is not tried in a browser")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield started
        started.close()


@pytest.mark.parametrize("width", [360, 1000])
def test_keyboard_mouse_and_touch_change_the_picture(browser, three, tmp_path, width):
    (tmp_path / "page.html").write_text(PAGE.format(policy="", slider=three.html), encoding="utf-8")
    page = browser.new_context(viewport={"width": width, "height": 600}, has_touch=True).new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto((tmp_path / "page.html").as_uri())
    slider, output = page.get_by_role("slider", name="noise level, σ"), page.locator("output")
    slider.wait_for()  # shown once its handlers can run
    assert not page.locator("small").is_visible()

    def seen():
        (alt,) = [
            image.get_attribute("alt") for image in page.locator("img").all() if image.is_visible()
        ]
        assert output.inner_text() == slider.get_attribute("aria-valuetext")
        assert alt == f"A grey square. {output.inner_text()}"
        return int(slider.input_value())

    assert seen() == 1
    page.keyboard.press("Tab")
    for key, place in {"ArrowRight": 2, "Home": 0, "ArrowUp": 1, "End": 2, "ArrowLeft": 1}.items():
        page.keyboard.press(key)
        assert seen() == place
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + box["width"] - 3, middle)
    assert seen() == 2
    page.touchscreen.tap(box["x"] + 3, middle)
    assert seen() == 0
    assert box["height"] >= 44  # pixels: a finger's width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        errors == [] and [url for url in requests if not url.startswith(("file:", "data:"))] == []
    )


def test_where_handlers_are_forbidden_the_first_picture_remains(browser, three, tmp_path):
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    (tmp_path / "page.html").write_text(
        PAGE.format(policy=policy, slider=three.html), encoding="utf-8"
    )
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert [image.is_visible() for image in page.locator("img").all()] == [False, True, False]
    assert not page.locator("input").is_visible() and page.locator("small").is_visible()


def test_pictures_of_many_bytes_are_thinned_out_but_never_the_start():
    """Noise in colour cannot be compressed: 32 such pictures are far beyond the limit."""
    noise = np.random.default_rng(0).random((32, 120, 120, 3))

    def draw(k):
        figure = Figure(figsize=(2, 2))
        figure.subplots().imshow(noise[k])
        return figure

    made = knobs.fitted(draw, [f"level {k}" for k in range(32)], "Level", "Noise.", 13)
    html = made._repr_html_()
    shown = re.findall(r'data-label="(level \d+)"', html)
    assert len(html.encode()) <= 300_000 and 3 <= len(shown) < 32
    assert "level 13" in shown and 'aria-valuetext="level 13"' in html
