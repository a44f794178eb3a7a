"""The book in a real browser: `make test-book`. Not part of `make test`: pytest does not collect
this name by itself.

Every page is opened once from the disk, as a reader does who has no network. What is seen on it is
noted, and the tests look at the notes."""

import gzip
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest

from uturn_lib.support.places import ROOT

HTML = Path(os.environ.get("BOOK_HTML") or ROOT / "book" / "_build" / "html")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",  # noqa: E501
         "--disable-component-update", "--disable-sync"]  # fmt: skip
TELEPHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
HEAVIEST = 1.5e6  # bytes of a page with all that it loads, text compressed as web servers do
COMPRESSED = (".html", ".js", ".css", ".svg")
TEX = r"\$[^$\n]{1,200}\$|\\\(|\\\[|\\(?:frac|sigma|mathbb|begin|varepsilon|sum|hat|sqrt|lambda|mathrm)\b"  # noqa: E501

# What is noted on a page. Text of code and of set equations is left out of the search for raw TeX.
LOOK = """async (tex) => {
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  const article = document.querySelector("article") ?? document.body;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  const raw = [];
  for (let node; (node = walker.nextNode());)
    if (!node.parentElement.closest("pre, code, script, style, mjx-container, svg, .sig") &&
        RegExp(tex).test(node.data))
      raw.push(node.data.trim().slice(0, 80));
  const pictures = all("article img");
  for (const picture of pictures) picture.loading = "eager";
  await Promise.all(pictures.map((p) => p.decode().catch(() => null)));
  return {
    title: document.title,
    raw,
    equations: all("article .math").length,
    unset: all("article .math").filter((e) => !e.querySelector("mjx-container")).length,
    wrong: all("mjx-merror").map((e) => e.textContent),
    broken: pictures.filter((p) => !p.naturalWidth).map((p) => p.src.slice(0, 120)),
    silent: pictures.filter((p) => !p.alt.trim()).map((p) => p.src.slice(0, 120)),
    pictures: pictures.map((p) => p.src),
    ids: all("[id]").map((e) => e.id),
    links: all("a[href]").map((a) => a.href),
    sliders: all("input[type=range]").length + all("iframe[srcdoc]").length,
  };
}"""


def html_pages():
    return sorted(
        path for path in HTML.rglob("*.html") if not path.relative_to(HTML).parts[0].startswith("_")
    )


def name(path):
    return path.relative_to(HTML).as_posix()


@pytest.fixture(scope="session")
def browser():
    sync = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright here: make test-book installs it"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(
            f"no Chromium on this machine (looked for {', '.join(BROWSERS)}): the book is not opened"  # noqa: E501
        )
    if not html_pages():
        pytest.skip("the book is not built: make book")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def notes(browser):
    """What is seen on every page, by its name; ``requests`` and ``errors`` are what the browser
    reports meanwhile."""
    seen = {}
    page = browser.new_page(viewport=TELEPHONE)
    page.set_default_timeout(120_000)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in html_pages():
        requests.clear(), errors.clear()
        page.goto(path.as_uri(), wait_until="load")
        found = page.evaluate(LOOK, TEX)
        found["width"] = page.evaluate("document.documentElement.scrollWidth")
        seen[name(path)] = found | {"requests": list(requests), "errors": list(errors)}
    page.close()
    return seen


def test_nothing_is_asked_of_another_host(notes):
    for page, seen in notes.items():
        assert [
            url for url in seen["requests"] if not url.startswith(("file:", "data:", "blob:"))
        ] == [], page


def test_no_error_in_the_console(notes):
    assert {page: seen["errors"] for page, seen in notes.items() if seen["errors"]} == {}


def test_every_equation_is_set(notes):
    assert {page: seen["raw"] for page, seen in notes.items() if seen["raw"]} == {}
    assert {
        page: seen["wrong"] for page, seen in notes.items() if seen["wrong"] or seen["unset"]
    } == {}
    for page in (
        "index",
        "docs/glossary",
        "notebooks/fig09_multiclass_uturns",
        "api/uturn_lib.methods",
    ):
        assert notes[f"{page}.html"]["equations"] > 0, page


def test_every_picture_is_there_and_described(notes):
    assert {page: seen["broken"] for page, seen in notes.items() if seen["broken"]} == {}
    assert {page: seen["silent"] for page, seen in notes.items() if seen["silent"]} == {}
    assert sum(len(seen["pictures"]) for seen in notes.values()) > 60


def test_every_link_leads_somewhere(notes):
    lost = []
    for page, seen in notes.items():
        for link in seen["links"]:
            if not link.startswith("file:"):
                continue
            address, anchor = urldefrag(link)
            path = Path(unquote(urlparse(address).path))
            if not path.is_file():
                lost.append((page, link))
            elif (
                anchor
                and path.suffix == ".html"
                and unquote(anchor) not in notes[name(path)]["ids"]
            ):
                lost.append((page, link))
    assert lost == []


