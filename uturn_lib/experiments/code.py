"""A digest of the code that a result depends on.

An edited formula gives new results, an edited comment does not.

The digest covers, of the file that defines an experiment, the function and the names that it uses
there, in turn; of every file of the library that these import, the whole file and all that it
imports. Imports inside functions count too. A folder's ``__init__`` counts only where a name is
taken from it.

The source is read as syntax trees without comments, docstrings and the annotations of functions.
Other packages are not covered: their versions are pinned.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from ..support.places import PACKAGE

LIBRARY = __name__.partition(".")[0]
CARRIERS = (
    f"{LIBRARY}.data.downloads",
)  # what it fetches is verified by hashes: how a file comes here decides nothing
DECLARATIONS = (
    "experiment",
    "planned",
)  # decorators of ``engine``: they say how a result is kept, not what it is


@cache
def source(module: str) -> str | None:
    """The text of a module ("uturn_lib.noise"); None where there is no such file."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8") if file.is_file() else None


def is_folder(module: str) -> bool:
    """Whether a module of the library is a folder's ``__init__``."""
    return PACKAGE.joinpath(*module.split(".")[1:]).is_dir()


@dataclass(frozen=True)
class File:
    """A module of the library: its stripped tree and a digest of it.

    ``imports``: the library's modules behind each imported name.
    """

    tree: ast.Module
    digest: str
    imports: dict[str, set[str]]


def parsed(module: str) -> File:
    """The :class:`File` of a module, read once."""
    text = source(module)
    if text is None:
        raise ValueError(f"module = {module!r} is no file of {LIBRARY}")
    return _parsed(module, text)


@cache
def _parsed(module: str, text: str) -> File:
    tree = stripped(ast.parse(text))
    return File(tree, hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported(tree, module))


def forget() -> None:
    """Read the source again at the next question (for tests that change it)."""
    source.cache_clear()
    digest.cache_clear()


def stripped(tree: ast.Module) -> ast.Module:
    """``tree`` without docstrings, annotations of functions and :data:`DECLARATIONS`, in place."""
    node: Any  # one of many classes, with different attributes
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [statement for statement in body if not _is_text(statement)]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
            node.decorator_list = [d for d in node.decorator_list if _called(d) not in DECLARATIONS]
        elif isinstance(node, ast.arg):
            node.annotation = None
    return tree


def _is_text(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    return (
        isinstance(statement, ast.Expr)
        and isinstance(value, ast.Constant)
        and isinstance(value.value, str)
    )


def _called(decorator: ast.expr) -> str | None:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(function, "id", None)


def imported(tree: ast.AST, module: str) -> dict[str, set[str]]:
    """The library's modules behind every name that ``tree``, a part of ``module``, imports."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            if origin.partition(".")[0] != LIBRARY:
                continue
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                target = origin if source(inner) is None else inner
                found.setdefault(alias.asname or alias.name, set()).add(target)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == LIBRARY:
                    found.setdefault(alias.asname or LIBRARY, set()).add(alias.name)
    return found


def _origin(node: ast.ImportFrom, module: str) -> str:
    """The absolute name of the module that an import is from."""
    if not node.level:
        return node.module or ""
    folder = module.split(".") if is_folder(module) else module.split(".")[:-1]
    return ".".join(
        folder[: len(folder) - node.level + 1] + (node.module.split(".") if node.module else [])
    )


def files(start: Iterable[str]) -> set[str]:
    """The modules ``start`` and all modules of the library that they import, directly or not."""
    todo, found = list(start), set()
    while todo:
        module = todo.pop()
        if module not in found and module not in CARRIERS:
            found.add(module)
            todo.extend(name for names in parsed(module).imports.values() for name in names)
    return found


def part(module: str, name: str) -> tuple[dict[str, list[ast.stmt]], set[str]]:
    """What ``name`` of ``module`` uses: statements by name, and the modules that they import.

    Statements that define nothing (a call, a condition) belong to every part, under the name "".
    """
    table: dict[str, list[ast.stmt]] = {"": []}
    for statement in parsed(module).tree.body:
        for defined in _defined(statement):
            table.setdefault(defined, []).append(statement)
    todo, used, modules = ["", name], {}, set()
    while todo:
        current = todo.pop()
        modules |= parsed(module).imports.get(current, set())
        if current in table and current not in used:
            used[current] = table[current]
            for statement in table[current]:
                todo += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
                modules |= set().union(*imported(statement, module).values())
    return used, modules


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return []
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [
            node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
        ]
        return names or [""]
    return [""]


@dataclass(frozen=True)
class Closure:
    """Code that something depends on: whole ``modules``, and ``parts`` (module, name) of others."""

    modules: frozenset[str]
    parts: frozenset[tuple[str, str]]


def closure(things: Iterable[Any]) -> Closure:
    """The code of the library behind functions and classes.

    Of a function: the names that it uses within its file; the whole file where these are unknown.
    Of a class: its whole file.
    """
    start, parts = set(), set()
    for thing in things:
        module = thing.__module__
        if module.partition(".")[0] != LIBRARY or source(module) is None:
            continue
        if isinstance(thing, type):
            start.add(module)
            continue
        name = thing.__qualname__.partition(".")[0]
        used, modules = part(module, name)
        if name not in used:
            start.add(module)
            continue
        start |= modules
        parts |= {(module, name) for name in used}
    return Closure(frozenset(files(start)), frozenset(parts))


def of_library(thing: Callable) -> bool:
    """Whether a function or class is the library's, not a reader's."""
    return thing.__module__.partition(".")[0] == LIBRARY


@cache
def digest(*things: Callable) -> str:
    """SHA-256 of the code behind functions and classes.

    Code outside the library counts by its own source, where that can be read.
    """
    found = closure(things)
    lines = [f"{module} {parsed(module).digest}" for module in found.modules]
    for module, name in found.parts:
        used, _ = part(module, name)
        lines.append(
            f"{module} {name} {' '.join(ast.dump(statement) for statement in used.get(name, []))}"
        )
    lines += [_foreign(thing) for thing in things if not of_library(thing)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _foreign(thing: Callable) -> str:
    """The source of a reader's class or function; "" where it cannot be parsed.

    Code typed at a prompt, or a part of a line, cannot.
    """
    try:
        return ast.dump(stripped(ast.parse(textwrap.dedent(inspect.getsource(thing)))))
    except (OSError, TypeError, SyntaxError):
        return ""


def makers(value: Any) -> Iterator[Callable]:
    """The functions and classes that make ``value``, an input of an experiment.

    Of a denoiser: its class, what it wraps, or the function that will load it.
    """
    if isinstance(value, partial):
        yield from makers(value.func)
        for argument in [*value.args, *value.keywords.values()]:
            yield from makers(argument) if callable(argument) else ()
    elif inspect.isfunction(value) or isinstance(value, type):
        yield value
    elif inspect.ismethod(value):
        yield value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
    elif hasattr(value, "__wrapped__"):  # a function that remembers its results
        yield inspect.unwrap(value)
    elif hasattr(value, "made_by"):
        yield from makers(value.made_by)
    elif callable(value):
        yield type(value)
        if hasattr(value, "denoiser"):  # one around another
            yield from makers(value.denoiser)
