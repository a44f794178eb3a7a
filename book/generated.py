"""Pages that are made from the results and from the library: side by side, and the API."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from staging import source

ROWS = {
    "side_by_side": ("Digits and CIFAR-10 side by side: Figures 1 to 8", r"fig0[1-8]_"),
    "side_by_side_2": ("Digits and CIFAR-10 side by side: Figures 9 to 16", r"fig(09|1\d)_"),
    "side_by_side_3": ("Digits and CIFAR-10 side by side: related papers", r"p\d"),
}
PROFILES = {"laptop": "Digits", "cifar10": "CIFAR-10"}


# ------------------------------------------------------------------------------- side by side


def side_by_side(repository: Path, title: str, pattern: str) -> str:
    """Markdown: for every figure its question, both pictures and both verdicts."""
    ledgers = {profile: verdicts(repository, profile) for profile in PROFILES}
    lines = [
        f"# {title}",
        "",
        "Left (on a telephone: above) the digits, right CIFAR-10: the same notebook, another "
        "profile. How to read a verdict: [results](docs/results.md#how-to-read-a-verdict).",
        "",
    ]
    folder = repository / "notebooks"
    for notebook in sorted([*folder.glob("*.ipynb"), *folder.glob("companions/*.ipynb")]):
        if re.match(pattern, notebook.name):
            lines += figure_rows(repository, notebook, ledgers)
    return "\n".join(lines)


def figure_rows(repository: Path, notebook: Path, ledgers: dict) -> list[str]:
    """Heading, question, pictures and verdicts of one figure."""
    first = source(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0])
    title = re.match(r"# (.+)", first)[1]  # type: ignore[index]
    question = " ".join(first.partition("**Question.**")[2].split())
    page = notebook.relative_to(repository).as_posix()
    short = notebook.stem.split("_")[0]
    lines = [
        f"## {title}",
        "",
        f"{question} [The page of this figure]({page})",
        "",
        "::::{grid} 1 1 2 2",
        "",
    ]
    for profile, data in PROFILES.items():
        picture = repository / "figures" / "reference" / profile / f"{notebook.stem}.png"
        if not picture.exists():
            continue
        shown = picture.relative_to(repository).as_posix()
        judged = [f"{claim} **{verdict}**" for claim, verdict in ledgers[profile].get(short, [])]
        lines += [
            ":::{grid-item}",
            f"![{title}, {data}]({shown})",
            "",
            f"**{data}.** " + ("; ".join(judged) or "Not judged with this profile") + ".",
            ":::",
            "",
        ]
    return [*lines, "::::", ""]


def verdicts(repository: Path, profile: str) -> dict[str, list[tuple[str, str]]]:
    """(claim, verdict) of every figure of a profile's committed ledger."""
    path = repository / "figures" / "reference" / profile / "claims.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in entries if isinstance(entries, list) else entries["claims"]:
        found.setdefault(entry["figure"], []).append((entry["id"], entry["verdict"]))
    return found


# ------------------------------------------------------------------------------------ the API


def modules(package: Path) -> dict[str, str]:
    """The first line of the docstring of every module, by its dotted name, in reading order."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[name] = " ".join(text.partition("\n\n")[0].split())
    return dict(sorted(found.items()))


def public_names(repository: Path) -> dict[str, str]:
    """The module that ``api.py`` takes each public name from, read without importing it."""
    tree = ast.parse((repository / "uturn_lib" / "api.py").read_text(encoding="utf-8"))
    found = {
        alias.name: f"uturn_lib.{node.module}" if node.module else f"uturn_lib.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return dict(sorted(found.items()))


METHOD = ("noise", "seeding", "denoisers", "empirical", "methods", "sampling", "uturn")


def api_pages(package: Path, public: dict[str, str]) -> dict[str, str]:
    """Pages (name, text) of the reference: an index, one for each folder and each file beside it.

    ``public``: the module in which each public name of the library is defined.
    """
    names = modules(package)
    pages: dict[str, list[str]] = {}
    for name in names:
        pages.setdefault(page_of(name, names), []).append(name)
    pages.pop(package.name)  # the package itself and its api.py: the index is their page
    pages.pop(f"{package.name}.api", None)
    method = [f"{package.name}.{name}" for name in METHOD]
    order = method + [name for name in pages if name not in method]
    return {"api/index.md": api_index(order, names, public)} | {
        f"api/{page}.md": page_text(page, pages[page], names) for page in order
    }


def page_of(name: str, names: dict[str, str]) -> str:
    """The page that shows a module: its own if it is a folder, else that of its folder."""
    folder = name.rpartition(".")[0]
    is_folder = any(other.startswith(f"{name}.") for other in names)
    return name if is_folder or folder.count(".") == 0 else folder


def api_index(order: list[str], names: dict[str, str], public: dict[str, str]) -> str:
    """The reference's first page: the public names, then all pages."""
    library = order[0].partition(".")[0]
    offered = [
        f"| {{py:obj}}`{name} <{module}.{name}>` | `{module}` |" for name, module in public.items()
    ]
    lines = [
        "# Reference of the library",
        "",
        "From the docstrings. A formula in them is plain text; here it is an equation. "
        "Where to begin: [the house](../docs/house.md) leads from a figure to its equation.",
        "",
        "## The modules",
        "",
        "The first seven are the method, in the order in which to read them.",
        "",
        "| module | its idea |",
        "|---|---|",
        *(f"| [{name}]({name}.md) | {table_text(names[name])} |" for name in order),
        "",
        f"## What `import {library}` offers",
        "",
        "| name | defined in |",
        "|---|---|",
        *offered,
        "",
    ]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *order, "```", ""])


def table_text(text: str) -> str:
    """A docstring's line for a cell of a Markdown table."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return re.sub(r"([|*<$])", r"\\\1", text)


def page_text(page: str, members: list[str], names: dict[str, str]) -> str:
    """The page of a folder or file: the docstrings of its modules and of all that is in them."""
    options = [":members:", ":undoc-members:", ":ignore-module-all:", ":member-order: bysource"]
    lines = [f"# {page}", ""]
    for name in members:
        lines += [] if name == page else [f"## {name.removeprefix(page + '.')}", ""]
        lines += ["```{eval-rst}", f".. automodule:: {name}"]
        lines += [*(f"   {option}" for option in options), "```", ""]
    return "\n".join(lines)
