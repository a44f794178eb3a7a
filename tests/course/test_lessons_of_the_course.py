"""The lessons: generated versions are current, every solution passes, every stub and every typical wrong answer fails with its hint."""

import ast
import importlib
import re

import matplotlib
import nbformat
import pytest

from uturn_lib import course
from uturn_lib.course import write
from uturn_lib.course.write import COURSE, derived, instructor_notebooks, tags

matplotlib.use("agg")
SOURCES = instructor_notebooks()
every_lesson = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def code(notebook, *wanted):
    """Sources of the code cells with one of the tags."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and set(wanted) & set(tags(cell))
    ]


def called(source):
    """The check that a cell calls, and the expressions that it gives it."""
    (call,) = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return call.func.attr, [ast.unparse(argument) for argument in call.args]


def names_of(source):
    return {name for cell in code(nbformat.read(source, as_version=4), "check") for name in [called(cell)[0]]}


def outcomes(source, solved):
    """check -> what it says about the answer in the student version or the solutions. Runs only set-up and exercises."""
    scope, said = {}, {}
    notebook = derived(source, solved)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if {"setup", "exercise"} & set(tags(cell)):
            exec(cell.source, scope)
        elif "check" in tags(cell):
            name, arguments = called(cell.source)
            said[name] = getattr(course, name)(*(eval(argument, scope) for argument in arguments))
    return said


def wrong_answers(source):
    return importlib.import_module(f"wrong_answers.{source.stem.split('_')[0]}").WRONG


# ------------------------------------------------------------------------------------------------------- versions


@every_lesson
@pytest.mark.parametrize("solved", [False, True], ids=["student", "solutions"])
def test_committed_versions_are_the_generated_ones(source, solved):
    committed = nbformat.read(COURSE / ("solutions" if solved else "") / source.name, as_version=4)
    assert committed == derived(source, solved), "run: make course"


def test_no_version_without_its_source():
    names = {path.name for path in SOURCES}
    for folder in (COURSE, COURSE / "solutions"):
        assert {path.name for path in folder.glob("*.ipynb")} == names


@every_lesson
def test_the_student_version_holds_no_solution(source):
    instructor, student = nbformat.read(source, as_version=4), derived(source, False)
    everything = "\n".join(cell.source for cell in student.cells)
    assert "###" not in re.sub(r"^####? .*$", "", everything, flags=re.MULTILINE) and "For the lecturer" not in everything
    for cell in instructor.cells:
        for found in write.MARKED.finditer(cell.source):
            solution = found[2].partition("### STUB")[0].strip()
            assert solution not in everything
    for cell in student.cells:
        if {"exercise", "check"} & set(tags(cell)):
            assert cell.outputs == []


@pytest.mark.parametrize(
    "text, stub, solution",
    [
        (
            "def f(x):\n    ### BEGIN SOLUTION\n    y = x\n    return y\n    ### END SOLUTION",
            'def f(x):\n    raise NotImplementedError("TODO")',
            "def f(x):\n    y = x\n    return y",
        ),
        (
            "### BEGIN SOLUTION\na = 1\nb = 2\n### END SOLUTION\nc = 3",
            "a = None  # TODO\nb = None  # TODO\nc = 3",
            "a = 1\nb = 2\nc = 3",
        ),
        (
            "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### STUB\n    # y = 2\n    # return -x  # why?\n    ### END SOLUTION\n",
            "def f(x):\n    y = 2\n    return -x  # why?\n",
            "def f(x):\n    return x\n",
        ),
    ],
)
def test_a_solution_becomes_a_stub(text, stub, solution):
    assert write.with_stub(text) == stub and write.with_solution(text) == solution


# -------------------------------------------------------------------------------------------------------- answers


@every_lesson
def test_solutions_pass_and_stubs_fail(source):
    for name, said in outcomes(source, solved=True).items():
        assert said and str(said) == "Right.", (name, said)
    for name, said in outcomes(source, solved=False).items():
        assert not said and len(str(said)) > 30, (name, said)


CASES = [
    pytest.param(name, answer, words, id=f"{name}-{number}")
    for source in SOURCES
    for name, wrong in wrong_answers(source).items()
    for number, (answer, words) in enumerate(wrong)
]


@pytest.mark.parametrize("name, answer, words", CASES)
def test_a_typical_wrong_answer_gets_its_hint(name, answer, words):
    arguments = answer if isinstance(answer, tuple) else (answer,)
    said = getattr(course, name)(*arguments)
    assert not said and words in str(said), said


@every_lesson
def test_every_exercise_has_three_wrong_answers(source):
    assert set(wrong_answers(source)) == names_of(source)
    assert min(map(len, wrong_answers(source).values())) >= 3
