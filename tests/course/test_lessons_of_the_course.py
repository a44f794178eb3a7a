"""The lessons: generated versions are current, every solution passes, every stub and every typical
wrong answer fails with its hint."""

import ast
import importlib
import re

import matplotlib
import nbformat
import pytest

from uturn_lib import course
from uturn_lib.course import write
from uturn_lib.course.write import COURSE, derived, instructor_notebooks, tags
from uturn_lib.support.places import ROOT

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
    return {
        name
        for cell in code(nbformat.read(source, as_version=4), "check")
        for name in [called(cell)[0]]
    }


def outcomes(source, solved):
    """check -> what it says about the answer in the student version or the solutions. Runs only
    set-up and exercises."""
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


# ----------------------------------------------------------------------------------------- versions


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
    assert (
        "###" not in re.sub(r"^####? .*$", "", everything, flags=re.MULTILINE)
        and "For the lecturer" not in everything
    )
    for cell in instructor.cells:
        for found in write.MARKED.finditer(cell.source):
            solution = found[2].partition("### STUB")[0].strip()
            assert solution not in everything
    for cell in student.cells:
        if {"exercise", "check", "measured"} & set(tags(cell)):
            assert cell.outputs == []


@every_lesson
def test_what_is_to_be_predicted_is_measured_without_an_output(source):
    """Each "predict, then measure" is followed by one cell whose numbers the student has to run."""
    notebook = nbformat.read(source, as_version=4)
    asked = len(re.findall(r"^### Exercise \d: predict, then measure", text_of(notebook), re.M))
    assert asked == 1 and len(code(notebook, "measured")) == asked


@every_lesson
def test_solutions_are_told_from_lessons_by_their_title(source):
    titles = [
        re.findall(r"^# (.+)$", text_of(derived(source, solved)), re.MULTILINE)[0]
        for solved in (False, True)
    ]
    assert titles[1] == f"Solutions of {titles[0]}"


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
            "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### STUB\n    # y = 2\n    # return -x  # why?\n    ### END SOLUTION\n",  # noqa: E501
            "def f(x):\n    y = 2\n    return -x  # why?\n",
            "def f(x):\n    return x\n",
        ),
    ],
)
def test_a_solution_becomes_a_stub(text, stub, solution):
    assert write.with_stub(text) == stub and write.with_solution(text) == solution


# ----------------------------------------------------------------------------------------- standard

PARTS = ("**You will learn**", "**Before you start**", "## Quiz", "## Further reading")
KNOWN = {
    "setup",
    "exercise",
    "check",
    "measured",
    "nbval-check-output",
    "hide-input",
    "instructor",
    "slide",
    "more",
    "knob",
    "slider",
    "colab",
}
MOST_CODE, LONGEST, LARGEST = 150, 100, 90_000  # lines, characters, bytes of a picture
FOLDED = r"<details><summary>{}.*?</summary>\n\n.*?\n\n</details>"


