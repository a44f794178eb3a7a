"""Grade an answer of the course: right, or what kind of error it is, and never the answer.

An answer is a function or numbers. What is looked at, in this order: was it given at all, does it
run, inputs left alone, type, shape, dtype, equal to the truth, the colleague's code as it was
given, one of the exercise's typical slips, finite, one of the general slips (sign, factor, upside
down, square, clamped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..reports.exercises import Checked, hint

Function = Callable[..., Any]
Cases = Mapping[str, tuple[Any, ...]]

UNANSWERED = "No answer yet: fill in the place marked TODO, run that cell, then this one."
UNTOUCHED = (
    "No answer yet: the code still does what the colleague's did. Look for the error, mend it, run "
    "that cell, then this one."
)
GENERAL = "Go back to the definition, and try the limits of small and of large noise."
FROM_NUMBER_1 = "Begin with number 1: write down its formula before you put in values."
NOT_FINITE = "there are values that are not finite. Is there 0/0, or the root of a negative number?"


class _Problem(Exception):
    """An answer that cannot be compared; the text says why."""


def grade(
    answer: Function | None,
    truth: Function,
    cases: Cases,
    slips: Sequence[tuple[str, Function]] = (),
    tolerance: float = 1e-5,
    also: Sequence[Function] = (),
    untouched: Function | None = None,
    otherwise: str | None = None,
) -> Checked:
    """Is the function ``answer`` equal to ``truth`` in all ``cases``?

    ``cases``: name -> arguments; the name ends the sentence "Right for ..., but not for ...", so
    give it words ("one sigma for each sample"). ``slips``: (hint, typical wrong function); the hint
    is told when the answer equals that function in every case. ``tolerance``: relative to the
    largest value. ``also``: other functions that are right. ``untouched``: the function with the
    planted bug; it counts as no answer. ``otherwise``: where to look when no kind of error is
    found; by default ``GENERAL``, which suits formulas in sigma. Raises nothing for a bad answer.
    """
    if answer is None:
        return Checked(False, UNANSWERED)
    try:
        given = {name: _ask(answer, arguments, name) for name, arguments in cases.items()}
    except NotImplementedError:
        return Checked(False, UNANSWERED)
    except _Problem as problem:
        return Checked(False, f"Not yet. {problem}")
    wanted = {name: _called(truth, arguments) for name, arguments in cases.items()}
    for name in cases:
        if text := _form(given[name], wanted[name], cases[name]):
            return Checked(False, f"Not yet. For {name}: {text}")
    for right in (truth, *also):
        if not _wrong(given, _values(right, cases), tolerance):
            return Checked(True, "Right.")
    if untouched and not _wrong(given, _values(untouched, cases), tolerance):
        return Checked(False, UNTOUCHED)
    for text, slip in slips:
        if not _wrong(given, _values(slip, cases), tolerance):
            return Checked(False, f"Not yet. {text}")
    for name in cases:
        if not np.isfinite(_numbers(given[name])).all():
            return Checked(False, f"Not yet. For {name}: {NOT_FINITE}")
    return Checked(False, f"Not yet. {_where_and_how(given, wanted, tolerance, otherwise)}")


def grade_numbers(
    answer: Any,
    truth: float | Sequence[float],
    slips: Sequence[tuple[str, float | Sequence[float]]] = (),
    tolerance: float = 0.01,
) -> Checked:
    """Is ``answer``, a number or several, equal to ``truth``?

    ``slips``: (hint, typical wrong value); ``tolerance``: relative. Raises nothing for a bad
    answer.
    """
    if answer is None or (isinstance(answer, (tuple, list)) and None in answer):
        return Checked(False, UNANSWERED)
    right = np.atleast_1d(np.asarray(truth, dtype=float))
    try:
        given = np.atleast_1d(np.asarray(answer, dtype=float))
    except (TypeError, ValueError, RuntimeError):
        return Checked(False, f"Not yet. Numbers are asked for, not {type(answer).__name__}.")
    if given.shape != right.shape:
        return Checked(False, f"Not yet. {right.size} number(s) are asked for, not {given.size}.")
    if not np.isfinite(given).all():
        return Checked(False, "Not yet. The answer is not finite.")
    if np.allclose(given, right, rtol=tolerance, atol=1e-9):
        return Checked(True, "Right.")
    for text, slip in slips:
        if np.allclose(given, np.atleast_1d(slip), rtol=tolerance, atol=1e-9):
            return Checked(False, f"Not yet. {text}")
    wrong = ~np.isclose(given, right, rtol=tolerance, atol=1e-9)
    if all(_rounded(*pair) for pair in zip(given[wrong], right[wrong], strict=True)):
        return Checked(False, "Not yet. Right so far, but rounded too much: give three digits.")
    if 0 < wrong.sum() < len(wrong):
        places = ", ".join(str(place + 1) for place in np.flatnonzero(wrong))
        return Checked(False, f"Not yet. Look again at number {places}; the others are right.")
    text = hint(given, right, tolerance)
    return Checked(False, f"Not yet. {FROM_NUMBER_1 if _is_vague(text) else text}")


def _rounded(given: float, right: float) -> bool:
    """Is ``given`` what ``right`` becomes with one or two digits?"""
    return any(np.isclose(given, float(f"{right:.{digits}e}"), rtol=1e-9) for digits in (0, 1))


def normal(*shape: int, seed: int = 1) -> Tensor:
    """N(0, 1) numbers of the given shape, float64; the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def same_noise(seed: int = 0) -> Callable[[Tensor], Tensor]:
    """noise(x) -> fresh N(0, 1) numbers of the shape of x, the same sequence for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


# ------------------------------------------------------------------------------- asking an answer


class Fresh:
    """An argument that is made anew for every call, such as a source of noise."""

    def __init__(self, make: Callable[[], Any]):
        self.make = make


def _copies(arguments: tuple[Any, ...]) -> list[Any]:
    """Arguments that a call may spoil without harm."""
    made = [one.make() if isinstance(one, Fresh) else one for one in arguments]
    return [one.clone() if isinstance(one, Tensor) else one for one in made]


def _called(function: Function, arguments: tuple[Any, ...]) -> Any:
    return function(*_copies(arguments))


def _values(function: Function, cases: Cases) -> dict[str, Any]:
    """What a wrong function returns; None where it cannot even run."""
    found = {}
    for name, arguments in cases.items():
        try:
            found[name] = _called(function, arguments)
        except (RuntimeError, ValueError, IndexError):
            found[name] = None
    return found


def _ask(answer: Function, arguments: tuple[Any, ...], name: str) -> Any:
    """The answer's value; ``_Problem`` where it fails, changes its inputs or is left to chance."""
    if not callable(answer):
        raise _Problem(f"A function is asked for, not {type(answer).__name__}.")
    copies = _copies(arguments)
    try:
        value = _real(answer(*copies))
        again = _real(answer(*_copies(arguments)))
    except NotImplementedError:
        raise
    except Exception as error:  # whatever a student's code may do
        raise _Problem(f"For {name} it stops with {type(error).__name__}: {error}") from error
    for before, after in zip(arguments, copies, strict=True):
        if isinstance(before, Tensor) and not torch.equal(before, after):
            raise _Problem("It changes its input: x += ... works in place, x = x + ... does not.")
    if value is None:
        raise _Problem("It returns None: is there a return?")
    if isinstance(value, Tensor) and isinstance(again, Tensor) and value.shape == again.shape:
        if not torch.allclose(value.double(), again.double(), equal_nan=True):
            raise _Problem(
                "Two calls give two results: take all random numbers from what is given."
            )
    return value


