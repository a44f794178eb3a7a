"""Sweeps on the workers of Dask: the same results, whoever computes them and whatever is killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from test_experiments import numbered, starts_from

from uturn_lib import GaussianDenoiser, cli, experiments
from uturn_lib.experiments import engine
from uturn_lib.support import cluster
from uturn_lib.support.cluster import Slurm, Workers
from uturn_lib.support.places import ROOT, cache_folder

try:
    import distributed
except ModuleNotFoundError:
    distributed = None
needs_dask = pytest.mark.skipif(
    distributed is None, reason="the extra is missing: pip install 'uturn-lib[cluster]'"
)


class Slow:
    """A Gaussian's denoiser that takes its time, and does not forget to be exact."""

    fingerprint, sample_shape = "slow standard normal", (6,)

    def __init__(self, seconds=0.01):
        self.seconds, self.exact = seconds, GaussianDenoiser(torch.zeros(6), torch.eye(6))

    def __call__(self, x, sigma, labels=None):
        time.sleep(self.seconds)
        return self.exact(x, sigma, labels)


def sweep(seconds=0.01, **options):
    """Forty U-Turns in twenty chunks, about twenty calls each."""
    slow = Slow(seconds)
    bench, starts = experiments.Workbench.around(slow), starts_from(slow.exact, 40)
    return experiments.u_turn_sweep(bench, starts, (1.0,), steps=20, chunk=2, **options)


def stored():
    return {path: path.stat().st_mtime_ns for path in cache_folder().rglob("[!.]*.npz")}


# ------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    "asked, said",
    [
        (dict(count=0), "workers = 0 must be a whole number of at least 1"),
        (dict(scheduler="host:8786"), "must be an address as tcp://host:8786"),
        (dict(scheduler="tcp://host:1", count=2), "brings its own workers"),
        (dict(scheduler="tcp://host:1", cluster="slurm"), "brings its own workers"),
        (dict(count=2, device="cuda:1"), "every worker takes one of its own"),
    ],
)
def test_what_is_not_possible_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        Workers.choose(**asked)


def test_without_a_word_nothing_changes():
    workers = Workers.choose()
    assert workers == Workers() and workers.words == ""
    with workers.start(2, Path("unused")) as address:
        assert address is None and cluster.VARIABLE not in os.environ


def test_the_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert cli.main(["figures", "fig08", "--workers", "2"]) == 2
    assert "pip install 'uturn-lib[cluster]'" in capsys.readouterr().err


def test_the_file_of_slurm_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"needs a file slurm\.toml"):
        Slurm.read("slurm")
    for lines, said in (
        ("partitions = 'gpu'", "line of slurm.toml = 'partitions' is not known"),
        ("gpus = '2'", "gpus = '2' must be a int"),
        ("workers = 0", "workers = 0 must be a whole number"),
        ("walltime = ", "damaged"),
    ):
        Path("slurm.toml").write_text(lines)
        with pytest.raises(ValueError, match=said):
            Slurm.read("slurm")
    Path("slurm.toml").write_text("partition = 'gpu'\ngpus = 4\nworkers = 8\nprologue = ['a']")
    assert Slurm.read("slurm") == Slurm(8, "gpu", gpus=4, prologue=["a"])


@needs_dask
def test_slurm_is_asked_for_whole_nodes(tmp_path, monkeypatch):
    """Eight workers on nodes of four cards: jobs of four workers, each with a card and 6 cores."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(
        "dask_jobqueue.SLURMCluster.adapt", lambda self, **asked: jobs.update(asked)
    )
    jobs = {}
    slurm = Slurm(partition="gpu", gpus=4, cpus=6, walltime="02:00:00", prologue=["module load x"])
    made = slurm.start(8, tmp_path)
    try:
        script = made.job_script()
    finally:
        made.close()
    assert jobs == {"minimum_jobs": 2, "maximum_jobs": 2}
    for line in ("-p gpu", "--gres=gpu:4", "--cpus-per-task=24", "-t 02:00:00"):
        assert f"#SBATCH {line}" in script
    for part in ("--nworkers 4", "--nthreads 1", "module load x"):
        assert part in script
    assert "OMP_NUM_THREADS=6" in script


# ------------------------------------------------------------------- what is sent, and what returns


@pytest.fixture
def in_this_process(monkeypatch):
    """A scheduler and two workers as threads: fast, and open to monkeypatch."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=":0"
    ) as made:
        monkeypatch.setenv(cluster.VARIABLE, made.scheduler_address)
        yield made
        cluster.forget()


@contextmanager
def not_shared(folder):
    yield "a name that no worker finds"


@needs_dask
@pytest.mark.parametrize("shared", [True, False])
def test_results_are_the_same_and_stored_once(in_this_process, shared, monkeypatch):
    if not shared:
        monkeypatch.setattr(cluster, "mark", not_shared)
    by_workers = sweep(0)
    found = stored()
    assert len(found) == 20 and not list(cache_folder().glob(".seen-*"))
    sweep(0)
    assert stored() == found  # the second time they are read
    monkeypatch.delenv(cluster.VARIABLE)
    monkeypatch.setenv("UTURN_CACHE", str(cache_folder().parent / "alone"))
    torch.testing.assert_close(by_workers.y0, sweep(0).y0, atol=1e-6, rtol=0)


