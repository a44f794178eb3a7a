"""Kills a command at random moments, again and again, and compares what it leaves behind with an
undisturbed run.

    python tests/faults/kills.py --kills 100 --folder /tmp/kills -- \
        python -m uturn_lib figures fig08 --device cpu

Any command may follow the two dashes: what it keeps in ``$UTURN_CACHE`` and ``$UTURN_FIGURES`` is
looked at. Each kill hits one process of the command, or all of them. After each, every file with a
final name must be whole and nothing may go on running; whenever the command comes to its end, its
results must be those of the undisturbed run, and it starts anew with an empty cache.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
GONE = 60.0  # seconds that what is left of a killed command has to end by itself


def start(command, folder, **environment):
    """The command as a group of processes; results and log in ``folder``."""
    places = {"UTURN_CACHE": str(folder / "cache"), "UTURN_FIGURES": str(folder / "figures")}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log", "wb") as log:
        return psutil.Popen(
            command,
            cwd=ROOT,
            env=os.environ | places | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def family(process):
    """The process and its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_some(process, rng):
    """SIGKILL one process of the family, or all; returns who was hit."""
    members = family(process)
    chosen = int(rng.integers(-1, len(members)))
    for victim in members if chosen < 0 else [members[chosen]]:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass
    return "all" if chosen < 0 else "parent" if chosen == 0 else "child"


def assert_ended(members):
    """Nothing of a killed command goes on by itself."""
    _, alive = psutil.wait_procs(members, timeout=GONE)
    left = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"still running: {left}"


def results(folder):
    """Every kept result, opened: name -> arrays or JSON. Raises where one is not whole."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue  # a temporary file has no final name
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                found[name] = {key: stored[key] for key in stored.files if key != "seconds"}
        elif path.suffix == ".json":
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as picture:
                picture.load()
    return found


def assert_same(found, expected):
    """Equal up to rounding: the sums of another number of threads may be ordered otherwise."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        if not name.endswith(".npz"):
            assert found[name] == value, name
            continue
        assert set(found[name]) == set(value), name
        for key, array in value.items():
            if array.dtype.kind in "fc":
                np.testing.assert_allclose(found[name][key], array, 1e-4, 1e-5, err_msg=name)
            else:
                assert np.array_equal(found[name][key], array), (name, key)


def undisturbed(command, folder, **environment):
    """Results and seconds of the command alone."""
    begun = time.monotonic()
    process = start(command, folder, **environment)
    assert process.wait() == 0, (folder / "log").read_text()
    return results(folder), time.monotonic() - begun


def campaign(command, folder, kills, rng, seconds=float("inf"), known=None, **environment):
    """``kills`` kills, or as many as ``seconds`` allow; yields (who was hit, what came of it)."""
    expected, longest = known or undisturbed(command, folder / "whole", **environment)
    place, done, begun = folder / "killed", 0, time.monotonic()
    while done < kills and time.monotonic() - begun < seconds:
        process = start(command, place, **environment)
        try:
            status, hit = process.wait(timeout=float(rng.uniform(0.02, 1.0)) * longest), None
        except psutil.TimeoutExpired:
            members, hit = family(process), kill_some(process, rng)
            done += 1
            if hit == "child":  # the command has to say so, or to do without
                status = process.wait(timeout=600)
            else:
                status = process.wait(timeout=GONE)
            assert_ended(members)
        said = (place / "log").read_text(errors="replace")
        found = results(place)
        if status == 0:
            assert_same(found, expected)
            shutil.rmtree(place)
        elif hit in (None, "child"):
            assert status > 0 and "error: " in said and "Traceback" not in said, said[-3000:]
        yield hit, status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most this long")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds before a kill")
    parser.add_argument("--folder", type=Path, required=True, help="results, logs, summary.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    counts = Counter()
    whole, rng = options.folder / "whole", np.random.default_rng(options.seed)
    if whole.is_dir():  # of an earlier campaign
        known = results(whole), options.longest
    else:
        expected, took = undisturbed(command, whole)
        known = expected, min(took, options.longest)
    rounds = campaign(command, options.folder, options.kills, rng, options.seconds, known)
    for hit, status in rounds:
        counts["finished" if status == 0 else "ended early"] += 1
        counts["kills"] += hit is not None
        counts[f"hit: {hit}"] += hit is not None
        summary = json.dumps({name: count for name, count in counts.items() if count})
        (options.folder / "summary.json").write_text(summary + "\n")
        print(summary, flush=True)


if __name__ == "__main__":
    sys.exit(main())
