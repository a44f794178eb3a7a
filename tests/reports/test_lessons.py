"""The standard of a page (DESIGN.md, "A notebook page"), over the pages that are written to it; the
check of exercises."""

import ast
import math
import re

import nbformat
import numpy as np
import pytest

from uturn_lib.measures.estimate import Estimate
from uturn_lib.reports import exercises
from uturn_lib.reports.exercises import EXERCISES, LEVELS, check_exercise
from uturn_lib.reports.tables import curves_table, numbers_table
from uturn_lib.support.places import ROOT

# Grows with every page that is rewritten.
WRITTEN = (
    "00",
    "fig01",
    "fig02",
    "fig03",
    "fig04",
    "fig05",
    "fig06",
    "fig07",
    "fig08",
    "fig09",
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "fig14",
    "fig15",
    "fig16",
    "p2a",
    "p2b",
    "p3a",
    "p3b",
    "p3c",
    "p4a",
    "p4b",
    "b1",
    "b4",
    "b7",
    "b2",
    "b6",
    "b8",
    "b3",
    "b5",
    "b9",
)
FIGURES = [name for name in WRITTEN if name != "00"]
U_TURNS = {
    "u_turn",
    "u_turn_sweep",
    "profile_sweep",
    "generation_path",
    "deviation",
    "initial_laws",
}
OF_COMPANIONS = {
    "effect_map",
    "run",
    "shapes",
    "solver_errors",
    "squared_distances",
    "profile_class_entropy",
    "auxiliary_starts",
    "memorization_times",
}  # and what else is computed there
MOST_CODE, LONGEST = 60, 100


def page(name):
    (path,) = (ROOT / "notebooks").rglob(f"{name}_*.ipynb")
    return nbformat.read(path, as_version=4)


def caption_name(name):
    """The figure's name in its caption: 8 of fig08, P4a of p4a."""
    return str(int(name[3:])) if name.startswith("fig") else name.capitalize()


def tags(cell):
    return cell.metadata.get("tags", [])


def code_of(document):
    return [cell for cell in document.cells if cell.cell_type == "code"]


def visible(document):
    """Code cells that a reader sees unfolded."""
    return [cell for cell in code_of(document) if "hide-input" not in tags(cell)]


def code_lines(cell):
    return [
        line
        for line in cell.source.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]


