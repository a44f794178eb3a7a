"""A whole figure through a real SLURM of one node, with a job that is cancelled meanwhile."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from uturn_lib.support.places import ROOT

SCRIPT = ROOT / "tests" / "cluster" / "one_node.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
missing = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(
        bool(missing),
        reason=f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge",
    ),
    pytest.mark.skipif(not missing and os.geteuid() != 0, reason="SLURM is started by root only"),
]

LINES = """
partition = "test"
workers = 2
memory = "900MB"
walltime = "00:30:00"
prologue = ["export UTURN_PROLOGUE_WAS_HERE=1"]
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The path of the TOML file of a cluster that runs."""
    pytest.importorskip("dask_jobqueue", reason="pip install 'uturn-lib[cluster]'")
    folder = tmp_path / "slurm"
    folder.mkdir()
    started = subprocess.run(
        [SCRIPT, "start", folder, "2"], capture_output=True, text=True, timeout=120
    )
    if started.returncode:
        pytest.skip(f"SLURM does not start here: {started.stderr[-300:]}")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    (folder / "one.toml").write_text(LINES)
    yield folder / "one.toml"
    subprocess.run([SCRIPT, "stop", folder], timeout=60)


def jobs():
    """Numbers of the jobs that run."""
    listed = ["squeue", "--noheader", "--states=running", "--format=%A"]
    return subprocess.run(listed, capture_output=True, text=True).stdout.split()


def figure(name, folder, *options):
    """`uturn figures`, begun, with cache and figures of its own."""
    own = {"UTURN_CACHE": str(folder / "cache"), "UTURN_FIGURES": str(folder / "figures")}
    words = ["figures", name, "--device", "cpu", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "uturn_lib", *words],
        cwd=ROOT,
        env=os.environ | own | {"UTURN_SCALE": "smoke"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def numbers(folder):
    """Measured values of the ledger, by claim."""
    (ledger,) = folder.rglob("claims.json")
    return {entry["id"]: entry["measured"] for entry in json.loads(ledger.read_text())}


def test_a_figure_through_slurm_is_the_figure(slurm, tmp_path):
    by_slurm, alone = tmp_path / "by_slurm", tmp_path / "alone"
    run = figure("fig09", by_slurm, "--cluster", str(slurm))
    end, cancelled = time.monotonic() + 900, []
    while run.poll() is None and time.monotonic() < end:
        finished = list((by_slurm / "cache" / "u_turns").glob("[!.]*.npz"))
        if not cancelled and len(finished) >= 2 and len(jobs()) == 2:
            cancelled = jobs()[:1]  # as a node that is lost; the cluster asks for another
            subprocess.run(["scancel", "--signal=KILL", *cancelled])
        time.sleep(0.2)
    output = run.communicate(timeout=900)[0]
    assert run.returncode == 0, output
    assert cancelled and "sweeps: 2 workers of SLURM" in output
    assert not jobs(), "jobs are left"

    run = figure("fig09", alone)
    output = run.communicate(timeout=900)[0]
    assert run.returncode == 0, output
    assert numbers(by_slurm) == numbers(alone)
