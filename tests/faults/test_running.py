"""A notebook that fails, a kernel that dies, a pipe that is closed or full: the run says which, the
rest is done, and its exit status is not 0."""

import os
import subprocess
import sys

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from scale import LONG

from uturn_lib.reports import run
from uturn_lib.support.places import ROOT

CELLS = {
    "fig90_good": "answer = 42",
    "fig91_fails": "raise ArithmeticError('no answer')",
    "fig92_dies": "import os; os.kill(os.getpid(), 9)",
    "fig93_good": "answer = 43",
}


def test_what_fails_is_named_and_the_rest_is_done(tmp_path):
    tasks = []
    for name, cell in CELLS.items():
        nbformat.write(new_notebook(cells=[new_code_cell(cell)]), tmp_path / f"{name}.ipynb")
        tasks.append((tmp_path / f"{name}.ipynb", tmp_path / "executed" / f"{name}.ipynb", {}))
    done = []
    with pytest.raises(RuntimeError) as caught:
        for source, _ in run.execute_all(tasks, jobs=2):
            done.append(source.stem)
    said = str(caught.value)
    assert sorted(done) == ["fig90_good", "fig93_good"]
    assert "2 of 4 notebooks are done" in said
    assert "fig91_fails.ipynb, cell 0: ArithmeticError: no answer" in said
    assert "fig92_dies.ipynb: its process has died" in said
    assert not run.KERNELS and not [
        one for one in psutil.Process().children(recursive=True) if "ipykernel" in one.cmdline()
    ]


PROGRAM = """
import sys
from uturn_lib import cli
from uturn_lib.reports import run
def fail(*_): raise RuntimeError("1 of 2 notebooks are done; failed: fig91.ipynb, cell 1: no")
run.figures = fail
sys.exit(cli.main(["figures", "fig01"]))
"""


def test_the_exit_status_of_a_failed_run_is_1():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: 1 of 2 notebooks are done")


@pytest.mark.parametrize("output", ["closed", "full"] if LONG else ["full"])
def test_an_output_that_takes_nothing_ends_the_run_with_an_error(output):
    if output == "full" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full" if output == "full" else writing, "w") as stdout:
        if output == "full":
            os.close(writing)
        done = subprocess.run(
            [sys.executable, "-m", "uturn_lib", "figures", "fig01", "--device", "cpu"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"UTURN_SCALE": "smoke"},
            timeout=300,
        )
    assert done.returncode != 0 and "error: " in done.stderr and "Traceback" not in done.stderr