def test_no_page_is_wider_than_a_telephone(notes):
    assert {
        page: seen["width"] for page, seen in notes.items() if seen["width"] > TELEPHONE["width"]
    } == {}


def weight(page, seen, compressed=True):
    """Bytes of a page and of all that it loads, each file once."""
    files = {
        unquote(urlparse(url).path)
        for url in [*seen["requests"], *seen["pictures"]]
        if url.startswith("file:")
    }
    total = 0
    for path in map(Path, files):
        data = path.read_bytes()
        total += len(gzip.compress(data)) if compressed and path.suffix in COMPRESSED else len(data)
    return total


def test_pages_are_light(notes):
    weights = {page: weight(page, seen) for page, seen in notes.items()}
    heaviest = max(weights, key=weights.get)
    plain = {page: weight(page, seen, compressed=False) for page, seen in notes.items()}
    print(
        f"\nheaviest page: {heaviest}, {weights[heaviest] / 1e6:.2f} MB ({max(plain.values()) / 1e6:.2f} MB uncompressed)"  # noqa: E501
    )
    assert weights[heaviest] <= HEAVIEST


def test_search_finds_speciation(browser):
    page = browser.new_page(viewport=DESK)
    page.goto(f"{(HTML / 'search.html').as_uri()}?q=speciation")
    page.wait_for_selector(".search-summary:has-text('found')", timeout=60_000)
    page.wait_for_timeout(1000)  # results are listed one by one
    found = page.eval_on_selector_all(
        "#search-results li a", "links => links.map(link => link.href)"
    )
    page.close()
    assert any("glossary" in link for link in found) and any("fig09" in link for link in found)


def lightness(colour):
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_follow_the_readers_colours(browser, scheme):
    page = browser.new_page(viewport=DESK, color_scheme=scheme)
    page.goto((HTML / "index.html").as_uri())
    ground, text = (
        page.evaluate(f"getComputedStyle(document.body).{key}")
        for key in ("backgroundColor", "color")
    )
    page.close()
    assert (lightness(ground) < lightness(text)) == (scheme == "dark")


SAMPLED = ("index", "README", "notebooks/fig09_multiclass_uturns", "notebooks/companions/p3b_solvers", "docs/glossary", "docs/results",  # noqa: E501
           "side_by_side", "api/index", "api/uturn_lib.methods", "search")  # fmt: skip


def audited():
    """One page of each kind, and of the course what there is."""
    more = [name(path).removesuffix(".html") for path in (HTML / "notebooks").glob("course/*.html")]
    return [*SAMPLED, *more]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport=DESK, color_scheme=scheme)
    page.set_default_timeout(120_000)
    serious = {}
    for shown in audited():
        page.goto((HTML / f"{shown}.html").as_uri())
        page.evaluate("window.MathJax?.startup?.promise")
        for finding in axe.run(page).response["violations"]:
            if finding["impact"] in ("serious", "critical"):
                where = [node["html"][:160] for node in finding["nodes"]]
                serious.setdefault(finding["id"], []).append((shown, len(where), where[:2]))
    page.close()
    assert serious == {}


def sliders(page):
    """All sliders of a page, those in frames included."""
    return [
        slider for frame in page.frames for slider in frame.query_selector_all("input[type=range]")
    ]


def picture_of(slider):
    """A screenshot of what stands around a slider."""
    return (
        slider.evaluate_handle(
            "s => s.closest('figure, form, .knob') ?? s.parentElement.parentElement"
        )
        .as_element()
        .screenshot()
    )


def test_sliders_move_by_key_and_by_mouse_and_change_the_picture(browser, notes):
    pages = [page for page, seen in notes.items() if seen["sliders"]]
    if not pages:
        pytest.skip("no page has a slider yet")
    page = browser.new_page(viewport=DESK)
    for shown in pages:
        page.goto((HTML / shown).as_uri())
        for slider in sliders(page):
            assert slider.evaluate(
                "s => s.ariaLabel || s.labels.length > 0 || s.getAttribute('aria-labelledby')"
            ), shown
            slider.scroll_into_view_if_needed()
            slider.focus()
            slider.press("Home")
            first = slider.input_value(), picture_of(slider)
            slider.press("ArrowRight")
            second = slider.input_value(), picture_of(slider)
            box = slider.bounding_box()
            page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
            third = slider.input_value(), picture_of(slider)
            assert len({first[0], second[0], third[0]}) == 3, shown
            assert first[1] != second[1] and second[1] != third[1], shown
    page.close()
