"""The table of sweeps behind every figure is what the notebooks really ask for."""

import json
import os
from collections import Counter

import numpy as np
import pytest
from command_line import command

from uturn_lib import experiments
from uturn_lib.reports import cost, run
from uturn_lib.support.places import cache_folder

FIGURES = [run.figure_of(path) for path in run.find_notebooks([])]
ROUGH = ("p2b",)  # its schedules follow from results: about as many calls


def asked_of(fingerprint):
    """Calls of every chunk in the cache that asks the network of ``fingerprint``, by experiment."""
    found = Counter()
    for path in cache_folder().glob("*/[!.]*.npz"):
        if path.parent.name == "data":
            continue
        with np.load(path, allow_pickle=False) as stored:
            parameters = json.loads(str(stored["parameters"])) if "parameters" in stored else {}
            if str(parameters.get("bench", "")).startswith(fingerprint) and int(stored["calls"]):
                found[parameters["experiment"], int(stored["calls"])] += 1
    return found


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.skipif(
    os.environ.get("UTURN_SLOW") is None,
    reason="set UTURN_SLOW=1 to run the notebooks at the smallest scale",
)
def test_the_table_is_what_the_notebook_asks_for(figure, monkeypatch):
    """The notebook runs with an empty cache; what it leaves there is what the table says, with the
    T_m and T_s that were measured."""
    monkeypatch.setenv("UTURN_SCALE", "smoke")
    done = command("figures", figure, "--profile", "laptop", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    study = experiments.prepare("laptop", "cpu")
    asked = asked_of(study.fingerprint)
    sweep = experiments.conditional(study) if figure in ("fig06", "fig07") else None
    plans = cost.FIGURES[figure](study, experiments.transitions(study, sweep=sweep))
    planned = {chunk.name: chunk for plan in plans for chunk in plan.chunks}
    expected = Counter((chunk.experiment.name, chunk.calls) for chunk in planned.values())
    if figure in ROUGH:
        total, guess = (
            sum(calls * n for (_, calls), n in count.items()) for count in (asked, expected)
        )
        assert 0.7 < total / guess < 1.4
    else:
        assert asked == expected


def test_the_time_of_many_workers_is_that_of_list_scheduling():
    """Equal tasks in closed form; any tasks within Graham's bounds."""
    assert cost.makespan([3.0] * 10, 4) == 9.0
    seconds = np.random.default_rng(0).lognormal(size=200).tolist()
    assert cost.makespan(seconds, 1) == pytest.approx(sum(seconds))
    assert cost.makespan(seconds, 200) == max(seconds)
    for workers in (2, 7, 50):
        lowest = max(sum(seconds) / workers, max(seconds))
        found = cost.makespan(seconds, workers)
        assert lowest <= found * (1 + 1e-12) and found <= lowest * (2 - 1 / workers)


def test_most_sweeps_of_the_paper_are_in_chunks_of_5_to_60_seconds():
    """On a GPU, at 800 images per second for ImageNet-64 and 5,000 for CIFAR-10 (assumed)."""
    rates = {"paper/imagenet64": 800, "paper/cifar10-edm": 5000}
    chunks = cost.chunks_per_figure("paper", "cuda").values()
    seconds = np.array([calls / rates[part] for part, counts in chunks for calls in counts])
    low, high = cost.CHUNK_SECONDS
    inside = seconds[(low <= seconds) & (seconds <= high)]
    assert inside.sum() > 0.7 * seconds.sum() and len(inside) > 0.7 * len(seconds)


def test_workers_are_in_the_printed_table(capsys):
    import torch

    cost.show("laptop", torch.device("cpu"), rate=150.0, workers=[3])
    printed = capsys.readouterr().out
    assert "| 3 | " in printed and "A chunk takes" in printed
    with pytest.raises(ValueError, match="workers = 0"):
        cost.show("laptop", torch.device("cpu"), rate=150.0, workers=[0])
