"""The notebooks as documents, and how they are found and run."""

import os

import nbformat
import pytest
from command_line import command

from uturn_lib.reports import run
from uturn_lib.support import progress
from uturn_lib.support.places import ROOT, figure_folder

NOTEBOOKS = run.find_notebooks([])


@pytest.mark.skipif(
    "CI" not in os.environ and os.environ.get("UTURN_SLOW") is None,
    reason="set UTURN_SLOW=1 to run a whole figure here as well",
)
def test_a_single_figure_runs(tmp_path):
    done = command("figures", "fig01", "-p", "pairs", "500")
    assert done.returncode == 0, done.stderr
    assert {"fig01_scheme.png", "fig01_scheme.pdf"} == {
        path.name for path in figure_folder("laptop").iterdir()
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_is_a_page(path):
    """The parts that every page has, outputs committed, nothing of the machine it ran on."""
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in document.cells if cell.cell_type == "markdown")
    for part in (
        "**Question.**",
        "## Definition",
        "## What the paper reports",
        "## Claims",
        "## Limits",
        "## Exercise",
    ):
        assert part in prose, f"{path.stem} lacks {part}"
    assert all(
        cell.execution_count is not None for cell in code
    )  # nbval compares nothing in cells that were never run
    assert any("NBVAL_CHECK_OUTPUT" in cell.source for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(
        output.output_type == "error" or output.get("name") == "stderr" for output in outputs
    )
    assert document.metadata.kernelspec.name == "python3"
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert (
        len(parameters) == 1
        and 'profile = "laptop"' in parameters[0].source
        and 'device = "auto"' in parameters[0].source
    )
    assert str(ROOT) not in path.read_text(encoding="utf-8") and "/home/" not in path.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_plain_literals(path):
    import ast

    document = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in document.cells if "parameters" in cell.metadata.get("tags", [])]
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(
            statement.value
        )  # papermill does not recompute what is derived in this cell


def test_notebooks_are_found_by_figure_file_and_group():
    def found(*names):
        return [run.figure_of(path) for path in run.find_notebooks(list(names))]

    files = {
        path.stem
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if not {".ipynb_checkpoints", "course"} & set(path.parts)  # the course makes no figure
    }
    lessons = {path.stem for path in run.LESSONS}
    assert lessons and {path.stem for path in NOTEBOOKS} | lessons == files  # none is forgotten
    assert found("fig08") == found("fig08_autocorrelation") == ["fig08"] and found("p3a") == ["p3a"]
    assert found("p3") == [name for name in found("companions") if name.startswith("p3")] != []
    assert found("beyond") == [name for name in found() if name.startswith("b")] != []
    assert found("paper") + found("companions") + found("beyond") == found()
    assert len(found("paper")) == 16
    assert found("p3a", "p3") == found("p3")  # asked for twice, run once
    for wrong in ("p", "fig", "p9", "fig1"):
        with pytest.raises(ValueError, match="is not known; choose among fig01.*companions"):
            run.find_notebooks([wrong])


def test_parameters_are_read_as_literals_or_text():
    assert run.parse_parameters([["seed", "3"], ["device", "cpu"], ["level", "0.1"]]) == {
        "seed": 3,
        "device": "cpu",
        "level": 0.1,
    }


def test_progress_goes_to_the_file_that_make_figures_reads(tmp_path, monkeypatch):
    file = tmp_path / "progress.txt"
    monkeypatch.setenv("UTURN_PROGRESS_FILE", str(file))
    seen = [file.read_text() for _ in progress.track(range(3), "turning")]
    assert seen == ["0 3 turning", "1 3 turning", "2 3 turning"]


def test_the_page_of_figures_collects_what_the_notebooks_say(tmp_path):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    said = new_output(
        "display_data", {"text/markdown": "**Figure 2.** Caption.\n\n## What we see\n\n* It falls."}
    )
    table = new_output("execute_result", {"text/markdown": "| quantity | value |"})
    written = [
        new_markdown_cell("**Figure 2.** In a cell."),
        new_markdown_cell("## What we see\n\nOn a laptop."),
    ]
    other = new_output("display_data", {"text/markdown": "**C1** holds"})
    cells = [new_code_cell("x", outputs=[said, other, table]), *written]
    nbformat.write(new_notebook(cells=cells), tmp_path / "fig02_ks_test.ipynb")
    figure_folder("laptop").mkdir(parents=True)
    (figure_folder("laptop") / "fig02_ks_test.png").write_bytes(b"")
    page = run.figures_page("laptop", [tmp_path / "fig02_ks_test.ipynb"])
    assert (
        "![fig02_ks_test](fig02_ks_test.png)\n\n**Figure 2.** Caption.\n\n### What we see" in page
    )
    assert "In a cell." in page and "| quantity | value |" in page and "On a laptop" not in page
    assert "holds" not in page and "(../../notebooks/fig02_ks_test.ipynb)" in page


def test_the_page_of_figures_knows_the_companions(tmp_path):
    from nbformat.v4 import new_notebook

    nbformat.write(new_notebook(), tmp_path / "p3a_trajectories.ipynb")
    page = run.figures_page("laptop", [tmp_path / "p3a_trajectories.ipynb"])
    assert "## Figure P3a" in page and "(../../notebooks/companions/p3a_trajectories.ipynb)" in page
    nbformat.write(new_notebook(), tmp_path / "b1_instruments.ipynb")
    page = run.figures_page("laptop", [tmp_path / "b1_instruments.ipynb"])
    assert "## Figure B1" in page and "(../../notebooks/beyond/b1_instruments.ipynb)" in page
