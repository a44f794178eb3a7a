"""Builds the book: ``python book/build.py`` writes ``book/_build/html``. See docs/reproducing.md.

The pages are gathered in ``book/_build/source``, where Sphinx reads them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import contents  # noqa: E402
import generated  # noqa: E402
import staging  # noqa: E402


def gather(target: Path) -> None:
    """Write all pages of the book to the folder ``target``, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    own = own_pages()
    for name, text in own.items():
        write(target / name, text)
    parts = contents.pages(ROOT, target)
    names = {name for pages in parts.values() for name in pages} | set(own)
    stage = staging.Staging(ROOT, target, names)
    for name in sorted(names):
        if name in own:
            write(target / name, stage.markdown(own[name], ROOT / name))
        else:
            stage.stage(name)
    trees = toctrees(parts, stage.finish())
    write(
        target / "index.md", (target / "index.md").read_text().replace("<!-- contents -->", trees)
    )


def own_pages() -> dict[str, str]:
    """Pages that exist only in the book, by name."""
    found = {path.name: path.read_text(encoding="utf-8") for path in (HERE / "pages").glob("*.md")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (bibtex,) = re.findall(r"```bibtex\n.*?```", readme, re.DOTALL)
    found["cite.md"] = found["cite.md"].replace("<!-- bibtex -->", bibtex)
    for name, (title, pattern) in generated.ROWS.items():
        found[f"{name}.md"] = generated.side_by_side(ROOT, title, pattern)
    return found | generated.api_pages(ROOT / "uturn_lib", generated.public_names(ROOT))


def toctrees(parts: dict[str, list[str]], lists: list[str]) -> str:
    """The table of contents, part by part; ``lists``: pages that are linked but in no part."""
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *below(pages), "```"])
        for title, pages in parts.items()
    ]
    orphans = "\n".join(["```{toctree}", ":hidden:", "", *lists, "```"]) if lists else ""
    return "\n\n".join([*blocks, orphans])


def below(pages: list[str]) -> list[str]:
    """Entries for the pages below the first one, which holds the table of contents."""
    named = [(short_title(page), page) for page in pages if page != "index.md"]
    return [f"{title} <{page}>" if title else page for title, page in named]


def short_title(page: str) -> str:
    """Title in the table of contents, where it is not the page's own.

    The records of runs share one title. A formula cannot be set there: the table also stands on
    pages without MathJax.
    """
    if run := re.fullmatch(r"figures/reference/([\w-]+)/RUN(_\w+)?\.md", page):
        return f"How the figures were made: {run[1]}{(run[2] or '').replace('_', ', ').lower()}"
    if not page.endswith(".ipynb"):
        return ""
    cells = json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]
    title = staging.source(cells[0]).partition("\n")[0].lstrip("# ")
    return staging.plain(title) if "$" in title else ""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the book (HTML).")
    parser.add_argument("--out", type=Path, default=HERE / "_build", help="folder for the result")
    parser.add_argument("--jobs", default="auto", help="processes")
    options = parser.parse_args()
    source, html = options.out / "source", options.out / "html"
    gather(source)
    shutil.rmtree(html, ignore_errors=True)
    from sphinx.cmd.build import main as sphinx

    arguments = ["-W", "--keep-going", "-E", "-j", options.jobs, "-b", "html"]
    arguments += ["-c", str(HERE), "-d", str(options.out / "doctrees"), str(source), str(html)]
    if (failed := sphinx(arguments)) == 0:
        print(f"The book: {html / 'index.html'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
