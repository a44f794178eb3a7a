"""Sphinx extension: only what the pages need, and nothing from another host.

* MathJax is copied from the package that carries it.
* The theme brings 1.5 MB of icons; the dozen that are used become a small script.
* Pictures are loaded when they come into view.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from pathlib import Path

MATHJAX = (
    "startup.js",
    "core.js",
    "input/tex.js",
    "output/chtml.js",
    "output/chtml/fonts/tex.js",
    "a11y/assistive-mml.js",
)
USED = re.compile(r"\bfa-(?:solid|regular|brands) fa-([a-z0-9-]+)")
ICON = re.compile(
    r'(?:"([a-z0-9-]+)"|\b([a-z][a-z0-9]*)):\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]'
)
DRAW = """// The icons of the pages: each <i class="fa-solid fa-NAME"> becomes a drawing.
(() => {
  const icons = %s;
  const svg = "http://www.w3.org/2000/svg";
  for (const element of document.querySelectorAll("i[class*=fa-], span[class*=fa-]")) {
    const name = [...element.classList].find((word) => icons[word.replace(/^fa-/, "")]);
    if (!name) continue;
    const [width, height, path] = icons[name.replace(/^fa-/, "")];
    const icon = document.createElementNS(svg, "svg");
    for (const { name, value } of element.attributes) icon.setAttribute(name, value);
    icon.classList.add("svg-inline--fa");
    icon.setAttribute("viewBox", `0 0 ${width} ${height}`);
    icon.setAttribute("aria-hidden", "true");
    icon.appendChild(document.createElementNS(svg, "path")).setAttribute("d", path);
    icon.firstChild.setAttribute("fill", "currentColor");
    element.replaceWith(icon);
  }
})();
"""


def setup(app) -> dict:
    app.connect("html-page-context", improve)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def improve(app, pagename, templatename, context, doctree) -> None:
    """The HTML of every page: late pictures, signatures that a screen reader understands."""
    if "body" in context:
        context["body"] = signature_lines(load_pictures_late(context["body"]))


def load_pictures_late(body: str) -> str:
    """The first picture at once, the others when they come into view."""
    start, *pictures = body.split("<img ")
    late = [
        # Pictures within the page (sliders) are there already.
        picture if 'src="data:' in picture.partition(">")[0] else f'loading="lazy" {picture}'
        for picture in pictures[1:]
    ]
    return "<img ".join([start, *pictures[:1], *late])


def signature_lines(body: str) -> str:
    """Sphinx writes long signatures as lists of definitions without terms: lines instead."""

    def lines(match: re.Match) -> str:
        inner = match[1].replace("<dd>", "<span>").replace("</dd>", "</span>")
        return f'<span class="sig-lines">{inner}</span>'

    return re.sub(r"<dl>\s*((?:<dd>.*?</dd>\s*)+)</dl>", lines, body, flags=re.DOTALL)


def finish(app, exception) -> None:
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    copy_mathjax(static / "mathjax")
    draw_icons(Path(app.outdir), static / "scripts" / "fontawesome.js")
    name_the_arrows(Path(app.outdir))
    for path in static.rglob("*.map"):
        path.unlink()


def copy_mathjax(target: Path) -> None:
    """The parts of MathJax that conf.py loads, and its fonts."""
    with resources.as_file(resources.files("mathjax")) as package:
        source = package / "static" / "mathjax" / "es5"
        for name in MATHJAX:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
        fonts = "output/chtml/fonts/woff-v2"
        shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)


def draw_icons(html: Path, script: Path) -> None:
    """Replace the theme's script of all icons by one of those that the pages use."""
    used = {
        name
        for path in html.rglob("*.html")
        for name in USED.findall(path.read_text(encoding="utf-8"))
    }
    if not script.exists():  # older themes (Python 3.10) bring their icons otherwise
        return
    icons: dict[str, list] = {}
    for quoted, bare, width, height, path in ICON.findall(script.read_text(encoding="utf-8")):
        name = quoted or bare
        if name in used:
            icons.setdefault(name, [int(width), int(height), path])
    script.write_text(DRAW % json.dumps(icons), encoding="utf-8")


def name_the_arrows(html: Path) -> None:
    """The arrows that open a part of the table of contents are drawings: they need a name."""
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        named = text.replace(
            '<summary><span class="toctree-toggle"',
            '<summary aria-label="Pages below"><span class="toctree-toggle"',
        )
        if named != text:
            path.write_text(named, encoding="utf-8")