@needs_dask
def test_images_that_levels_share_are_sent_once():
    images = torch.zeros(100, 3, 32, 32)
    slow = experiments.Workbench.around(Slow())
    rows = [{"images": images, "sigma_u": float(level)} for level in range(1, 15)]
    options = dict(labels=None, steps=4, method="sde", seed=0, first=0)
    chunks = experiments.sweeps.u_turns.chunks(rows, bench=slow, **options)
    tasks = [engine._task(chunk, Path("cache"), "mark") for chunk in chunks]
    assert len({name for task in tasks for name in task.shared}) == 2  # images, workbench
    import cloudpickle

    assert sum(len(cloudpickle.dumps(task.arguments)) for task in tasks) < images.nbytes / 20


@needs_dask
def test_the_same_chunk_twice_and_a_chunk_that_needs_another(in_this_process):
    rows = [{"number": number % 3} for number in range(6)]
    found = engine.run_chunks(numbered.chunks(rows), "test")
    assert [int(result["value"]) for result in found] == [0, 1, 2, 0, 1, 2]


@needs_dask
def test_an_error_of_a_chunk_is_raised_here_and_the_rest_is_kept(in_this_process, monkeypatch):
    def compute(number):
        if number == 2:
            raise FloatingPointError("number two")
        return {"value": np.array(number)}

    chunks = numbered.chunks([{"number": number} for number in range(6)])
    monkeypatch.setattr(numbered, "function", compute)
    with pytest.raises(FloatingPointError, match="number two"):
        engine.run_chunks(chunks, "test")
    monkeypatch.setattr(numbered, "function", lambda number: {"value": np.array(number)})
    assert [int(result["value"]) for result in engine.run_chunks(chunks, "test")] == list(range(6))


@needs_dask
def test_a_worker_with_another_version_is_refused(in_this_process, monkeypatch):
    digests = iter(range(10**6))
    monkeypatch.setattr(engine.code, "digest", lambda *things: f"changes {next(digests)}")
    with pytest.raises(RuntimeError, match="another version of uturn_lib"):
        sweep(0)


@needs_dask
def test_a_scheduler_that_does_not_answer_or_goes_away(in_this_process, monkeypatch):
    monkeypatch.setattr("distributed.Client.__init__", refused)
    with pytest.raises(ValueError, match="scheduler = 'tcp://127.0.0.1:9' does not answer"):
        cluster.connected("tcp://127.0.0.1:9")
    monkeypatch.undo()
    monkeypatch.setenv(cluster.VARIABLE, in_this_process.scheduler_address)
    monkeypatch.setenv("UTURN_CACHE", str(cache_folder()))
    threading.Timer(1.0, in_this_process.close).start()
    with pytest.raises(RuntimeError, match="is gone; what was computed is kept"):
        sweep(0.05)


def refused(*_, **__):
    raise OSError("connection refused")


# ------------------------------------------------------------------------ what breaks on the way


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def script(seconds):
    """A program that does the sweep of this file with the workers of its environment."""
    tests = ROOT / "tests"
    return (
        f"import sys; sys.path[:0] = [{str(tests)!r}, {str(tests / 'experiments')!r}]\n"
        f"import test_cluster; test_cluster.sweep({seconds})"
    )


def kill_now_and_then(made, done, times):
    """Kill -9 a random worker, ``times`` times."""
    choice = random.Random(0)
    while times and not done.wait(0.4):
        alive = [worker.pid for worker in made.workers.values() if worker.status.name == "running"]
        if alive:
            os.kill(choice.choice(alive), signal.SIGKILL)
            times -= 1


@needs_dask
def test_one_two_and_five_workers_and_killed_ones_agree(monkeypatch, tmp_path):
    """One cluster that grows, so that every process is started once."""
    alone = sweep(0).y0
    started = Workers(count=1)
    clusters = []
    monkeypatch.setattr(
        Workers,
        "_start",
        lambda *known, start=Workers._start: clusters.append(start(*known)) or clusters[0],
    )
    with started.start(1, tmp_path) as address:
        for count in (1, 2, 5):
            monkeypatch.setenv("UTURN_CACHE", str(tmp_path / str(count)))
            clusters[0].scale(count)
            cluster.connected(address).wait_for_workers(count, timeout=120)
            found = sweep(0)
            assert len(stored()) == 20
            torch.testing.assert_close(found.y0, alone, atol=1e-6, rtol=0)

        monkeypatch.setenv("UTURN_CACHE", str(tmp_path / "client"))
        client = subprocess.Popen([sys.executable, "-c", script(0.05)], cwd=ROOT)
        assert until(lambda: len(stored()) >= 3)
        client.kill()
        client.wait()
        finished = stored()

        killed = threading.Event()
        killer = threading.Thread(target=kill_now_and_then, args=(clusters[0], killed, 3))
        killer.start()
        try:
            found = sweep(0.05)
        finally:
            killed.set()
            killer.join()
        torch.testing.assert_close(found.y0, alone, atol=1e-6, rtol=0)
        assert stored().items() >= finished.items()  # what was there was not computed again
        assert len(stored()) == 20 and not list(cache_folder().rglob(".*.npz"))


@needs_dask
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_the_process_that_started_it(tmp_path):
    """kill -9 of the process with client and scheduler: its worker ends as well."""
    program = """
import sys, time
from pathlib import Path
from uturn_lib.support.cluster import Workers, connected
if __name__ == "__main__":
    with Workers(count=1).start(1, Path(".")) as address:
        print(*connected(address).run(__import__("os").getpid).values(), flush=True)
        time.sleep(600)
"""
    (tmp_path / "start.py").write_text(program)
    started = subprocess.Popen(
        [sys.executable, str(tmp_path / "start.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = Path("/proc") / started.stdout.readline().strip()
    assert worker.name != "proc" and worker.exists()
    started.kill()
    started.wait()
    assert until(lambda: not worker.exists(), 60)
