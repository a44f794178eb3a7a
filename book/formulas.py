r"""The formulas of docstrings as TeX.

Docstrings are read in an editor, so their formulas are plain text: ``x_u = x_0 + sigma_u eps``.
The book shows them as equations: :func:`to_tex` translates what it knows word by word, and returns
None for anything else, which then stays code. Nothing is guessed: one unknown word, and the whole
text is left alone.
"""

from __future__ import annotations

import re

GREEK = set(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi "
    "psi omega Gamma Delta Theta Lambda Pi Sigma Phi Psi Omega".split()
)
OPERATORS = set("sqrt log exp ln min max tr det div sup".split())
BIG = {"sum": r"\sum", "prod": r"\prod", "int": r"\int", "sup": r"\sup"}
NAMES = {
    "eps": r"\varepsilon",
    "score": r"\mathrm{score}",
    "mean": r"\mathrm{mean}",
    "softmax": r"\mathrm{softmax}",
    "that": r"\hat t",
    "abar": r"\bar\alpha",
    "KL": r"\mathrm{KL}",
    "dW": r"\mathrm{d}W",
    "dim": r"\dim",
    "log2": r"\log_2 ",
    "se": r"\mathrm{se}",
    "std": r"\mathrm{std}",
}
# Words of a formula that may also be names of arguments: read as words where the rest is telling.
WORDS = set(
    "residual total numerator denominator image target bandwidth floor centre width level levels "
    "count start gap".split()
)
SURELY = re.compile(r" = |\^|\||\b(?:exp|log2)\(")
SYMBOLS = {
    ">=": r"\ge ", "<=": r"\le ", "!=": r"\ne ", "->": r"\to ", ">>": r"\gg ", "<<": r"\ll ",
    "=": "=", "+": "+", "-": "-", "/": "/", ",": r",\;", ".": r"\cdot ", "(": "(", ")": ")",
    "[": "[", "]": "]", "'": "'", "*": r"\cdot ",
}  # fmt: skip
SPACED = {tex.strip() for tex in SYMBOLS.values()}
TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z][A-Za-z0-9]*(?:_(?:[A-Za-z0-9]+|\{[^}]*\}))*)"
    r"|(?P<symbol>>=|<=|!=|->|>>|<<|[=+\-/,.()\[\]'*^|<>])|(?P<space>\s+)"
)
# What makes a text a formula and not a name that happens to be a letter.
TELLING = re.compile(r"[=^|<>+/]| - |\b(?:sum|prod|int|sqrt|log|exp)\b.|\w\(\w|^-")


def to_tex(text: str) -> str | None:
    r"""TeX of a formula in plain text, or None where it is not surely one.

    ``to_tex("x_u = x_0 + sigma_u eps")`` is ``x_{u}=x_{0}+\sigma_{u}\,\varepsilon``.
    """
    text = " ".join(text.split())
    if not TELLING.search(text) or "**" in text:
        return None
    if WORDS & set(re.findall(r"[a-z]+", text)) and not SURELY.search(text):
        return None
    tokens = _tokens(text)
    if tokens is None:
        return None
    try:
        tex, rest = _sequence(tokens, ())
    except _NotAFormula:
        return None
    return None if rest else tex


class _NotAFormula(Exception):
    """The text holds a word or a bracket that is not understood."""


def _tokens(text: str) -> list[tuple[str, str]] | None:
    """Pairs (kind, text), or None where a character fits nowhere."""
    found, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            return None
        found.append((match.lastgroup or "", match.group()))
        place = match.end()
    return found


def _sequence(tokens: list[tuple[str, str]], closing: tuple[str, ...]) -> tuple[str, list]:
    """TeX up to one of the ``closing`` symbols (not consumed), and the remaining tokens."""
    parts: list[str] = []
    while tokens:
        (kind, text), rest = tokens[0], tokens[1:]
        if kind == "symbol" and text in closing:
            break
        if kind == "space":
            # Two letters side by side are a product; an operator keeps its own distance.
            parts.append(r"\," if _product(parts, rest) else " ")
            tokens = rest
        elif kind == "number":
            parts.append(text)
            tokens = rest
        elif kind == "word":
            tex, tokens = _word(text, rest)
            parts.append(tex)
        elif text == "^":
            exponent, tokens = _exponent(rest)
            parts.append(f"^{{{exponent}}}")
        elif text in "([":
            end = ")" if text == "(" else "]"
            inner, tokens = _sequence(rest, (")", "]"))
            if not tokens or tokens[0][1] != end:
                raise _NotAFormula
            parts.append(f"{text}{inner}{tokens[0][1]}")
            tokens = tokens[1:]
        elif text in ")]":
            raise _NotAFormula
        elif text == "|":
            parts.append(r"\mid " if _given(parts, rest) else "|")
            tokens = rest
        elif text == "<":
            # <x, y> is a scalar product; a comparison has blanks on both sides.
            parts.append("<" if rest[:1] and rest[0][0] == "space" else r"\langle ")
            tokens = rest
        elif text == ">":
            parts.append(">" if parts and parts[-1].isspace() else r"\rangle ")
            tokens = rest
        elif text == "*" and not (parts and parts[-1].isspace()):
            parts.append("^{*}")  # D*, the optimal denoiser
            tokens = rest
        else:
            parts.append(SYMBOLS[text])
            tokens = rest
    return "".join(parts).strip(), tokens


