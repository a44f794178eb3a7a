"""The first hour on a card: steps, records, the sheet. No card is needed here; what needs one runs
on a stand-in."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import TINY_UNET

from uturn_lib import cli, load_denoiser
from uturn_lib.reports import gpu_hour
from uturn_lib.support.places import ROOT
from uturn_lib.training import RECIPES, Stage, Trainer


@pytest.fixture
def hour(monkeypatch, tmp_path):
    monkeypatch.setenv("UTURN_SCALE", "smoke")
    monkeypatch.setattr(gpu_hour, "RUNS", tmp_path)
    return gpu_hour.Hour("laptop", "cpu")


def works(hour):
    return [("answer", "42 | 43")]


def breaks(hour):
    raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")


def lacks(hour):
    raise ModuleNotFoundError("No module named 'azula'")


@pytest.fixture
def three(monkeypatch):
    """Three steps that are run in this process; the list of those that were."""
    ran = []

    def run(name, hour, minutes):
        ran.append(name)
        return gpu_hour.run_step(name, hour)

    steps = {name: (step, 1) for name, step in (("b", breaks), ("l", lacks), ("w", works))}
    monkeypatch.setattr(gpu_hour, "STEPS", steps)
    monkeypatch.setattr(gpu_hour, "in_own_process", run)
    return ran


def test_a_failed_step_stops_nothing_and_what_is_done_is_not_done_again(hour, three, monkeypatch):
    with pytest.raises(RuntimeError, match="failed: b;"):
        gpu_hour.show(hour)
    assert three == ["b", "l", "w"]
    sheet = (hour.folder / "gpu-hour.md").read_text()
    for line in (
        "| b | failed | 0 | RuntimeError: CUDA error: out of memory Compile with",
        "| l | left out | 0 | No module named 'azula' |",
        "| w | done | 0 |  |",
        "| answer | 42 \\| 43 |",
        "numbers mean nothing",
    ):
        assert line in sheet
    monkeypatch.setitem(gpu_hour.STEPS, "b", (works, 1))
    gpu_hour.show(hour)
    assert three[3:] == ["b", "l"]
    (hour.folder / "w.json").write_text("{half a rec")  # a damaged record is none
    gpu_hour.show(hour, ["w"])
    assert three[5:] == ["w"]


def test_a_record_of_another_torch_does_not_count(hour, three, monkeypatch):
    gpu_hour.show(hour, ["w"])
    monkeypatch.setattr(torch, "__version__", "9.9")
    gpu_hour.show(hour, ["w"])
    assert three == ["w", "w"]


def test_a_step_that_hangs_is_stopped(hour):
    gpu_hour.write_json(hour.folder / "about.json", {})
    found = gpu_hour.in_own_process("fig09", hour, minutes=0.2 / 60)
    assert found.outcome == "failed" and "stopped after" in found.reason
    assert gpu_hour.read_record("fig09", hour) == replace(found, rows=[])


def test_bad_input_is_refused_before_any_work(hour, capsys):
    for arguments, said in (
        (["nonsense"], "step = 'nonsense' is not known"),
        (["--minutes", "0"], "minutes = 0.0 must be positive"),
        (["--profile", "nonsense"], "profile = 'nonsense' is not known"),
        (["--device", "mps"], "device = 'mps' is not supported"),
    ):
        assert cli.main(["gpu-hour", *["--device", "cpu"], *arguments]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_it_says_so(capsys):
    assert cli.main(["gpu-hour"]) == 2
    assert "torch sees no CUDA device here; use 'cpu'" in capsys.readouterr().err


def test_a_package_without_the_clone_leaves_out_what_needs_it(hour, monkeypatch):
    monkeypatch.setattr(gpu_hour, "CHECKOUT", None)
    gpu_hour.write_json(hour.folder / "about.json", {})
    for name in ("tests", "bench", "figures"):
        found = gpu_hour.run_step(name, hour)
        assert found.outcome == "left out" and "in a clone" in found.reason


def test_what_is_kept_can_be_loaded(hour):
    recipe = replace(
        RECIPES["laptop"], dataset="digits", stages=(Stage(64, 1e-3, 0.3),), unet=TINY_UNET, batch=8
    )
    trainer = Trainer(recipe, hour.folder / "training", torch.device("cpu"))
    trainer.update()
    found = load_denoiser(gpu_hour.keep(trainer, hour), "cpu")
    x = trainer.test.images[:3]
    with torch.no_grad():
        torch.testing.assert_close(found(x, 1.0), trainer.average.eval()(x, 1.0))


def test_the_stand_in_card_keeps_host_and_card_apart():
    program = """
import torch, stand_in_card
stand_in_card.insert()
here, there = torch.ones(3), torch.ones(3, device="cuda")
assert there.device.type == "cuda" and there.cpu().device.type == "cpu"
moved = here.to("cuda")
moved += 1
assert here.tolist() == [1, 1, 1] and moved.tolist() == [2, 2, 2]  # what crosses over is a copy
assert (there * torch.tensor(2.0)).is_cuda  # numbers may stay on the host
here[:2] = there[:2]
network = torch.nn.Linear(3, 1).to("cuda")
network(there).sum().backward()
assert network.weight.grad.is_cuda and not here.is_cuda
for wrong in (
    lambda: here + there,
    lambda: torch.stack([here, there]),
    lambda: network(here),
    lambda: here[torch.tensor([0], device="cuda")],
    lambda: there.numpy(),
    lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
):
    try:
        wrong()
    except (RuntimeError, TypeError):
        continue
    raise AssertionError("two devices in one operation went unnoticed")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


@pytest.mark.skipif(
    "CI" not in os.environ and os.environ.get("UTURN_SLOW") is None,
    reason="set UTURN_SLOW=1 to run the tests of a card on a stand-in as well (a minute)",
)
def test_all_that_needs_a_card_runs_on_a_stand_in(hour):
    """Samples, training, benchmark and the sweeps of Figures 9 and 13, with the paths of CUDA."""
    gpu_hour.write_json(hour.folder / "about.json", {})
    found = gpu_hour.run_step("tests", hour)
    assert found.outcome == "done", found.reason
    assert dict(found.rows)["skipped"] == "0"
