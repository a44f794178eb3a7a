"""Sweeps on many workers: measured on this machine, and simulated to 1,000 for the profile `paper`.

    .venv/bin/python benchmarks/workers.py measure   efficiency of 2 workers, overhead of a chunk
    .venv/bin/python benchmarks/workers.py simulate  workers.png, from what was measured

Both write benchmarks/workers.json. The simulation deals out the chunks that `uturn cost` counts, as
the scheduler does: in order, to whoever is free. Its assumptions are the fields of `Assumed`.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from empty import empty, nothing

from uturn_lib import experiments
from uturn_lib.experiments import engine
from uturn_lib.reports import cost
from uturn_lib.support import cluster
from uturn_lib.support.files import atomic_path, read_json, write_json

RESULTS, FIGURE = (Path(__file__).with_name(name) for name in ("workers.json", "workers.png"))

# ---------------------------------------------------------------------------------------- measured


def overhead(address: str, count: int) -> dict[str, float]:
    """Milliseconds per empty task and per empty chunk, of ``count``: by the clock, and of processor
    time in this process, where client and scheduler run (on a busy machine the clock says little).
    """
    os.environ[cluster.VARIABLE] = address
    cluster.connected(address)
    tasks = [cluster.Task(f"nothing-{number}", (number,)) for number in range(count)]
    chunks = empty.chunks([{"number": number} for number in range(count)])
    times = {}
    for name, work in (
        ("task", lambda: list(cluster.spread(nothing, tasks))),
        ("chunk", lambda: engine.run_chunks(chunks, "empty chunks")),
    ):
        begun = time.perf_counter(), time.process_time()
        work()
        times[f"{name}_ms"] = 1000 * (time.perf_counter() - begun[0]) / count
        times[f"{name}_cpu_ms"] = 1000 * (time.process_time() - begun[1]) / count
    return times


def seconds_of_sweep(address: str, workers: int, seed: int) -> tuple[float, float]:
    """Wall time of a sweep of 16 chunks with the laptop's network, and the share of the workers'
    time that they spent in chunks."""
    os.environ[cluster.VARIABLE] = address
    study = experiments.prepare("laptop", "cpu")
    options = {"sigmas": (2.0,), "steps": 24, "chunk": 10, "seed": seed}
    plan = experiments.u_turn_sweep.plan(study, study.test.take(160), **options)
    begun = time.perf_counter()
    plan.run()
    wall = time.perf_counter() - begun
    inside = sum(float(np.load(chunk.path)["seconds"]) for chunk in plan.chunks)
    return wall, inside / wall / workers


def efficiency(one: str, two: str, rounds: int) -> dict[str, object]:
    """One worker against two of one thread each, in turn; every round computes new samples."""
    for address, workers in ((one, 1), (two, 2)):  # every worker loads the network once
        seconds_of_sweep(address, workers, seed=10**6 + workers)
    ratios, busy = [], defaultdict(list)
    for number in range(rounds):
        walls = {}
        for address, workers in ((one, 1), (two, 2)):
            walls[workers], share = seconds_of_sweep(address, workers, 2 * number + workers)
            busy[workers].append(share)
        ratios.append(walls[1] / walls[2] / 2)
        print(
            f"round {number}: {walls[1]:.1f} s and {walls[2]:.1f} s, {ratios[-1]:.2f}", flush=True
        )
    return {
        "efficiency": statistics.median(ratios),
        "efficiency_rounds": ratios,
        "busy_1": statistics.median(busy[1]),
        "busy_2": statistics.median(busy[2]),
    }


def measure(rounds: int, count: int) -> dict[str, object]:
    """All that is measured here; ``load`` says how quiet the machine was."""
    found: dict[str, object] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with cluster.Workers(count=1).start(1, Path(".")) as one:
        with cluster.Workers(count=2).start(2, Path(".")) as two:
            found |= overhead(two, count)
            print(json.dumps(found), flush=True)
            found |= efficiency(one, two, rounds)
    return found


# --------------------------------------------------------------------------------------- simulated


@dataclass(frozen=True)
class Assumed:
    """What the simulation takes as given; times in seconds."""

    # Images per second and worker of one network call, on a card of 2022 or newer. No card was at
    # hand: `make cost DEVICE=cuda` says what yours does, and all times scale with it.
    imagenet64: float = 800.0
    cifar10_edm: float = 5000.0
    jitter: float = 0.05  # standard deviation of the logarithm of a chunk's time
    stragglers: float = 0.02  # share of chunks that take `slower` times as long
    slower: float = 3.0
    failures: float = 0.01  # per worker and hour: its chunk is lost
    replaced: float = 120.0  # until a new worker is there
    loading: float = 60.0  # start of Python, loading and compiling the network, on every worker
    overhead: float = 0.005  # of the scheduler, per chunk, one after the other
    notebooks: int | None = None  # sweeps at a time; None: all chunks are one list


def paper_sweeps(assumed: Assumed) -> list[list[float]]:
    """Seconds of the chunks of every figure of the profile `paper` on a GPU."""
    rates = {"imagenet64": assumed.imagenet64, "cifar10-edm": assumed.cifar10_edm}
    found = cost.chunks_per_figure("paper", "cuda").values()
    return [[calls / rates[part.split("/")[1]] for calls in chunks] for part, chunks in found]


def resized(sweeps: list[list[float]], longest: float) -> list[list[float]]:
    """The same work with no chunk above ``longest`` seconds: such ones are split evenly."""
    split = lambda one: [one / (n := max(1, int(np.ceil(one / longest))))] * n  # noqa: E731
    return [[part for one in sweep for part in split(one)] for sweep in sweeps]


def simulate(sweeps: list[list[float]], workers: int, assumed: Assumed, seed: int = 0) -> float:
    """Makespan in seconds.

    Events: worker w is free at time t. It takes the next chunk of the first sweep that is open;
    at most ``notebooks`` sweeps are open at once, and the next one opens when one is complete.
    """
    rng = np.random.default_rng(seed)
    waiting = [list(reversed(sweep)) for sweep in sweeps if sweep]
    left = [len(sweep) for sweep in waiting]
    opened = len(waiting) if assumed.notebooks is None else min(assumed.notebooks, len(waiting))
    free = [(assumed.loading * rng.uniform(0.8, 1.5), w) for w in range(workers)]
    heapq.heapify(free)
    idle: list[int] = []
    running: list[tuple[float, int, int, float]] = []  # end, worker, sweep, seconds
    desk = end = 0.0  # when the scheduler has dealt with what came before

    def offer(now: float, worker: int) -> bool:
        nonlocal desk
        which = next((s for s in range(opened) if waiting[s]), None)
        if which is None:
            return False
        seconds = waiting[which].pop()
        desk = max(desk, now) + assumed.overhead
        slow = assumed.slower if rng.random() < assumed.stragglers else 1.0
        takes = seconds * slow * rng.lognormal(0.0, assumed.jitter)
        dies = rng.exponential(3600 / assumed.failures) if assumed.failures else np.inf
        if dies < takes:
            heapq.heappush(running, (desk + dies, worker, -1 - which, seconds))
        else:
            heapq.heappush(running, (desk + takes, worker, which, seconds))
        return True

    while any(left):
        if free and (not running or free[0][0] <= running[0][0]):
            now, worker = heapq.heappop(free)
            if not offer(now, worker):
                idle.append(worker)
            continue
        now, worker, which, seconds = heapq.heappop(running)
        if which < 0:  # the worker died: its chunk is to be done again
            waiting[-1 - which].append(seconds)
            heapq.heappush(free, (now + assumed.replaced + assumed.loading, worker))
        else:
            left[which] -= 1
            end = max(end, now)
            if not left[which]:
                opened = min(opened + 1, len(waiting))
            heapq.heappush(free, (now, worker))
        while idle and any(waiting[s] for s in range(opened)):
            heapq.heappush(free, (now, idle.pop()))
    return end


COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
LONGEST = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, np.inf)  # seconds of the longest chunk


def table(sweeps, assumed: Assumed, repeats: int = 5) -> list[dict[str, float]]:
    """Makespan (median of ``repeats``) and efficiency for all numbers of workers."""
    work, rows = sum(map(sum, sweeps)), []
    for count in COUNTS:
        span = statistics.median(simulate(sweeps, count, assumed, s) for s in range(repeats))
        rows.append({"workers": count, "makespan_s": span, "efficiency": work / span / count})
    return rows


def simulations(assumed: Assumed) -> dict[str, object]:
    """The paper profile as it is, by notebooks, and in chunks of other sizes."""
    sweeps = paper_sweeps(assumed)
    one_list, two = assumed, replace(assumed, notebooks=2)
    found: dict[str, object] = {
        "assumed": asdict(assumed),
        "hours_of_work": sum(map(sum, sweeps)) / 3600,
        "chunks": sum(map(len, sweeps)),
        "one list": table(sweeps, one_list),
        "two notebooks": table(sweeps, two),
        "eight notebooks": table(sweeps, replace(assumed, notebooks=8)),
    }
    found["longest chunk"] = {
        str(longest): table(resized(sweeps, longest), one_list) for longest in LONGEST
    }
    return found


def draw(found: dict, path: Path) -> None:
    """Makespan and efficiency against workers; best size of a chunk."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    lines = {
        "all chunks in one list": found["one list"],
        "8 notebooks at a time": found["eight notebooks"],
        "2 notebooks at a time": found["two notebooks"],
        "one list, no chunk above 5 s": found["longest chunk"]["5.0"],
    }
    for (name, rows), style in zip(lines.items(), ("-", "--", ":", "-."), strict=True):
        counts = [row["workers"] for row in rows]
        left.loglog(counts, [row["makespan_s"] / 60 for row in rows], style, label=name)
        middle.semilogx(counts, [row["efficiency"] for row in rows], style, label=name)
    ideal = found["hours_of_work"] * 60
    left.loglog(COUNTS, [ideal / n for n in COUNTS], color="0.7", lw=1, label="work / workers")
    left.set(xlabel="workers", ylabel="minutes", title="makespan")
    middle.set(xlabel="workers", ylabel="work / (makespan x workers)", title="efficiency")
    middle.axhline(0.5, color="0.7", lw=1)
    left.legend(fontsize=7)
    for number in (16, 64, 256, 1000):
        spans = [
            next(row["makespan_s"] for row in rows if row["workers"] == number) / 60
            for rows in found["longest chunk"].values()
        ]
        longest = [min(float(one), 320.0) for one in found["longest chunk"]]
        right.loglog(longest, spans, "o-", ms=3, label=f"{number} workers")
    right.set(xlabel="seconds of the longest chunk", ylabel="minutes", title="size of a chunk")
    right.legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "simulate"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--empty", type=int, default=10_000, help="chunks without work")
    options = parser.parse_args()
    known = read_json(RESULTS) if RESULTS.is_file() else {}
    if options.what == "measure":
        import tempfile

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"UTURN_CACHE": folder, "UTURN_PROGRESS": "off"}
            known["measured"] = measure(options.rounds, options.empty)
        print(json.dumps(known["measured"], indent=1))
    else:
        overhead = known.get("measured", {}).get("chunk_cpu_ms", 5.0) / 1000
        known["simulated"] = simulations(Assumed(overhead=overhead))
        draw(known["simulated"], FIGURE)
    write_json(RESULTS, known)


if __name__ == "__main__":
    main()
