"""Slides of the lessons, from the instructor notebooks: one HTML file each that needs no network.

A cell tagged "slide" begins a slide, cells tagged "more" go on with it; of a code cell the output
is shown. Cells for the lecturer become speaker notes (key S). reveal.js and MathJax are npm
packages; they are put into the file.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from ..support.places import ROOT
from .write import instructor_notebooks, tags

PACKAGES = ROOT / ".cache" / "slides" / "node_modules"
SCRIPTS = (
    "reveal.js/dist/reveal.js",
    "reveal.js/plugin/notes/notes.js",
    "mathjax/es5/tex-svg.js",  # glyphs are paths in it: no fonts beside it
)
STYLES = ("reveal.js/dist/reveal.css", "reveal.js/dist/theme/white.css")
STYLE = """
:root { --r-main-font: system-ui, sans-serif; --r-heading-font: system-ui, sans-serif;
  --r-main-font-size: 27px; --r-heading-text-transform: none; --r-heading1-size: 1.9em;
  --r-heading2-size: 1.4em; --r-heading3-size: 1.15em; }
.reveal .slides section { text-align: left; }
.reveal img { max-height: 440px; margin: 0 auto; display: block; }
.reveal .anchor-link { display: none; }
.reveal pre { font-size: 0.7em; }
"""
SETTINGS = """
MathJax = {tex: {inlineMath: [["$", "$"]]}, options: {enableMenu: false}};
"""
START = "Reveal.initialize({plugins: [RevealNotes], slideNumber: true, hash: true});"


def slides(folder: Path, packages: Path = PACKAGES) -> list[Path]:
    """Write the slides of every lesson into ``folder``; returns the files.

    Raises ``FileNotFoundError`` where ``packages`` lacks reveal.js or MathJax.
    """
    import nbformat

    for name in (*SCRIPTS, *STYLES):
        if not (packages / name).is_file():
            raise FileNotFoundError(f"{packages} has no {name}: make slides fetches it with npm")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source in instructor_notebooks():
        path = folder / f"{source.stem}.html"
        path.write_text(page(nbformat.read(source, as_version=4), packages), encoding="utf-8")
        written.append(path)
    return written


def page(notebook: Any, packages: Path) -> str:
    """The HTML page of an instructor notebook, with scripts and styles in it."""
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    styles = [_read(packages, name) for name in STYLES]
    scripts = [SETTINGS, *(_read(packages, name) for name in SCRIPTS), START]
    sections = "\n".join(f"<section>\n{body}\n</section>" for body in sections_of(notebook))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<style>{"".join(styles)}{STYLE}</style></head>
<body><div class="reveal"><div class="slides">
{sections}
</div></div>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body></html>
"""


def sections_of(notebook: Any) -> list[str]:
    """The HTML of each slide."""
    bodies: list[str] = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if "slide" in tags(cell):
            bodies.append(shown(cell, caption(after)))
        elif bodies and "more" in tags(cell):
            bodies[-1] += shown(cell, caption(after))
        elif bodies and "instructor" in tags(cell):
            bodies[-1] += f'<aside class="notes">{shown(cell)}</aside>'
    return bodies


def caption(cell: Any) -> str:
    """The caption in the text cell below a picture, as its alternative text."""
    found = re.match(r"\*\*Picture\.\*\*(.*?)(?:\n\n|\Z)", cell.source if cell else "", re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def shown(cell: Any, alternative: str = "") -> str:
    """A text cell, or the outputs of a code cell, as HTML."""
    from nbconvert.filters import markdown2html

    if cell.cell_type == "markdown":
        return markdown2html(cell.source)
    parts = []
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            code = data["image/png"].strip()
            parts.append(f'<img alt="{escape(alternative)}" src="data:image/png;base64,{code}">')
        elif text := output.get("text") or data.get("text/plain"):
            parts.append(f"<pre>{escape(text)}</pre>")
    return "".join(parts)


def _read(packages: Path, name: str) -> str:
    """A package's file, without imports of other files, safe inside a page."""
    text = (packages / name).read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("@import")]
    return "\n".join(kept).replace("</script", "<\\/script")
