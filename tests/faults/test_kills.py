"""Killed at random moments, by several at once, cut off in the middle of a file: the results are
those of an undisturbed run."""

import os
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY_UNET
from kills import results
from scale import LONG

from uturn_lib.experiments import engine
from uturn_lib.support.files import write_json
from uturn_lib.support.places import cache_folder
from uturn_lib.training import RECIPES, Stage, Trainer

KILLS = 100 if LONG else 6
TINY = replace(
    RECIPES["laptop"],
    stages=(Stage(12 * 16, 2e-3, 0.3, warmup_images=64),),
    batch=16,
    unet=TINY_UNET | dict(dropout=0.1),
)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked"),
    pytest.mark.filterwarnings("ignore:.*fork.*"),
]


def child(work):
    """A process that does ``work``; its number. A fork: nothing has to be imported again."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def killed(number, seconds):
    """Whether the child had to be killed after ``seconds``; it may end by itself, then well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            assert status == 0
            return False
        time.sleep(0.001)
    os.kill(number, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(number, 0)[1])


# ------------------------------------------------------------------------------------------ a sweep


@engine.experiment("square", "noise")
def slow(seed):
    rng = np.random.default_rng(seed)
    time.sleep(0.002)
    return {"square": np.full((200, 200), seed**2), "noise": rng.standard_normal(1000)}


def sweep():
    return engine.run_chunks(slow.chunks([{"seed": seed} for seed in range(40)]), "slow")


def assert_complete(found):
    for seed, arrays in enumerate(found):
        expected = slow.function(seed)
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
    assert len(found) == 40


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_a_sweep_that_is_killed_again_and_again(processes):
    """Every round kills one of the processes that share the cache; the others go on."""
    rng, kills, rounds = np.random.default_rng(processes), 0, 0
    while kills < KILLS:
        at_work = [child(sweep) for _ in range(processes)]
        kills += killed(at_work[0], float(rng.uniform(0, 0.3)))
        results(cache_folder())  # raises unless all that has a name is whole
        for other in at_work[1:]:
            assert os.waitpid(other, 0)[1] == 0
        rounds += 1
        if processes > 1 or rounds % 10 == 0:
            for path in (cache_folder() / "slow").glob("*.npz"):
                path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is found damaged
        assert_complete(sweep())


# --------------------------------------------------------------------------------------- a training


class Quick(Trainer):
    """Without the losses of 500 images, which take longer than the training."""

    def measure(self):
        return {"held_out_loss": 0.0, "best_average": 0, "train_set_loss": 0.0}


def test_a_training_that_is_killed_again_and_again(tmp_path):
    device = torch.device("cpu")
    whole = Quick(TINY, tmp_path / "whole", device)
    whole.run(save_every=0)
    expected = torch.cat([p.flatten() for p in whole.denoiser.parameters()])

    def train():
        trainer = Quick(TINY, tmp_path / "killed", device)
        if not trainer.resume() or trainer.step < TINY.steps:
            trainer.run(save_every=0)

    rng, kills, ends = np.random.default_rng(0), 0, 0
    while kills < KILLS or not ends:
        if killed(child(train), float(rng.exponential(0.5)) if kills < KILLS else 600):
            kills += 1
            continue
        ends += 1
        trainer = Quick(TINY, tmp_path / "killed", device)
        assert trainer.resume() and trainer.step == TINY.steps
        found = torch.cat([p.flatten() for p in trainer.denoiser.parameters()])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        (tmp_path / "killed" / "state.pt").unlink()


def test_what_killed_runs_have_left_is_swept_away_when_it_is_old(tmp_path):
    trainer = Trainer(TINY, tmp_path, torch.device("cpu"))
    trainer.save()
    young, old = tmp_path / ".state.young.pt", tmp_path / ".state.old.pt"
    young.write_bytes(b"half"), old.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert trainer.resume() and young.exists() and not old.exists()


# -------------------------------------------------------------------------------------- a power cut


def cuts(content):
    """``content`` truncated at every seventh byte and with a tail of zeros from there on."""
    step = 7 if LONG else 7 * 13
    for length in range(0, len(content), step):
        yield content[:length]
        yield content[:length] + bytes(len(content) - length)


def test_a_result_that_a_power_cut_has_cut_is_computed_again():
    (chunk,) = engine.experiment("y0")(_small).chunks([{"seed": 3}])
    expected = engine.run_chunk(chunk)
    content = chunk.path.read_bytes()
    for cut in cuts(content):
        chunk.path.write_bytes(cut)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.array_equal(engine.run_chunk(chunk)["y0"], expected["y0"])
        assert len(chunk.path.read_bytes()) == len(content)


def _small(seed):
    return {"y0": np.arange(20) * seed}


def test_a_state_that_a_power_cut_has_cut_is_refused(tmp_path):
    from mutants import Small

    trainer = Small(tmp_path)
    trainer.save()
    for cut in cuts((tmp_path / "state.pt").read_bytes()):
        (tmp_path / "state.pt").write_bytes(cut)
        try:
            trainer.resume()  # a tail that was zero already
        except ValueError as error:
            assert "damaged" in str(error) and "remove" in str(error)


def test_files_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    """The old content or the new one, whenever the power goes: fsync, then rename."""
    order, sync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: order.append("fsync") or sync(file))
    monkeypatch.setattr(os, "replace", lambda *names: order.append("replace") or rename(*names))
    write_json(tmp_path / "claims.json", [])
    assert order == ["fsync", "replace"]


# ---------------------------------------------------------------------------- what lies in the way


def test_ten_thousand_stale_locks_and_scraps_of_killed_runs():
    chunks = slow.chunks([{"seed": seed} for seed in range(3)])
    locks = cache_folder() / "locks"
    locks.mkdir(parents=True)
    (cache_folder() / "slow").mkdir()
    for number in range(10_000 - len(chunks)):
        (locks / f"slow-{number:032x}.lock").touch()
    for chunk in chunks:
        (locks / f"slow-{chunk.name}.lock").touch()
        (cache_folder() / "slow" / f".{chunk.name}.x1y2z3.npz").write_bytes(b"PK half a result")
    begun = time.monotonic()
    assert [int(one["square"][0, 0]) for one in engine.run_chunks(chunks, "slow")] == [0, 1, 4]
    assert time.monotonic() - begun < 10


def test_a_lock_is_released_when_its_holder_dies():
    (chunk,) = slow.chunks([{"seed": 7}])

    def hold():
        chunk.lock.acquire()
        time.sleep(60)

    assert killed(child(hold), 0.5)
    with ThreadPoolExecutor(1) as pool:  # not the waiting itself, if it should fail
        assert pool.submit(engine.run_chunk, chunk).result(timeout=20)["square"][0, 0] == 49


def test_a_clock_that_was_set_back(monkeypatch):
    (chunk,) = slow.chunks([{"seed": 5}])
    engine.run_chunk(chunk)
    later = time.time() + 10**8
    os.utime(chunk.path, (later, later))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert engine.run_chunk(chunk)["square"][0, 0] == 25  # found
    (other,) = slow.chunks([{"seed": 6}])
    assert engine.run_chunk(other)["square"][0, 0] == 36  # stored
