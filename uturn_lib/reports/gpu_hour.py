"""The first hour on a graphics card: `make gpu-hour` (`uturn gpu-hour`).

Steps in order, each in a process of its own: what one does to the card, to memory or to torch ends
with it, and a failed one does not stop the others. A step that is done is not done again; one that
was interrupted goes on from its own state (cache, training). The sheet of results is gpu-hour.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..profiles import Profile, load_profile
from ..support import checks
from ..support.files import read_json, write_json, write_text
from ..support.machine import machine
from ..support.places import CHECKOUT, RUNS

if TYPE_CHECKING:
    from ..training import Trainer

TRAINING_MINUTES = 20.0
Rows = list[tuple[str, str]]


class LeftOut(Exception):
    """A step cannot be tried here; the message says what it needs."""


@dataclass(frozen=True)
class Hour:
    """Profile, device ("cuda", "cpu", ...) and minutes of training, as the command line has them.

    ``$UTURN_SCALE`` = "smoke" makes everything small, as for the figures.
    """

    profile: str = "cifar10"
    device: str = "cuda"
    minutes: float = TRAINING_MINUTES

    @property
    def smoke(self) -> bool:
        return os.environ.get("UTURN_SCALE") == "smoke"

    @property
    def folder(self) -> Path:
        """Records, logs, training state and the sheet; another scale or device has another one."""
        kind = checks.pick_device(self.device).type
        name = f"{self.profile.replace('/', '-')}-{kind}{'-smoke' if self.smoke else ''}"
        return RUNS / "gpu-hour" / name

    @property
    def about(self) -> dict[str, str]:
        """What a record must share to count as done, as :func:`describe` has written it."""
        return read_json(self.folder / "about.json")


def describe(hour: Hour) -> dict[str, str]:
    """Machine, torch, network and scale.

    The card is asked in another process: this one must not hold memory of it, and some cards serve
    one process at a time.
    """
    import torch

    from ..networks.loader import shipped_fingerprint

    device, profile = checks.pick_device(hour.device), load_profile(hour.profile)
    name = machine(device) if device.type == "cpu" else in_another_process(MACHINE, str(device))
    return {
        "machine": name,
        "torch": torch.__version__,
        "network": shipped_fingerprint(profile.checkpoint),
        "scale": profile.on(device.type).scale(),
    }


MACHINE = "import sys, torch; print(torch.cuda.get_device_name(torch.device(sys.argv[1])))"


def in_another_process(program: str, *arguments: str) -> str:
    """What a short Python program prints; ``RuntimeError`` with its last line if it fails."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no answer"])[-1])
    return done.stdout.strip()


@dataclass(frozen=True)
class Record:
    """What a step left: ``outcome`` ("done", "failed" or "left out"), ``reason`` and ``rows``."""

    outcome: str
    seconds: float
    about: dict[str, str]
    reason: str = ""
    rows: Sequence[tuple[str, str]] = ()


# ------------------------------------------------------------------------------------- the steps


def tests(hour: Hour) -> Rows:
    """The tests that need a GPU; with ``DEVICE=cpu`` on a stand-in that only looks like one."""
    checkout = needs_checkout("tests/gpu")
    needs("pytest", "dev")
    report = hour.folder / "tests.xml"
    stand_in = [] if checks.pick_device(hour.device).type == "cuda" else ["-p", "stand_in_card"]
    options = ["-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}", *stand_in]
    status = run_in(checkout, ["-m", "pytest", *options, "tests/gpu"])
    suite = next(ElementTree.parse(report).iter("testsuite"))  # written by the run before this line
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    passed = count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    if status or not passed:
        raise RuntimeError(f"pytest: {count['failures'] + count['errors']} failed, {passed} passed")
    return [("passed", str(passed)), ("skipped", str(count["skipped"]))]


def bench(hour: Hour) -> Rows:
    """`make bench`: u_turn against the bare network and against eager float32, memory."""
    checkout = needs_checkout("benchmarks/bench.py")
    output = hour.folder / "bench"
    options = ["--device", hour.device, "--output", str(output), "--speed-only"]
    if status := run_in(checkout, ["benchmarks/bench.py", *options]):
        raise RuntimeError(f"benchmarks/bench.py ended with status {status}")
    return [(row["what"], bench_text(row)) for row in read_json(output / "results.json")["rows"]]


def bench_text(row: dict[str, Any]) -> str:
    """Ratio, aim, and what else a row of the benchmark measured."""
    aim = f" (aim {row['aim']}: {'met' if row['met'] else 'not met'})" if "aim" in row else ""
    rest = {k: v for k, v in row.items() if k.endswith(("_per_second", "_MiB"))}
    return f"{row['ratio']:g}{aim}" + "".join(f", {k} {v:,.0f}" for k, v in rest.items())


