"""Damages files of every format that the library opens, and opens them.

Opening gives a value or one of the documented errors; it runs nothing, takes less than 5 s and no
more memory than 4 times the file (beside what opening a file costs at all).

    python tests/faults/mutants.py --mutants 20000 --folder /tmp/mutants
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import uturn_lib  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402
from conftest import make_tiny_network  # noqa: E402
from edm_stand_in import TINY_SONG, random_network, write_edm_pickle  # noqa: E402
from PIL import Image  # noqa: E402

from uturn_lib import load_classifier, load_denoiser, load_noise_classifier  # noqa: E402
from uturn_lib.claims.pages import judged  # noqa: E402
from uturn_lib.data import archives, downloads, sets  # noqa: E402
from uturn_lib.experiments import engine  # noqa: E402
from uturn_lib.networks import Classifier, NoiseClassifier, checkpoints  # noqa: E402
from uturn_lib.networks.classifier import save_classifier  # noqa: E402
from uturn_lib.networks.noise_classifier import (  # noqa: E402
    CalibratedClassifier,
    save_noise_classifier,
)
from uturn_lib.networks.unet import save_denoiser  # noqa: E402
from uturn_lib.support.files import read_json, sha256, write_json  # noqa: E402
from uturn_lib.training.resumable import Resumable  # noqa: E402

DOCUMENTED = (ValueError, OSError)  # OSError: FileNotFoundError
SECONDS, TIMES, SLACK = 5.0, 4, 64 << 20  # SLACK: imports, and what torch needs to open any file


# ---------------------------------------------------------------------------------- kinds of damage


def spoil(content: bytes, rng: random.Random) -> bytes:
    """``content`` with one to three random changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(DAMAGE)(content, rng)
    return content


def _span(content, rng):
    first = rng.randrange(len(content) + 1)
    return first, min(len(content), first + rng.choice((1, 2, 4, 8, 64, 512)))


def _flip(content, rng):
    changed = bytearray(content or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(content, rng):
    first, last = _span(content, rng)
    value = rng.choice(
        (b"\x00", b"\xff", b"\x7f", b"9", b"[", b"\x80", bytes([rng.randrange(256)]))
    )
    return content[:first] + value * (last - first) + content[last:]


def _cut(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def _zero_tail(content, rng):
    first = rng.randrange(len(content) + 1)
    return content[:first] + bytes(len(content) - first)


def _remove(content, rng):
    first, last = _span(content, rng)
    return content[:first] + content[last:]


def _repeat(content, rng):
    first, last = _span(content, rng)
    return content[:last] + content[first:last] * rng.choice((1, 3, 50)) + content[last:]


def _insert(content, rng):
    first, _ = _span(content, rng)
    return content[:first] + rng.randbytes(rng.choice((1, 4, 16))) + content[first:]


def _number(content, rng):
    """Another value for a number written as text, as in JSON and headers."""
    places = [i for i, one in enumerate(content[:20_000]) if 48 <= one <= 57]
    if not places:
        return content
    first = last = rng.choice(places)
    while last < len(content) and 48 <= content[last] <= 57:
        last += 1
    other = (b"0", b"-1", b"99999999999", b"1e400", b"NaN", b"null", b'"x"', b"[]", b"[[1]]", b"3")
    return content[:first] + rng.choice((*other, b"7" * 5000)) + content[last:]


DAMAGE = (_flip, _overwrite, _cut, _zero_tail, _remove, _repeat, _insert, _number, _number)


# ----------------------------------------------------------------------------------------- formats


@dataclass(frozen=True)
class Format:
    """``write(folder)`` makes a sound ``file`` there; ``open`` opens the folder; ``share`` of the
    mutants; ``mend`` makes a damaged file pass for an intact one, where a hash protects it."""

    file: str
    write: Callable[[Path], None]
    open: Callable[[Path], object]
    share: int
    mend: Callable[[Path], None] = lambda folder: None


@engine.experiment("y0", "kept")
def mutated(seed):
    rng = np.random.default_rng(seed)
    return {"y0": rng.standard_normal((4, 6)), "kept": rng.integers(2, size=4)}


def _write_result(folder):
    engine.run_chunk(mutated.chunks([{"seed": 1}])[0])
    chunk = mutated.chunks([{"seed": 1}])[0]
    (folder / "result.npz").write_bytes(chunk.path.read_bytes())


def _open_result(folder):
    """A damaged result is computed again: what comes back is right or missing."""
    chunk = mutated.chunks([{"seed": 1}])[0]
    chunk.path.write_bytes((folder / "result.npz").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = engine.read_cached(chunk)
    expected = mutated.function(1)
    assert found is None or all(np.array_equal(found[name], expected[name]) for name in expected)


def _write_pixels(folder):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(5, 8, 8, 3), dtype=np.uint8)
    np.savez_compressed(folder / "test.npz", images=images, labels=np.arange(5))


def _write_archive(folder):
    rng = np.random.default_rng(0)
    names = [f"00000/img{number:08d}.png" for number in range(27)]
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name in names:
            with archive.open(name, "w") as file:
                Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(file, "png")
        archive.writestr("dataset.json", json.dumps({"labels": [[name, 0] for name in names]}))


def _open_archive(folder):
    listing = archives.list_split(folder, "set", "train", "make it")
    archives.read_images(listing, archives.choose(listing, 30), 8)


class Small(Resumable):
    """A trainer of one layer, without data."""

    def __init__(self, folder):
        self.identity, self.folder, self.device = {"seed": 0}, folder, torch.device("cpu")
        self.seconds, self.layer = 1.0, torch.nn.Linear(8, 8)
        self.optimizer = torch.optim.Adam(self.layer.parameters())
        self.layer(torch.ones(1, 8)).sum().backward()
        self.optimizer.step()

    def state(self):
        return {"layer": self.layer.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state):
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])