def text_of(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def names_bound(source):
    return {
        node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
    } | {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def names_used(source):
    return {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


@every_lesson
def test_a_lesson_has_its_parts(source):
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"), (
        "run: uturn course --execute"
    )
    text, number = text_of(notebook), source.stem.split("_")[0].removeprefix("lesson")
    assert notebook.cells[0].source.startswith(f"# Lesson {number}: ")
    places = [text.index(part) for part in PARTS]
    assert places == sorted(places)
    asked = re.findall(r"^### Exercise (\d+): ", text, re.MULTILINE)
    assert asked == [str(k + 1) for k in range(len(asked))] and 4 <= len(asked) <= 6
    assert len(code(notebook, "check")) == len(asked)
    quiz = text[places[2] : places[3]]
    assert re.findall(r"^\*\*(\d)\.\*\*", quiz, re.MULTILINE) == ["1", "2", "3"]
    assert len(re.findall(FOLDED.format("Answer"), quiz, re.DOTALL)) == 3
    assert len(re.findall(r"\]\(https://(?:arxiv|doi)\.org/", text[places[3] :])) >= 3
    for part in re.split(r"^### Exercise ", text[: places[2]], flags=re.MULTILINE)[1:]:
        assert re.search(FOLDED.format("Hint"), part, re.DOTALL), part[:60]


@every_lesson
def test_a_lesson_is_short_and_its_cells_are_marked(source):
    notebook = derived(source, True)
    lines = 0
    for cell in notebook.cells:
        assert set(tags(cell)) <= KNOWN
        assert max(map(len, cell.source.splitlines())) <= LONGEST or cell.id == "badge", cell.source
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert folded == ("hide-input" in tags(cell)), cell.source
        if cell.cell_type == "code" and not folded and "colab" not in tags(cell):
            lines += len([line for line in cell.source.splitlines() if line.strip()])
        for output in cell.get("outputs", []):
            assert len(output.get("data", {}).get("image/png", "")) * 3 / 4 < LARGEST
            assert output.output_type != "error"
    assert lines <= MOST_CODE


@every_lesson
def test_run_all_goes_through_before_any_exercise_is_done(source):
    """What is shown between the exercises uses no name of an answer."""
    notebook = nbformat.read(source, as_version=4)
    answers = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or "instructor" in tags(cell):
            continue
        if "exercise" in tags(cell):
            answers |= names_bound(cell.source)
        elif "check" not in tags(cell):
            answers -= names_bound(cell.source)
            assert not names_used(cell.source) & answers, cell.source


@every_lesson
def test_the_marking_guide_has_the_points_of_the_instructor_notebook(source):
    notebook, lesson = nbformat.read(source, as_version=4), source.stem[len("lesson")]
    notes = "\n".join(cell.source for cell in notebook.cells if "instructor" in tags(cell))
    points = re.findall(r"^\*\*For the lecturer\.\*\* (\d+) points?", notes, re.MULTILINE)
    guide = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| {lesson} \| (\d) \| .* \| (\d+) \|$", guide, re.MULTILINE)
    assert rows == [(str(number), given) for number, given in enumerate(points, 1)]
    assert len(points) == len(code(notebook, "check"))


@every_lesson
def test_a_lesson_fits_into_an_hour(source):
    """By the minutes of the marking guide: reading, waiting, and what is not marked as homework."""
    lesson = source.stem[len("lesson")]
    guide = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    minutes = {
        number: int(found)
        for number, found in re.findall(
            rf"^\| {lesson} \| (\d) \| .* \| (\d+) \| \d+ \|$", guide, re.MULTILINE
        )
    }
    asked = re.findall(r"^### Exercise (\d): (.*)$", text_of(derived(source, False)), re.MULTILINE)
    assert [number for number, _ in asked] == list(minutes)
    home = {number for number, title in asked if title.endswith("(at home)")}
    assert 1 <= len(home) <= 2
    ((reading, waiting, in_class, total),) = re.findall(
        rf"^\| {lesson} \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ", guide, re.MULTILINE
    )
    assert int(in_class) == sum(minutes[number] for number in minutes if number not in home)
    assert int(total) == int(reading) + int(waiting) + int(in_class) <= 60


@every_lesson
@pytest.mark.parametrize("solved", [False, True], ids=["student", "solutions"])
def test_links_of_the_versions_lead_somewhere(source, solved):
    folder = COURSE / ("solutions" if solved else "")
    for target in re.findall(r"\]\((\.[^)]+)\)", text_of(derived(source, solved))):
        assert (folder / target).exists(), target


def test_a_lesson_opens_in_colab_once_its_address_is_known():
    badge, install = write.colab_cells(
        "notebooks/course/lesson1.ipynb", "https://github.com/someone/u-turn.git"
    )
    assert (
        "colab.research.google.com/github/someone/u-turn/blob/main/notebooks/course/lesson1.ipynb"
        in badge.source
    )
    assert '"uturn-lib @ git+https://github.com/someone/u-turn.git"'.strip('"') in install.source
    badge, install = write.colab_cells("notebooks/course/lesson1.ipynb", None)
    assert "does not know" in badge.source and ".whl'" in install.source
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ]
    assert f"uturn_lib-{version}-py3-none-any.whl" in install.source


# ------------------------------------------------------------------------------------------ answers


@every_lesson
def test_solutions_pass_and_stubs_fail(source):
    for name, said in outcomes(source, solved=True).items():
        assert said and str(said) == "Right.", (name, said)
    for name, said in outcomes(source, solved=False).items():
        assert not said and str(said).startswith("No answer yet"), (name, said)


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
