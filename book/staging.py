"""Copies the pages of the repository to the folder that Sphinx reads, made ready for the book.

The pages themselves are written for GitHub and JupyterLab and stay as they are. In the copy

* pictures are WebP, a third of the size, and smaller where a page has many;
* a picture of a notebook has the first sentence of its caption as alternative text;
* a link to a folder leads to its README, or to a list of its files;
* solutions are folded.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

from PIL import Image

WIDE, MEDIUM, SMALL = 1120, 800, 640  # pixels; the text column is about 800 wide
QUALITY = 80
NOT_SHOWN = ("notebooks/course/instructor/",)  # sources of pages: named, but no page of the book
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(```.*?```|``[^`]*``|`[^`\n]*`)", re.DOTALL)
GREEK = {"sigma": "σ", "varepsilon": "ε", "lambda": "λ", "mu": "μ", "rho": "ρ", "approx": "≈"}


class Staging:
    """Copies pages from ``repository`` to ``target``; ``names``: all pages of the book."""

    def __init__(self, repository: Path, target: Path, names: set[str]) -> None:
        self.repository, self.target, self.names = repository, target, names
        self.folders: set[Path] = set()  # that pages link to and that have no page

    def stage(self, name: str) -> None:
        """Copy one page, and what it shows or offers for download."""
        source, copy = self.repository / name, self.target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        if source.suffix == ".ipynb":
            text = json.dumps(self.notebook(json.loads(text), source), ensure_ascii=False)
        else:
            front_matter = re.match(r"---\n.*?\n---\n", text, re.DOTALL)  # of a model card
            text = self.markdown(text[front_matter.end() :] if front_matter else text, source)
        copy.write_text(text, encoding="utf-8")

    def finish(self) -> list[str]:
        """Write the lists of files for folders that are linked; returns their paths."""
        return [self.list_folder(folder) for folder in sorted(self.folders)]

    # ------------------------------------------------------------------------------ markdown

    def markdown(self, text: str, page: Path) -> str:
        """``text`` of ``page`` with the links and pictures of the book."""
        pictures = [target for mark, _, target in links(text) if mark and is_local(target)]
        width = fitting_width(len(pictures))

        def replaced(match: re.Match) -> str:
            mark, label, target = match.groups()
            if not is_local(target):
                return match[0]
            if mark:
                if " " not in label:  # the name of a file says nothing: take the caption below
                    label = caption(text.partition(match[0])[2]) or label
                return f"![{label}]({self.picture(page.parent, target, width)})"
            if self.name_of(page, target).startswith(NOT_SHOWN):
                return label
            return f"[{label}]({self.link(page, target)})"

        return outside_code(text, lambda part: LINK.sub(replaced, part))

    def picture(self, folder: Path, target: str, width: int) -> str:
        """Writes the WebP of a picture; returns the path that replaces ``target``."""
        source = (folder / target).resolve()
        place = self.target / source.relative_to(self.repository)
        small = place.with_name(f"{place.stem}-{width}.webp")
        if not small.exists():
            small.parent.mkdir(parents=True, exist_ok=True)
            small.write_bytes(webp(source.read_bytes(), width))
        return str(Path(target).with_name(small.name))

    def name_of(self, page: Path, target: str) -> str:
        """The path in the repository that a link of ``page`` leads to."""
        return (
            (page.parent / target.partition("#")[0])
            .resolve()
            .relative_to(self.repository)
            .as_posix()
        )

    def link(self, page: Path, target: str) -> str:
        """Where a link of ``page`` leads in the book."""
        path, hash_, anchor = target.partition("#")
        if not path:
            return target
        name = self.name_of(page, target)
        source = self.repository / name
        if (shown := self.reference_of(name)) != "":
            return os.path.relpath(self.repository / shown, page.parent)
        if source.is_dir():
            if f"{name}/README.md" not in self.names:
                self.folders.add(source)
                return f"{path.rstrip('/')}/files.md"
            return f"{path.rstrip('/')}/README.md"
        if source.suffix in (".md", ".ipynb") and name not in self.names:
            raise ValueError(f"{page}: the link {target} leads to a page that is not in the book")
        if name not in self.names:  # offered for download
            copy = self.target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        return target

    def reference_of(self, name: str) -> str:
        """The page of the reference that shows a file of the library; "" for other files."""
        parts = name.removesuffix(".py").removesuffix("/__init__").split("/")
        for module in (".".join(parts), ".".join(parts[:-1])):
            if name.endswith(".py") and f"api/{module}.md" in self.names:
                return f"api/{module}.md"
        return ""

    def list_folder(self, folder: Path) -> str:
        """A page that lists a folder's files; returns its path."""
        name = folder.relative_to(self.repository).as_posix()
        lines = [f"# Files of {name}", ""]
        for path in sorted(folder.iterdir()):
            inside = path.relative_to(self.repository).as_posix()
            if path.is_file() and path.suffix in (".md", ".ipynb") and inside in self.names:
                lines.append(f"* [{path.name}]({path.name})")
            elif path.is_file():
                lines.append(f"* {path.name}")
            elif (pages := sorted(n for n in self.names if n.startswith(f"{inside}/"))) != []:
                lines.append(f"* [{path.name}/]({pages[0][len(name) + 1 :]})")
        (self.target / name).mkdir(parents=True, exist_ok=True)
        (self.target / name / "files.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return f"{name}/files.md"

    # ----------------------------------------------------------------------------- notebooks

    def notebook(self, notebook: dict, page: Path) -> dict:
        """The notebook with links, folded solutions and pictures that have alternative texts."""
        cells, count = notebook["cells"], 0
        for place, cell in enumerate(cells):
            if cell["cell_type"] == "markdown":
                cell["source"] = self.markdown(source(cell), page)
                continue
            fold_solution(cell)
            for output in cell.get("outputs", []):
                if "text/markdown" in output.get("data", {}):
                    table = "".join(output["data"]["text/markdown"])
                    output["data"]["text/markdown"] = bars_in_formulas(table)
                png = output.get("data", {}).get("image/png")
                if png is None:
                    continue
                count += 1
                name = f"{page.stem}-{count}.webp"
                place_of = self.target / page.parent.relative_to(self.repository)
                (place_of / name).write_bytes(webp(base64.b64decode("".join(png)), WIDE))
                output["data"] = {"text/markdown": f"![{alternative(cells, place)}]({name})"}
                output["metadata"] = {}
        return notebook


def source(cell: dict) -> str:
    """Text of a cell, which nbformat keeps as a string or as a list of lines."""
    return "".join(cell["source"])


def bars_in_formulas(table: str) -> str:
    r"""In a Markdown table a bar ends the cell, also within a formula: \vert does not."""
    return re.sub(r"\$[^$\n]*\$", lambda match: match[0].replace("|", r"\vert "), table)


def fold_solution(cell: dict) -> None:
    """A cell tagged "solution" is closed until it is asked for."""
    tags = cell.get("metadata", {}).get("tags", [])
    if "solution" in tags:
        tags += [] if "hide-input" in tags else ["hide-input"]
        cell["metadata"]["mystnb"] = {
            "code_prompt_show": "Show the solution",
            "code_prompt_hide": "Hide the solution",
        }


def alternative(cells: list[dict], place: int) -> str:
    """Alternative text of the picture that cell ``place`` shows.

    The first sentences of the caption, which is the next text; without one the last heading.
    """
    after = [source(c) for c in cells[place + 1 : place + 3] if c["cell_type"] == "markdown"]
    if after and (text := caption(after[0])):
        return text
    before = [source(c) for c in cells[:place] if c["cell_type"] == "markdown"]
    headings = re.findall(r"^#+ (.+)$", "\n".join(before), re.MULTILINE)
    titles = [headings[0], headings[-1]] if len(headings) > 1 else headings
    return plain(" - ".join(titles)) or "Figure"


def caption(text: str) -> str:
    """The beginning of a caption "**Figure 9.** ..." as plain words; "" where there is none."""
    text = text.lstrip()
    if not re.match(r"\*\*(?:Figure )?[\w .]+\*\*", text):
        return ""
    text = plain(text.partition("\n\n")[0])
    short = re.match(r".{40,300}?[.:;](?= )|.{1,300}(?= |$)", text)
    return short[0].rstrip(":;") if short else text


def plain(text: str) -> str:
    """Markdown as plain words, for an alternative text."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda match: GREEK.get(match[1], match[1]), text)
    return " ".join(re.sub(r"[*`$\\{}<>\[\]]", "", text).split())


def is_local(target: str) -> bool:
    return not re.match(r"[a-z]+:|#", target)


def links(text: str) -> list[tuple[str, str, str]]:
    """(mark, label, target) of all links outside code; ``mark`` is "!" for a picture."""
    found: list[tuple[str, str, str]] = []
    outside_code(text, lambda part: found.extend(LINK.findall(part)) or part)
    return found


def outside_code(text: str, change) -> str:
    """``text`` with ``change`` applied to all but code, which may stand within the label of a link.

    Code is replaced by marks that no text contains, and put back afterwards.
    """
    codes: list[str] = []

    def hide(match: re.Match) -> str:
        codes.append(match[0])
        return f"\ue000{len(codes) - 1}\ue001"

    changed = change(FENCE.sub(hide, text))
    return re.sub("\ue000(\\d+)\ue001", lambda match: codes[int(match[1])], changed)


def fitting_width(count: int) -> int:
    """Width of each of ``count`` pictures of a page, in pixels."""
    return WIDE if count <= 4 else MEDIUM if count <= 8 else SMALL


def webp(png: bytes, width: int) -> bytes:
    """A picture as WebP, at most ``width`` pixels wide."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > width:
        size = (width, round(picture.height * width / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()
