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
ICON = re.compile(r'(?:"([a-z0-9-]+)"|\b([a-z][a-z0-9]*)):\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]')
DRAW = """// The icons of the pages, drawn where the theme asks for them.
(() => {
  const icons = %s;
  const draw = (element) => {
    const name = [...element.classList].find((word) => icons[word.replace(/^fa-/, "")]);
    if (!name || element.firstChild) return;
    const [width, height, path] = icons[name.replace(/^fa-/, "")];
    element.innerHTML = `<svg class="svg-inline--fa" aria-hidden="true" focusable="false" ` +
      `viewBox="0 0 ${width} ${height}"><path fill="currentColor" d="${path}"/></svg>`;
  };
  document.querySelectorAll("[class*='fa-']").forEach(draw);
})();
"""


def setup(app) -> dict:
    app.connect("html-page-context", load_pictures_late)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def load_pictures_late(app, pagename, templatename, context, doctree) -> None:
    """The first picture at once, the others when they come into view."""
    if "body" not in context:
        return
    first, *others = context["body"].split("<img ")
    late = [f'loading="lazy" {other}' for other in others[1:]]
    context["body"] = "<img ".join([first, *others[:1], *late])


def finish(app, exception) -> None:
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    copy_mathjax(static / "mathjax")
    draw_icons(Path(app.outdir), static / "scripts" / "fontawesome.js")
    for path in [*static.rglob("*.map"), *static.glob("vendor/fontawesome/webfonts/*")]:
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
    icons = {}
    for quoted, bare, width, height, path in ICON.findall(script.read_text(encoding="utf-8")):
        name = quoted or bare
        if name in used:
            icons.setdefault(name, [int(width), int(height), path])
    script.write_text(DRAW % json.dumps(icons), encoding="utf-8")