def _real(value: Any) -> Any:
    """Complex numbers, such as (-1) ** 0.5, become "not a number", as torch.sqrt makes of them."""
    if isinstance(value, Tensor) and value.is_complex():
        return torch.where(value.imag == 0, value.real, torch.nan)
    return value


def _form(given: Any, wanted: Any, arguments: tuple[Any, ...]) -> str | None:
    """What is wrong with type, shape or dtype."""
    wanted = torch.as_tensor(wanted)
    if wanted.ndim == 0:  # a plain number is as good as a tensor
        try:
            given = torch.as_tensor(given, dtype=wanted.dtype)
        except (TypeError, ValueError, RuntimeError):
            return f"a number is asked for, not {type(given).__name__}."
    elif not isinstance(given, Tensor):
        return f"a tensor is asked for, not {type(given).__name__}."
    if given.shape != wanted.shape:
        return _shape(tuple(given.shape), tuple(wanted.shape))
    if any(isinstance(one, Tensor) for one in arguments) and given.dtype != wanted.dtype:
        return f"the dtype is {given.dtype}, that of the inputs is {wanted.dtype}."
    return None


def _shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Both shapes, and what may have happened to the axes."""
    if wanted == ():
        return f"the shape is {given}; one number is asked for. Is a sum missing?"
    text = f"the shape is {given}; {wanted} is asked for."
    if sorted(given) == sorted(wanted):
        return f"{text} Two axes are swapped."
    if len(given) < len(wanted):
        return f"{text} An axis got lost: a sum or mean over it, without keepdim?"
    if len(given) > len(wanted):
        return f"{text} An axis too many: a mean or a sum is missing, or broadcasting made it."
    if np.prod(given) > np.prod(wanted):
        return f"{text} Broadcasting made more of it: which axis does each factor belong to?"
    return f"{text} Over which axis is the sum?"


# --------------------------------------------------------------------------- what kind of error


def _numbers(value: Any) -> np.ndarray:
    return torch.as_tensor(value).detach().double().flatten().numpy()


def _wrong(given: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> list[str]:
    """The cases in which the two differ."""
    return [name for name in given if not _equal(given[name], other[name], tolerance)]


def _equal(given: Any, other: Any, tolerance: float) -> bool:
    if other is None:
        return False
    a, b = _numbers(given), _numbers(other)
    size = np.abs(b[np.isfinite(b)]).max(initial=0)
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=tolerance * size, equal_nan=True)


def _where_and_how(
    given: dict[str, Any], wanted: dict[str, Any], tolerance: float, otherwise: str | None
) -> str:
    """In which cases it is wrong, and the kind of error there."""
    wrong = _wrong(given, wanted, tolerance)
    a = np.concatenate([_numbers(given[name]) for name in wrong])
    b = np.concatenate([_numbers(wanted[name]) for name in wrong])
    right = [name for name in given if name not in wrong]
    passed = " and ".join(right) if len(right) <= 2 else f"{len(right)} of {len(given)} cases"
    where = f"Right for {passed}, but not for {' and '.join(wrong)}. " if right else ""
    return where + _kind(a, b, tolerance, otherwise)


def _kind(given: np.ndarray, wanted: np.ndarray, tolerance: float, otherwise: str | None) -> str:
    inside = np.abs(given) < np.abs(given).max() * (1 - 1e-9)
    cut = ~inside & (np.abs(wanted) > np.abs(given) * (1 + 1e-6))
    if inside.any() and cut.sum() > 1 and np.allclose(given[inside], wanted[inside], tolerance):
        return "Large values are cut off (clamped)."
    if np.abs(wanted).max() == 0:
        return otherwise or GENERAL
    text = hint(given, wanted, tolerance)
    alike = 0.2 < np.linalg.norm(given) / np.linalg.norm(wanted) < 5
    vague = _is_vague(text) and (alike or otherwise or text == GENERAL)
    return otherwise or GENERAL if vague else text


def _is_vague(text: str) -> bool:
    """Is ``text`` what a hint says that has recognised nothing?"""
    return text == GENERAL or "magnitude" in text