def _product(parts: list[str], rest: list) -> bool:
    """Is the blank between two factors?"""
    before = parts[-1].strip() if parts else ""
    if not before or not rest or before in SPACED or before in (r"\mid", "<", ">"):
        return False
    if before in OPERATOR_TEX or before.startswith(BIG_TEX):
        return False  # TeX spaces operators itself
    kind, text = rest[0]
    return kind in ("number", "word") or text in ("(", "[", "|", "<")


def _given(parts: list[str], rest: list) -> bool:
    """A bar with blanks on both sides stands for "given"; others are lengths."""
    return bool(parts) and parts[-1] in (" ", r"\,") and rest[:1] != [] and rest[0][0] == "space"


def _word(text: str, rest: list[tuple[str, str]]) -> tuple[str, list]:
    """TeX of a name with its subscripts; ``sqrt(...)`` takes its bracket along."""
    base, *subscripts = re.split(r"_(?![^{]*\})", text)
    if base == "sqrt":
        if not rest or rest[0][1] != "(" or subscripts:
            raise _NotAFormula
        inner, rest = _sequence(rest[1:], (")",))
        if not rest:
            raise _NotAFormula
        return rf"\sqrt{{{inner}}}", rest[1:]
    accent = ""
    if subscripts[:1] == ["hat"]:
        accent, subscripts = r"\hat ", subscripts[1:]
    tex = _base(base)
    tex = f"{accent}{{{tex}}}" if accent else tex
    if subscripts:
        if base in ("log", "exp"):
            raise _NotAFormula  # log_prob is a function
        tex += "_{" + ",".join(_subscript(part) for part in subscripts) + "}"
    return tex, rest


def _operator(name: str) -> str:
    return rf"\operatorname{{{name}}}" if name in ("tr", "div") else rf"\{name}"


OPERATOR_TEX = {_operator(name) for name in OPERATORS}
BIG_TEX = tuple(BIG.values())


def _base(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    if name in BIG:
        return BIG[name]
    if name in WORDS:
        return rf"\mathrm{{{name}}}"
    if name in OPERATORS:
        return _operator(name)
    if name in GREEK:
        return rf"\{name}"
    if name == "E":
        return r"\mathbb{E}"
    if len(name) == 1:
        return name
    if name[0] == "d" and (len(name) == 2 or name[1:] in GREEK):
        return rf"\mathrm{{d}}{_base(name[1:])}"  # a differential
    if len(name) > 1 and name[0].isalpha() and name[1:].isdigit():
        return f"{name[0]}_{{{name[1:]}}}"  # x0
    raise _NotAFormula


def _subscript(part: str) -> str:
    if part.startswith("{"):
        part = part[1:-1]
    if re.fullmatch(r"[A-Za-z]|\d+|[A-Za-z][+-]\d", part):
        return part
    return rf"\{part}" if part in GREEK else rf"\mathrm{{{part}}}"


def _exponent(rest: list[tuple[str, str]]) -> tuple[str, list]:
    """What stands after ^: a sign, a number or name, or a bracket."""
    sign = ""
    if rest and rest[0][1] == "-":
        sign, rest = "-", rest[1:]
    if not rest:
        raise _NotAFormula
    (kind, text), after = rest[0], rest[1:]
    if text == "(":
        inner, after = _sequence(after, (")",))
        if not after:
            raise _NotAFormula
        return sign + inner, after[1:]
    if kind == "word":
        tex, after = _word(text, after)
        return sign + tex, after
    if kind == "number":
        return sign + text, after
    raise _NotAFormula
