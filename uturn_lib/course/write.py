"""Student versions and solutions of the lessons, written from the instructor notebooks.

In an instructor notebook a solution stands between two marks, as in nbgrader:

    ### BEGIN SOLUTION
    return x0 + sigma * eps
    ### STUB
    # return x0 + sigma**2 * eps
    ### END SOLUTION

The student finds the commented lines below STUB instead, or a TODO where there are none. Cells
tagged "instructor" are for the lecturer alone. The student version has no outputs of cells tagged
"exercise", "check" or "measured" (what was to be predicted), the solutions none of "slider" cells
(large). The solutions say so in their title. Both begin with a badge and an installing cell for
Colab.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from ..support import checks
from ..support.places import ROOT, needs_checkout

COURSE = ROOT / "notebooks" / "course"
MARKED = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"^# (?=Lesson \d)", re.MULTILINE)
WITHOUT_OUTPUT = {"exercise", "check", "measured"}  # in the student version
ASSIGNED = re.compile(r"^(\w+) = ", re.MULTILINE)
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"
NO_BADGE = """\
*This copy does not know the public address of its repository. To run it in Google Colab, upload it
there together with the wheel `{wheel}`, which `pip wheel --no-deps .` makes.*"""
COLAB = """\
# In Google Colab this cell installs the library. Elsewhere it does nothing.
import subprocess
import sys

LIBRARY = {library!r}
if "google.colab" in sys.modules:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", LIBRARY], check=True)"""


def instructor_notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The sources of the lessons ("lesson1", ...), of all when ``names`` is empty.

    Raises ``ValueError`` for an unknown name, ``FileNotFoundError`` where there is no checkout.
    """
    folder = needs_checkout("the lessons") / "notebooks" / "course" / "instructor"
    known = {path.stem.partition("_")[0]: path for path in sorted(folder.glob("*.ipynb"))}
    for name in names:
        checks.one_of("lesson", name, known)
    return [known[name] for name in names or known]


def write() -> list[Path]:
    """Write the student version and the solutions of every lesson; returns their paths."""
    import nbformat

    written = []
    for source in instructor_notebooks():
        for solved in (False, True):
            path = COURSE / ("solutions" if solved else "") / source.name
            path.parent.mkdir(exist_ok=True)
            nbformat.write(derived(source, solved), path)
            written.append(path)
    return written


def derived(source: Path, solved: bool, repository: str | None = None) -> Any:
    """The solutions (``solved``) or the student version of an instructor notebook, as a notebook.

    ``repository``: its public address, by default that of CITATION.cff, if any.
    """
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    cells = [cell for cell in notebook.cells if "instructor" not in tags(cell)]
    for cell in cells:
        cell.source = with_solution(cell.source) if solved else with_stub(cell.source)
        if solved:
            cell.source = TITLE.sub("# Solutions of ", cell.source)
            if "slider" in tags(cell):
                cell.outputs = []
        if not solved:
            cell.source = cell.source.replace("](../../", "](../")  # one folder less deep
            if WITHOUT_OUTPUT & set(tags(cell)):
                cell.outputs, cell.execution_count = [], None
    folder = "notebooks/course/solutions" if solved else "notebooks/course"
    first = colab_cells(f"{folder}/{source.name}", repository or cited("repository-code"))
    notebook.cells = [*first, *cells]
    if solved:  # as in a run from top to bottom; the installing cell did nothing
        run = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(run, 1):
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number
    return notebook


def tags(cell: Any) -> list[str]:
    """The tags of a notebook's cell."""
    return cell.metadata.get("tags", [])


def with_solution(text: str) -> str:
    """``text`` without the marks and the stubs."""
    return MARKED.sub(lambda found: found[2].split(f"{found[1]}### STUB\n")[0].rstrip("\n"), text)


def with_stub(text: str) -> str:
    """``text`` with every solution replaced by its stub, or by a TODO."""
    return MARKED.sub(_stub, text)


def _stub(found: re.Match[str]) -> str:
    margin = found[1]
    solution, _, stub = found[2].partition(f"{margin}### STUB\n")
    if stub:
        return re.sub(rf"^{margin}# ?", margin, stub, flags=re.MULTILINE).rstrip("\n")
    names = [] if margin else ASSIGNED.findall(solution)
    todo = [f"{name} = None  # TODO" for name in names] or ['raise NotImplementedError("TODO")']
    return indent("\n".join(todo), margin)


def cited(field: str) -> str | None:
    """A field of CITATION.cff, such as ``repository-code``; None where it is not there."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(rf'^{field}: "?([^"\s]+)', text, re.MULTILINE)
    return found[1] if found else None


def colab_cells(path: str, repository: str | None) -> list[Any]:
    """The badge, and the cell that installs ``repository``'s library when it runs in Colab."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    library = f"uturn_lib-{cited('version')}-py3-none-any.whl"
    badge = NO_BADGE.format(wheel=library)
    if repository:
        name = repository.removeprefix("https://github.com/").removesuffix(".git")
        address = f"https://colab.research.google.com/github/{name}/blob/main/{path}"
        library, badge = f"uturn-lib @ git+{repository}", BADGE.format(address=address)
    return [
        new_markdown_cell(badge, id="badge"),
        new_code_cell(COLAB.format(library=library), id="colab", metadata={"tags": ["colab"]}),
    ]