def prose_in_code(source):
    """Markdown assembled in code: f-strings with a condition in them, or shown as Markdown."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            found += [part for part in ast.walk(node) if isinstance(part, ast.IfExp)]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Markdown"):
            found.append(node)
    return [ast.unparse(node) for node in found]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_is_short_and_its_lines_fit(name):
    document = page(name)
    nbformat.validate(document)
    assert sum(len(code_lines(cell)) for cell in visible(document)) <= MOST_CODE
    for cell in document.cells:
        for line in cell.source.splitlines():
            assert len(line) <= LONGEST, line


@pytest.mark.parametrize("name", WRITTEN)
def test_folded_cells_are_folded_in_lab_and_in_books(name):
    for cell in code_of(page(name)):
        in_lab = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert in_lab == ("hide-input" in tags(cell))
    folded = [cell.source for cell in code_of(page(name)) if "hide-input" in tags(cell)]
    assert any("plotting.show(figure)" in source for source in folded)  # drawing is folded


@pytest.mark.parametrize("name", WRITTEN)
def test_prose_stands_in_text_cells(name):
    document = page(name)
    for cell in code_of(document):
        assert prose_in_code(cell.source) == []
    text = "\n".join(cell.source for cell in document.cells if cell.cell_type == "markdown")
    for part in ("**Question.**", "## Definition", "## What we see", "## Limits", "## Exercise"):
        assert part in text, part
    if name in FIGURES:
        assert "\n## Claims" in text and f"**Figure {caption_name(name)}.**" in text
        assert "(Written for the committed run, profile `laptop`." in text


@pytest.mark.parametrize("name", WRITTEN)
def test_the_call_that_matters_is_visible(name):
    source = "\n".join(cell.source for cell in visible(page(name)))
    calls = {
        ast.unparse(node.func).split(".")[-1]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    }
    assert calls & (U_TURNS | OF_COMPANIONS)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_exercise_is_checked_and_solved(name):
    code = code_of(page(name))
    solved, asked = code[-1], code[-2]
    assert (
        asked.source.startswith("answer = None")
        and f'check_exercise("{name}", answer)' in asked.source
    )
    assert "solution" in tags(solved) and "hide-input" in tags(solved)
    assert f'assert check_exercise("{name}"' in solved.source


def test_every_written_page_has_its_exercise():
    assert set(EXERCISES) == set(WRITTEN)


@pytest.mark.parametrize(
    "source, wrong",
    [
        ('x = f"T is {a if b else c}"', 1),
        ('display(Markdown(f"T is {a}"))', 1),
        ('axes.text(1, 2, f"{a:.2g}")\ny = a if b else c', 0),
    ],
)
def test_prose_in_code_is_found(source, wrong):
    assert len(prose_in_code(source)) == wrong


# --------------------------------------------------------------------------- the check of exercises


def truth_of(name):
    """The truth in the form in which an answer is given."""
    asked = EXERCISES[name]
    return asked.truth if asked.of_sigma else np.atleast_1d(asked.truth())


def changed(truth, change):
    return (lambda sigma: change(truth(sigma), sigma)) if callable(truth) else change(truth, 1.0)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_truth_is_right_and_no_answer_is_none(name):
    assert check_exercise(name, truth_of(name))
    assert not check_exercise(name, None) and "No answer" in str(check_exercise(name, None))


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    "change, kind",
    [
        (lambda value, _: -value, "sign"),
        (lambda value, _: value * 2, "factor"),
        (lambda value, _: value * 0.0 + np.nan, "not finite"),
    ],
)
def test_a_wrong_answer_gets_the_kind_of_its_error_and_no_number(name, change, kind):
    found = check_exercise(name, changed(truth_of(name), change))
    assert not found and kind in str(found)
    assert not re.search(r"\d", str(found))  # the answer cannot leak


def test_other_kinds_of_errors_are_told_apart():
    assert "another order" in str(
        check_exercise("fig01", (0.345, 1.0, 0.4**2 / 0.75 + 0.35**2 / 0.75 + 0.25))
    )
    assert "upside down" in str(check_exercise("00", lambda sigma: 1 + sigma**2))
    assert "complement" in str(check_exercise("00", lambda sigma: sigma**2 / (1 + sigma**2)))
    assert "power of sigma" in str(check_exercise("00", lambda sigma: 1 / (1 + sigma)))
    assert "Close" in str(check_exercise("fig09", EXERCISES["fig09"].truth() * 1.05))
    assert "order of magnitude" in str(check_exercise("fig09", 300.0))
    assert "square" in str(check_exercise("fig03", EXERCISES["fig03"].truth() ** 2))
    assert "3 number(s) are asked for" in str(check_exercise("fig01", 1.0))


@pytest.mark.parametrize(
    "name, answer, error, message",
    [
        ("fig99", 1.0, ValueError, "page = 'fig99'"),
        ("00", 1.0, TypeError, "answer: a function of sigma is needed, got float"),
        ("fig09", math.sqrt, TypeError, "answer: a number, or several, is needed"),
        ("fig09", "much", TypeError, "answer: numbers are needed"),
    ],
)
def test_an_answer_of_another_kind_is_refused(name, answer, error, message):
    with pytest.raises(error, match=message):
        check_exercise(name, answer)


def test_truths_agree_with_u_turns_of_the_library():
    """The closed forms behind two exercises, measured."""
    import torch

    from uturn_lib import GaussianDenoiser, GaussianMixtureDenoiser, u_turn

    line, same = (
        GaussianDenoiser(torch.zeros(1), torch.eye(1)),
        torch.ones(3000, 1, dtype=torch.float64),
    )
    clouds = GaussianMixtureDenoiser([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.5])
    wrong = torch.ones(3000, dtype=torch.long)
    for sigma in LEVELS[2:4]:
        for denoiser, x0, labels, name in (
            (line, same, None, "00"),
            (clouds, -same, wrong, "fig05"),
        ):
            y0 = u_turn(denoiser, x0, sigma, steps=40, labels=labels, batch_size=3000).y0
            error = float(y0.std()) / 3000**0.5
            assert abs(float(y0.mean()) - EXERCISES[name].truth(sigma)) < 4 * error


def test_one_exercise_for_a_page():
    with pytest.raises(ValueError, match="page = 'fig09' has an exercise already"):
        exercises.exercise("fig09")(lambda: 1.0)


# ------------------------------------------------------------------------------------------- tables


def test_tables_show_values_intervals_and_what_was_not_seen():
    nan, inf = math.nan, math.inf
    table = numbers_table(
        {
            "$T_m$": Estimate(1.834, 1.726, 1.94),
            "$T_s$": Estimate(nan, nan, nan),
            "far": Estimate(inf, 3.0, inf),
            "exact": 0.5,
            "text": "12",
        }
    )
    assert table._repr_markdown_().splitlines() == [
        "| quantity | value | 95 % interval |",
        "|---|---|---|",
        "| $T_m$ | 1.83 | [1.73, 1.94] |",
        "| $T_s$ | not testable here |  |",
        "| far | beyond the grid | [3.00, inf] |",
        "| exact | 0.50 |  |",
        "| text | 12 |  |",
    ]
    rows = curves_table(
        "sigma", (0.5, 2.0), {"C": [Estimate(0.5, 0.4, 0.6)] * 2, "G": [0.25, 0.125]}, digits=1
    )
    assert rows.splitlines()[2] == "| 0.5 | 0.5 [0.4, 0.6] | 0.2 |"
    assert curves_table("method", ["sde"], {"calls": ["31"]}).splitlines()[2] == "| sde | 31 |"


def test_tables_refuse_what_they_cannot_show():
    with pytest.raises(ValueError, match="numbers is empty"):
        numbers_table({})
    with pytest.raises(TypeError, match="an Estimate, a number or text"):
        numbers_table({"a": [1.0]})
    with pytest.raises(ValueError, match=r"curves\['C'\] has 1 values for 2 levels"):
        curves_table("sigma", (1.0, 2.0), {"C": [0.5]})
