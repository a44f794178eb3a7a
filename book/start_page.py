"""Writes ``start.ipynb``, the page that ``make lab`` opens: links to all notebooks, by part.

It is made anew each time from the book's table of contents, and git ignores it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))

import contents  # noqa: E402
from staging import source  # noqa: E402

HEAD = """# U-Turn diffusion

Add noise of level $\\sigma_u$ to a real image, then let a trained diffusion model remove it again.
When does the image come back, and when only its class? Open a page and choose *Run, Run All Cells*.

New here? The method in 30 lines, then Figures 1, 9, 13 and 14: a lecture of one hour. Your answer
to an exercise is checked in the cell below it; its solution is folded.
"""


def title(path: Path) -> str:
    """Heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return source(cells[0]).partition("\n")[0].lstrip("# ")


def text(repository: Path) -> str:
    """Markdown of the start page: every notebook of the book, part by part."""
    blocks = [HEAD]
    for part, pages in contents.pages(repository, repository / "book" / "pages").items():
        notebooks = [page for page in pages if page.endswith(".ipynb")]
        links = [f"* [{title(repository / page)}]({page})" for page in notebooks]
        if links:
            blocks.append(f"## {part}\n\n" + "\n".join(links))
    return "\n\n".join(blocks) + "\n"


def notebook(markdown: str) -> dict:
    """A notebook of one Markdown cell."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cell = {"cell_type": "markdown", "id": "start", "metadata": {}, "source": markdown}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    page = json.dumps(notebook(text(ROOT)), indent=1, ensure_ascii=False)
    (ROOT / "start.ipynb").write_text(page + "\n", encoding="utf-8")
