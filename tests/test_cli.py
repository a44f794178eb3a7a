"""The command ``uturn``: bad input is one clear line and a status, without waiting for torch."""

import math
import subprocess
import sys

import pytest
import torch
from command_line import command

from uturn_lib import cli, training
from uturn_lib.support.places import ROOT, figure_folder

BAD = [
    ("figures --profile desktop", "profile = 'desktop' is not known; choose one of 'laptop'"),
    ("figures fig99", "figure = 'fig99' is not known; choose among fig01"),
    ("figures fig08 -p sede 3", "parameter of fig08_autocorrelation = 'sede' is not known"),
    ("figures fig08 -p seed 3 fig99", "figure = 'fig99' is not known"),
    ("figures fig08 -p profile laptop", "parameter 'profile' is set by --profile, not by -p"),
    ("figures fig08 --device gpu", "device = 'gpu' is not a torch device"),
    ("figures fig08 --device mps", "device = 'mps' is not supported"),
    ("figures fig08 --jobs 0", "jobs = 0 must be a whole number of at least 1"),
    ("figures p2 --profile cifar10-edm", "figure = 'p2': none of them can be made with profile"),
    ("refresh fig99", "figure = 'fig99' is not known"),
    ("reference --profile desktop", "profile = 'desktop'"),
    ("quick --profile desktop", "profile = 'desktop'"),
    ("quick --device gpu", "device = 'gpu'"),
    ("cost --profile desktop", "profile = 'desktop'"),
    ("cost --device gpu", "device = 'gpu'"),
    ("train --minutes 0", "minutes = 0.0 must be positive"),
    ("train --minutes nan", "minutes = nan must be positive"),
    ("train --threads 0", "threads = 0 must be a whole number of at least 1"),
    ("train --device gpu", "device = 'gpu'"),
]
LATE = [  # these need the library, and torch with it
    ("train --profile desktop", "profile = 'desktop' is not known"),
    ("course --execute lesson9", "lesson = 'lesson9' is not known; choose one of 'lesson1'"),
    ("fetch nothing.pkl", "nothing.pkl"),
    ("convert nothing.pkl folder", "nothing.pkl"),
    ("figures fig08 --device cuda:99", "device = 'cuda:99' was asked for"),
]


@pytest.mark.parametrize("line, message", BAD + LATE, ids=[line for line, _ in BAD + LATE])
def test_bad_input_ends_with_one_line_and_a_status(line, message, capsys):
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not figure_folder("laptop").exists()  # nothing half-written


@pytest.mark.parametrize(
    "line", ["", "figure", "figures --profil", "convert one", "train --minutes x"]
)
def test_a_malformed_command_shows_the_usage(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2 and "usage: uturn" in capsys.readouterr().err


def test_help_and_bad_input_do_not_load_torch():
    program = f"""
import sys
from uturn_lib import cli
for line in {[line for line, _ in BAD]!r}:
    assert cli.main(line.split()) == 2
try:
    cli.main(["--help"])
except SystemExit:
    pass
assert not {{"torch", "scipy", "matplotlib", "papermill"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("figures", "quick", "cost", "train", "fetch", "convert", "refresh", "reference"):
        assert f"\n    {name}" in done.stdout


def test_a_notebook_that_fails_ends_the_process_with_status_1():
    done = command("figures", "fig01", "-p", "seed", "abc")
    assert done.returncode == 1 and "seed = 'abc'" in done.stderr and "Traceback" not in done.stderr


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_profile", interrupted)
    assert cli.main(["train"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_options_of_training_reach_it(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        training,
        "train_profile",
        lambda *arguments: seen.append((*arguments, torch.get_num_threads())),
    )
    before = torch.get_num_threads()
    try:
        line = f"train --profile cifar10 --minutes 2.5 --threads {before + 1} --device cpu "
        line += f"--output {tmp_path}"
        part = ["train", "--device", "cpu", "--part", "noise-classifier"]
        assert cli.main(line.split()) == cli.main(part) == 0
    finally:
        torch.set_num_threads(before)
    cpu = torch.device("cpu")
    assert seen[0] == ("cifar10", cpu, tmp_path, 2.5, "all", before + 1)
    assert seen[1][:5] == ("laptop", cpu, None, math.inf, "noise-classifier")
