"""Small tables of computed numbers, shown beside the text of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..measures.estimate import Estimate

Number = Estimate | float | str


class Table(str):
    """Markdown that a notebook shows as a table when it is the last line of a cell."""

    def _repr_markdown_(self) -> str:
        return str(self)


def numbers_table(numbers: Mapping[str, Number], digits: int = 2) -> Table:
    """One row for each number: what it is, its value, its 95 % interval.

    ``numbers``: name (Markdown and LaTeX allowed) -> Estimate, plain number or text. A crossing
    that was not seen is infinite: "beyond the grid". NaN, behind a closed gate, is "not testable
    here". Raises ``ValueError`` for an empty table, ``TypeError`` for anything that is no number.
    """
    if not numbers:
        raise ValueError("numbers is empty; at least one row is needed")
    rows = ["| quantity | value | 95 % interval |", "|---|---|---|"]
    for name, number in numbers.items():
        rows.append(f"| {name} | {_value(number, digits)} | {_interval(number, digits)} |")
    return Table("\n".join(rows))


def curves_table(
    axis: str,
    levels: Sequence[float | str],
    curves: Mapping[str, Sequence[Number]],
    digits: int = 2,
) -> Table:
    """One row for each of ``levels`` (S,), one column for each of ``curves`` (name -> S values).

    Estimates are written with their intervals. Raises ``ValueError`` where a curve has another
    length than ``levels``.
    """
    if not curves:
        raise ValueError("curves is empty; at least one column is needed")
    for name, values in curves.items():
        if len(values) != len(levels):
            raise ValueError(f"curves[{name!r}] has {len(values)} values for {len(levels)} levels")
    rows = [f"| {' | '.join([axis, *curves])} |", "|---" * (1 + len(curves)) + "|"]
    for k, level in enumerate(levels):
        name = level if isinstance(level, str) else f"{level:.3g}"
        cells = [name, *(_both(values[k], digits) for values in curves.values())]
        rows.append(f"| {' | '.join(cells)} |")
    return Table("\n".join(rows))


def _both(number: Number, digits: int) -> str:
    value, interval = _value(number, digits), _interval(number, digits)
    return f"{value} {interval}" if interval else value


def _value(number: Number, digits: int) -> str:
    if isinstance(number, str):
        return number
    value = number.value if isinstance(number, Estimate) else number
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{number!r} is no number; an Estimate, a number or text is needed")
    value = float(value)
    if math.isnan(value):
        return "not testable here" if isinstance(number, Estimate) else "not seen"
    if isinstance(number, Estimate) and math.isinf(value):
        return "beyond the grid"
    return f"{value:.{digits}f}"


def _interval(number: Number, digits: int) -> str:
    if not isinstance(number, Estimate) or math.isnan(number.value):
        return ""
    return f"[{number.low:.{digits}f}, {number.high:.{digits}f}]"