def _record_hash(folder):
    """A config.json that vouches for the damaged weights beside it."""
    (weights,) = folder.glob("*.safetensors")
    config = read_json(folder / "config.json")
    config["uturn"]["weights_sha256"] = sha256(weights)
    write_json(folder / "config.json", config)


def _read_weights(folder):
    checkpoints.read_checkpoint(folder, checkpoints.WEIGHTS, "EDMDenoiser")


def _write_classifier(folder):
    save_classifier(Classifier((1, 8, 8), 3, (4, 4), 8), folder)


def _write_noise_classifier(folder):
    network = NoiseClassifier((1, 8, 8), 3, (4, 4), (1, 1), embedding=8)
    save_noise_classifier(CalibratedClassifier(network, [0.1, 1.0], [0.0, 0.0]), folder, {})


def _write_pickle(folder):
    write_edm_pickle(folder / "tiny.pkl", random_network("EDM", TINY_SONG))


def _write_diffusers(folder):
    network = make_tiny_network(0)
    network.unet.save_pretrained(folder, safe_serialization=False)
    scheduler = {"_class_name": "DDPMScheduler", "num_train_timesteps": 100}
    write_json(folder / "scheduler_config.json", scheduler)


def _write_claims(folder):
    from uturn_lib.support.places import reference_folder

    whole = read_json(reference_folder("laptop") / "claims.json")
    write_json(folder / "claims.json", whole[:4])


def _write_note(folder):
    (folder / "net.bin").write_bytes(b"weights")
    (folder / "net.bin.sha256").write_text(f"{sha256(folder / 'net.bin')}  net.bin\n")


def _open_note(folder):
    """Kept already: nothing is asked of the network unless the note says that the file is wrong."""
    try:
        downloads.fetch("http://127.0.0.1:9/net.bin", folder=folder)
    except RuntimeError as error:  # documented: it cannot be downloaded
        assert "cannot download" in str(error)
        raise ValueError from error
    finally:
        (folder / "net.bin").write_bytes(b"weights")


def _denoiser(folder):
    load_denoiser(folder, "cpu")


def _save_tiny(folder):
    save_denoiser(make_tiny_network(), folder)


