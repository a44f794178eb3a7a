"""Sphinx extension: docstrings in plain text become reStructuredText, their formulas equations.

A formula stands in double backticks, in an indented block, or at the beginning of a docstring
(``x_t = ...``). Everything else is text: a star or a bar in it is a star or a bar.
"""

from __future__ import annotations

import re

import formulas

LITERAL = re.compile(r"(``.+?``|:\w+:`[^`]+`)", re.DOTALL)
ITEM = re.compile(r"(\s*(?:\* |- |\d+\. )?)(.*)", re.DOTALL)
EQUATION = re.compile(r"([A-Za-z]\w*'?(?:\(.*?\))? = .+?)(?=: |; | at |\.?$)(.*)", re.DOTALL)


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Called by autodoc for each docstring; changes ``lines`` in place."""
    lines[:] = to_rst("\n".join(lines)).split("\n")


def signature(app, what, name, obj, options, arguments: str | None, returned: str | None):
    """Defaults that have no literal: a function by its name, anything else as an ellipsis."""
    if not arguments:
        return None
    arguments = re.sub(r"<function (?:\w+\.)*(\w+)(?: at \w+)?>", r"\1", arguments)
    return re.sub(r"= ?<[^<>]*>", "= ...", arguments), returned


def to_rst(text: str) -> str:
    """A docstring as reStructuredText."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(block_to_rst(block, first=not i) for i, block in enumerate(blocks)) + "\n"


def block_to_rst(block: str, first: bool) -> str:
    lines = block.split("\n")
    if re.fullmatch(r"=+( +=+)+", lines[0]):
        return block  # a table, written as reStructuredText
    if lines[1:] and re.fullmatch(r"-{3,}", lines[1]):
        return section(lines[0], lines[2:])
    if all(line.startswith("    ") for line in lines):
        equations = [equation(part) for line in lines for part in apart(line)]
        if all(equations):
            return display(equations)
        return "::\n\n" + block
    if first and (found := EQUATION.match(block)):
        equations = [formulas.to_tex(part) for part in apart(found[1])]
        if all(equations):
            rest = found[2].lstrip(":;. \n")
            return display(equations) + (f"\n\n{inline(rest)}" if rest else "")
    return inline(block)


def section(title: str, lines: list[str]) -> str:
    """ "Parameters" and its like: a list with an item for every line ``name: what it is``."""
    items: list[str] = []
    for line in lines:
        if re.match(r"[\w*, ]+: ", line) or not items:
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    return "\n".join([f"**{title}**", "", *(f"* {inline(item)}" for item in items)])


def equation(text: str) -> str | None:
    """TeX of a line "formula", or "formula in the case ..."."""
    formula, in_, case = text.partition(" in the ")
    tex = formulas.to_tex(formula)
    return rf"{tex}\quad\text{{in the {case}}}" if tex and in_ else tex


def apart(line: str) -> list[str]:
    """Several equations in a line are separated by a comma and wide blanks."""
    return re.split(r",\s{2,}", line.strip())


def display(equations: list) -> str:
    """A displayed equation with a line for each of ``equations``: narrow enough for a telephone."""
    body = "\\\\\n   ".join(equations)
    return f".. math::\n   :no-wrap:\n\n   \\begin{{gather*}}\n   {body}\n   \\end{{gather*}}"


def inline(text: str) -> str:
    """A paragraph or list: literals that are formulas become equations, other text is escaped."""
    return "".join(
        literal(part) if LITERAL.fullmatch(part) else "\n".join(map(escape, part.split("\n")))
        for part in LITERAL.split(text)
    )


def literal(part: str) -> str:
    tex = formulas.to_tex(part[2:-2]) if part.startswith("``") else None
    return f":math:`{tex}`" if tex else part


def escape(line: str) -> str:
    """Text in which reStructuredText would see markup; the mark of a list item stays."""
    mark, rest = ITEM.match(line).groups()  # type: ignore[union-attr]
    rest = re.sub(r"([*|`\\])", r"\\\1", rest)
    rest = re.sub(r"(?<!\S)\\\*(\w[\w ]*)\\\*(?!\w)", r"*\1*", rest)  # *emphasis* stays
    return mark + re.sub(r"(?<=\w)_(?!\w)", r"\\_", rest)