def train(hour: Hour) -> Rows:
    """The recipe of the profile for so many minutes in all; kept if better than the shipped one.

    Both networks meet the same held-out images, noise levels and noise. What is better goes to the
    folder of the hour, with its model card: nothing shipped is replaced.
    """
    from ..networks.checkpoints import find_checkpoint
    from ..networks.unet import load_trained
    from ..training import Trainer, recipe_for

    device = checks.pick_device(hour.device)
    name, recipe = recipe_for(hour.profile, device)
    trainer = Trainer(recipe, hour.folder / "training", device)
    trainer.resume()
    minutes = (3 / 60 if hour.smoke else hour.minutes) - trainer.seconds / 60
    if minutes > 0 and trainer.step < recipe.steps:
        # A measurement is a second or two: fifty of them, whatever the length of the recipe.
        trainer.run(minutes=minutes, log_images=max(25_000, recipe.images // 50))
    shipped = load_trained(find_checkpoint(load_profile(hour.profile).checkpoint), device)
    ours, theirs = (trainer.validation(trainer.test, average=d) for d in (trainer.average, shipped))
    rows = [
        ("recipe", name),
        ("images seen", f"{trainer.step * recipe.batch:,} of {recipe.images:,}"),
        ("minutes of training", f"{trainer.seconds / 60:.1f}"),
        ("held-out loss, this network", f"{ours:.4f}"),
        ("held-out loss, shipped network", f"{theirs:.4f}"),
    ]
    kept = str(keep(trainer, hour)) if ours < theirs else "not written: the shipped one is better"
    return [*rows, ("checkpoint", kept)]


def keep(trainer: Trainer, hour: Hour) -> Path:
    """Write the trained network and (at full scale) its measured card; returns its folder."""
    from ..networks.checkpoints import find_checkpoint
    from ..networks.unet import save_denoiser
    from ..training import training_record
    from ..training.card import write_denoiser_card

    recipe, folder = trainer.recipe, hour.folder / trainer.recipe.dataset
    save_denoiser(trainer.average, folder, training_record(trainer), recipe.file_dtype)
    if not hour.smoke:
        classifier = find_checkpoint(load_profile(hour.profile).classifier)
        write_denoiser_card(folder, classifier, recipe.dataset, trainer.device)
    return folder


def fig09(hour: Hour) -> Rows:
    """The sweep of Figure 9 at the scale of the device, T_m and T_s."""
    from .. import experiments

    study = experiments.prepare(hour.profile, hour.device)
    times, gate = experiments.transitions(study), experiments.class_gate(study)
    return [
        ("ground truths", f"{study.profile.ground_truths:,}"),
        ("T_m", str(times.t_m)),
        ("T_s", str(gate.seen(times.t_s))),
        ("may T_s be read?", gate.closed or "yes"),
        ("network", network_text(study.denoiser)),
    ]


def fig13(hour: Hour) -> Rows:
    """The sweeps of Figure 13 at the scale of the device, T_m of every score."""
    from .. import experiments
    from ..measures import retention

    study = experiments.prepare(hour.profile, hour.device)
    found = experiments.identity_by_score(study)
    times = {key: retention.transition(kept.sigmas, kept.kept) for key, kept in found.items()}
    return [(f"T_m, {score} score, {kind} images", str(t)) for (score, kind), t in times.items()]


def figures(hour: Hour) -> Rows:
    """Both figures, drawn by their notebooks from what is now in the cache."""
    needs_checkout("the notebooks")
    needs("papermill", "notebooks")
    from . import run

    run.figures(["fig09", "fig13"], hour.profile, hour.device, {}, jobs=1)
    return [("written to", str(run.figure_folder(hour.profile)))]


# Each with the minutes after which it is stopped: far more than a card needs, so only a hang meets
# them.
STEPS: dict[str, tuple[Callable[[Hour], Rows], float]] = {
    step.__name__: (step, minutes)
    for step, minutes in (
        (tests, 20),
        (bench, 30),
        (train, TRAINING_MINUTES + 40),
        (fig09, 240),
        (fig13, 240),
        (figures, 120),
    )
}


def needs_checkout(what: str) -> Path:
    if CHECKOUT is None:
        raise LeftOut(f"{what} is not part of the installed package: run this in a clone")
    return CHECKOUT


def needs(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise LeftOut(f"{package} is not installed: pip install 'uturn-lib[{extra}]'")


def network_text(denoiser: Any) -> str:
    """How the network was called: precision, and whether the compiler worked."""
    compiled = getattr(denoiser.unet, "_compiled_call_impl", None) is not None
    precision = str(denoiser.precision or "its weights' precision").removeprefix("torch.")
    return f"{precision}, {'compiled' if compiled else 'not compiled'}"


def run_in(folder: Path, arguments: list[str]) -> int:
    """The exit status of this Python with ``arguments``, started in ``folder``."""
    sys.stdout.flush()
    return subprocess.run([sys.executable, *arguments], cwd=folder, check=False).returncode


# ---------------------------------------------------------------------------- one step, all steps


def run_step(name: str, hour: Hour) -> Record:
    """One step, in this process; its record is written, whatever it raises."""
    begun, (step, _) = time.monotonic(), STEPS[name]
    outcome, reason, rows = "done", "", []
    try:
        rows = step(hour)
    except (LeftOut, ModuleNotFoundError) as error:
        outcome, reason = "left out", str(error)
    except Exception as error:  # anything may go wrong on a new card; the record says what
        traceback.print_exc()
        outcome, reason = "failed", f"{type(error).__name__}: {error}"
    found = Record(outcome, time.monotonic() - begun, hour.about, reason, rows)
    write_json(hour.folder / f"{name}.json", asdict(found))
    return found


def read_record(name: str, hour: Hour) -> Record | None:
    """The record of a step under the same circumstances; None if there is none."""
    path = hour.folder / f"{name}.json"
    try:
        found = Record(**read_json(path))
    except (FileNotFoundError, ValueError, TypeError):  # none, damaged, or of another version
        return None
    return found if found.about == hour.about else None


def in_own_process(name: str, hour: Hour, minutes: float) -> Record:
    """Start one step and wait for it; its output is shown, and kept in its log."""
    path, begun = hour.folder / f"{name}.json", time.monotonic()
    path.unlink(missing_ok=True)
    options = ["--profile", hour.profile, "--device", hour.device, "--minutes", str(hour.minutes)]
    command = [sys.executable, "-u", "-m", "uturn_lib", "gpu-hour", "--step", name, *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # what it starts ends with it
    )
    stop = threading.Timer(60 * minutes, end, [process])
    stop.start()
    try:
        with open(hour.folder / f"{name}.log", "w", encoding="utf-8") as log:
            for line in process.stdout or ():
                print(f"  {line}", end="", flush=True)
                log.write(line)
        process.wait()
    finally:  # also after an interruption
        stop.cancel()
        end(process)
    if (found := read_record(name, hour)) is None:
        seconds, status = time.monotonic() - begun, process.returncode
        late = f"stopped after {minutes:g} minutes" if seconds > 60 * minutes else ""
        killed = f"its process was ended by {signal.Signals(-status).name}" if status < 0 else ""
        reason = late or killed or f"its process ended with status {status}"
        found = Record("failed", seconds, hour.about, f"{reason}; see {name}.log")
        write_json(path, asdict(found))
    return found


def end(process: subprocess.Popen) -> None:
    """Kill what ``process`` has started, and itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def show(hour: Hour, only: Sequence[str] = ()) -> None:
    """All steps (or ``only`` those named) that are not done yet; writes the sheet after each.

    Raises ``ValueError`` for an unknown step, profile or device, ``RuntimeError`` naming the steps
    that failed.
    """
    for name in only:
        checks.one_of("step", name, STEPS)
    if data := os.environ.get("UTURN_DATA"):
        os.environ["UTURN_DATA"] = str(Path(data).resolve())  # steps run in other folders
    hour.folder.mkdir(parents=True, exist_ok=True)
    write_json(hour.folder / "about.json", describe(hour))
    sheet = hour.folder / "gpu-hour.md"
    print(f"{len(only or STEPS)} steps on {hour.about['machine']}, into {hour.folder}", flush=True)
    outcomes: dict[str, list[str]] = {}
    for name in only or STEPS:
        found = read_record(name, hour)
        if found is not None and found.outcome == "done":
            print(f"{name}: done before ({found.seconds:.0f} s)", flush=True)
        else:
            print(f"{name} ...", flush=True)
            found = in_own_process(name, hour, STEPS[name][1])
            tail = f": {found.reason}" if found.reason else ""
            print(f"{name}: {found.outcome}, {found.seconds:.0f} s{tail}", flush=True)
        outcomes.setdefault(found.outcome, []).append(name)
        write_text(sheet, page(hour))
    print(f"results: {sheet}", flush=True)
    if failed := outcomes.get("failed"):
        raise RuntimeError(f"failed: {', '.join(failed)}; the same command tries them again")


def page(hour: Hour) -> str:
    """The sheet of results, from the records."""
    records = {name: read_record(name, hour) for name in STEPS}
    profile: Profile = load_profile(hour.profile)
    lines = [
        f"# The first hour on {hour.about['machine']}",
        f"Written by `make gpu-hour`; profile {profile.name}, torch {hour.about['torch']}. "
        + ("**Smoke scale: the numbers mean nothing.**" if hour.smoke else hour.about["scale"]),
        grid(
            ["step", "outcome", "seconds", "reason"], [overview(*item) for item in records.items()]
        ),
    ]
    for name, found in records.items():
        if found is not None and found.rows:
            what = (STEPS[name][0].__doc__ or name).split("\n")[0]
            lines += [f"## {name}", what, grid(["what", "found"], found.rows)]
    return "\n\n".join(lines) + "\n"


def overview(name: str, found: Record | None) -> list[str]:
    if found is None:
        return [name, "not tried", "", ""]
    return [name, found.outcome, f"{found.seconds:.0f}", found.reason]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; line breaks and bars within cells would break it."""
    cells = [[" ".join(text.replace("|", "\\|").split()) for text in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