FORMATS = {
    "cached result": Format("result.npz", _write_result, _open_result, 14),
    "pixels": Format("test.npz", _write_pixels, lambda f: sets._read_npz(f / "test.npz"), 12),
    "images": Format("set.zip", _write_archive, _open_archive, 16),
    "training state": Format(
        "state.pt", lambda f: Small(f).save(), lambda f: Small(f).resume(), 10
    ),
    "claims": Format("claims.json", _write_claims, lambda f: judged("laptop", lambda _: f), 14),
    "download note": Format("net.bin.sha256", _write_note, _open_note, 2),
    "weights": Format(
        "diffusion_pytorch_model.safetensors", _save_tiny, _read_weights, 12, _record_hash
    ),
    "network": Format("config.json", _save_tiny, _denoiser, 4),
    "classifier": Format("config.json", _write_classifier, lambda f: load_classifier(f, "cpu"), 5),
    "noise classifier": Format(
        "config.json", _write_noise_classifier, lambda f: load_noise_classifier(f, "cpu"), 3
    ),
    "EDM pickle": Format("tiny.pkl", _write_pickle, lambda f: load_denoiser(f / "tiny.pkl"), 6),
    "diffusers weights": Format(
        "diffusion_pytorch_model.bin", _write_diffusers, lambda f: load_denoiser(f, "cpu"), 1
    ),
    "diffusers scheduler": Format(
        "scheduler_config.json", _write_diffusers, lambda f: load_denoiser(f, "cpu"), 1
    ),
}


# ---------------------------------------------------------------------------------------- watching

RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn",
        "ctypes.dlopen", "socket.bind", "webbrowser.open", "shutil.rmtree")  # fmt: skip
WATCHED: list[str] | None = None


def _listen(event, arguments):
    if WATCHED is not None and event in RUNS:
        WATCHED.append(f"{event} {arguments!r}")


class TooLong(BaseException):
    """5 s of processor time are over."""


@contextmanager
def watched(path: Path):
    """Raise ``AssertionError`` for anything run, 5 s, or memory beyond 4 times the file."""
    global WATCHED

    def stop(*_):
        raise TooLong

    WATCHED, events = (events := []), events
    before = _fresh_peak()
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        WATCHED = None
    assert not events, events
    grown = _peak() - before
    allowed = TIMES * path.stat().st_size + SLACK
    assert grown <= allowed, f"{grown:,} bytes for a file of {path.stat().st_size:,}"


def _peak() -> int:
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _fresh_peak() -> int:
    """The memory in use now; on Linux the peak is measured from here on."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return _peak()


def open_mutants(name: str, count: int, folder: Path, seed: int = 0) -> Counter:
    """Open ``count`` mutants of a format; counts what came of them.

    A mutant that breaks the contract is kept as ``folder``/broken and named in the error.
    """
    form, rng, found = FORMATS[name], random.Random(f"{name} {seed}"), Counter()
    folder.mkdir(parents=True, exist_ok=True)
    form.write(folder)
    form.open(folder)  # sound; it also imports what is needed
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for number in range(count):
        for other, content in whole.items():
            (folder / other).write_bytes(content)
        path = folder / form.file
        spoiled = spoil(whole[form.file], rng)
        path.write_bytes(spoiled)
        form.mend(folder)
        begun = time.process_time()
        try:
            with watched(path):
                form.open(folder)
            found["opened"] += 1
        except DOCUMENTED:
            found["refused"] += 1
        except BaseException as error:
            (folder / "broken").write_bytes(spoiled)
            what = f"{type(error).__name__}: {error}"
            raise AssertionError(f"mutant {number} of {name} (seed {seed}): {what}") from error
        found["slowest, ms"] = max(
            found["slowest, ms"], round(1000 * (time.process_time() - begun))
        )
    return found


sys.addaudithook(_listen)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mutants", type=int, default=20_000, help="of all formats together")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["UTURN_CACHE"] = str(options.folder / "cache")
    total, faults = 0, 0
    for name, count in shares(options.mutants).items():
        folder = options.folder / name.replace(" ", "_")
        try:
            found = open_mutants(name, count, folder, options.seed)
        except AssertionError as fault:
            print(f"{name}: FAULT, {fault}", flush=True)
            faults += 1
            continue
        total += count
        print(f"{name}: {count} mutants, {dict(found)}", flush=True)
    print(f"{total} mutants, {faults} faults", flush=True)
    return faults


def shares(mutants):
    """How many of ``mutants`` each format gets, at least one."""
    whole = sum(one.share for one in FORMATS.values())
    return {name: max(1, -(-mutants * one.share // whole)) for name, one in FORMATS.items()}


if __name__ == "__main__":
    sys.exit(main() > 0)
