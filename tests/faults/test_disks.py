"""A full disk, a read-only one, another file system, folders that are missing or oddly named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mutants import Small

from uturn_lib.experiments import engine
from uturn_lib.support.files import write_json
from uturn_lib.support.places import ROOT, cache_folder


@engine.experiment("y0")
def filling(seed):
    return {"y0": np.random.default_rng(seed).standard_normal(8000)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB of its own; how to mount it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk (tmpfs)")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let a disk (tmpfs) be mounted")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def scraps(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(small_disk, monkeypatch):
    monkeypatch.setenv("UTURN_CACHE", str(small_disk / "cache"))
    chunks = filling.chunks([{"seed": seed} for seed in range(9)])
    with pytest.raises(OSError, match="results cannot be kept in .*No space left.*UTURN_CACHE"):
        engine.run_chunks(chunks, "filling")
    kept = list((cache_folder() / "filling").glob("[!.]*.npz"))
    assert 1 <= len(kept) < 9 and not scraps(small_disk)
    for chunk in chunks[: len(kept)]:  # what was computed before is whole
        assert np.array_equal(
            engine.read_cached(chunk)["y0"], filling.function(**chunk.arguments)["y0"]
        )
    monkeypatch.setenv("UTURN_CACHE", str(small_disk.parent / "elsewhere"))
    assert len(engine.run_chunks(chunks, "filling")) == 9


def test_a_full_disk_keeps_the_old_state_and_the_old_page(small_disk):
    trainer = Small(small_disk)
    trainer.save()
    write_json(small_disk / "claims.json", [1])
    before = (small_disk / "state.pt").read_bytes()
    (small_disk / "rest").write_bytes(bytes(4096))
    with open(small_disk / "rest", "ab", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    trainer.seconds = 5.0
    for write in (trainer.save, lambda: write_json(small_disk / "claims.json", list(range(9999)))):
        with pytest.raises((OSError, RuntimeError)):
            write()
    assert (small_disk / "state.pt").read_bytes() == before and not scraps(small_disk)
    assert (small_disk / "claims.json").read_text() == "[\n 1\n]\n"


def test_a_read_only_cache_is_read_and_not_written(small_disk, monkeypatch):
    monkeypatch.setenv("UTURN_CACHE", str(small_disk))  # another file system than the figures'
    first, second, damaged = filling.chunks([{"seed": 1}, {"seed": 2}, {"seed": 3}])
    expected = engine.run_chunk(first)
    engine.run_chunk(damaged)
    damaged.path.write_bytes(b"PK")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert np.array_equal(engine.run_chunk(first)["y0"], expected["y0"])
    for missing in (second, damaged):
        with pytest.raises(OSError, match="results cannot be kept in .*[Rr]ead-only"):
            engine.run_chunk(missing)
    with pytest.raises(OSError, match="[Rr]ead-only"):
        write_json(small_disk / "laptop" / "claims.json", [])


# A program in a clone behind a link with blanks and letters beyond ASCII, without a home folder.
PROGRAM = """
import sys, tempfile
import numpy as np, nbformat
from nbformat.v4 import new_code_cell, new_notebook
from pathlib import Path
from uturn_lib.experiments import engine
from uturn_lib.reports import run
from uturn_lib.support import places
from uturn_lib.support.files import write_json
place = Path(sys.argv[1])
arrays = engine.experiment("y0")(lambda seed: {"y0": np.arange(seed)})(4)
assert arrays["y0"].tolist() == [0, 1, 2, 3]
write_json(places.figure_folder("laptop") / "claims.json", [])
cell = new_code_cell(f"open({str(place / 'made')!r}, 'w').write('done')")
nbformat.write(new_notebook(cells=[cell]), place / "page.ipynb")
run.execute(place / "page.ipynb", place / "executed" / "page.ipynb", {})
assert (place / "made").read_text() == "done" and (place / "executed" / "page.ipynb").is_file()
print(places.ROOT, places.cache_folder(), sep="\\n")
"""


@pytest.mark.parametrize("temporary", ["missing", "long"])
def test_odd_paths_no_home_no_temporary_folder(tmp_path, temporary):
    odd = tmp_path / "ein Würfel, 立方"
    odd.mkdir()
    clone = odd / "a clone"
    clone.symlink_to(ROOT, target_is_directory=True)
    scratch = odd / ("missing" if temporary == "missing" else "x" * 120)
    if temporary == "long":
        scratch.mkdir()  # too long for the path of a socket
    kept = {name: value for name, value in os.environ.items() if name != "USERPROFILE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(odd)],
        cwd=clone,
        env=kept
        | {
            "PYTHONPATH": str(clone),
            "HOME": "/proc/no home",
            "TMPDIR": str(scratch),
            "UTURN_CACHE": str(odd / "the cache"),
            "UTURN_FIGURES": str(odd / "the figures"),
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    root, cache = done.stdout.splitlines()[-2:]
    assert Path(root) == ROOT and Path(cache) == odd / "the cache"
    assert (odd / "the figures" / "laptop" / "claims.json").read_text() == "[]\n"


def test_a_progress_file_that_cannot_be_written_ends_nothing(monkeypatch, tmp_path):
    from uturn_lib.support.progress import track

    monkeypatch.setenv("UTURN_PROGRESS_FILE", str(tmp_path / "missing" / "progress"))
    assert list(track(range(3), "turning")) == [0, 1, 2]


def test_a_damaged_state_says_what_to_do(tmp_path):
    Small(tmp_path).save()
    torch.save({"recipe": {"seed": 0}, "seconds": 1.0, "layer": {}}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="(?s)state.pt is damaged .*remove .* to train anew"):
        Small(tmp_path).resume()
