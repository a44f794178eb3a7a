"""The installed package: a wheel in an environment of its own, in a folder without the checkout;
large weights fetched."""

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile

import numpy as np
import pytest
import torch
from local_server import Server

from uturn_lib import load_denoiser
from uturn_lib.networks import checkpoints, save_denoiser
from uturn_lib.support import places

PACKED = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "uturn_lib",
    "checkpoints",
    "notebooks/published",
)

# Run in the environment of the wheel, in an empty folder.
PROGRAM = """
import importlib, json, pkgutil
import torch
import uturn_lib
from uturn_lib import load_data, load_denoiser, training, u_turn
from uturn_lib.claims import published
from uturn_lib.experiments import engine
from uturn_lib.support import places

modules = [found.name for found in pkgutil.walk_packages(uturn_lib.__path__, "uturn_lib.")]
for name in modules:
    importlib.import_module(name)
digits = load_data("mnist", "test").images[:2]
turned = u_turn(load_denoiser("mnist", "cpu"), digits, 0.3, steps=4).y0
engine.experiment("y0")(lambda of: {"y0": turned.numpy()})("this test")
print(json.dumps({
    "file": uturn_lib.__file__,
    "modules": modules,
    "moved": float((turned - digits).square().mean().sqrt()),
    "curves": len(published.load_curves("chen2023_cifar10")["sigma"]),
    "cached": [str(f) for f in places.cache_folder().rglob("*.npz")],
    "written": [str(f) for f in (places.figure_folder("laptop"), training.RUNS, places.TRAINED)],
}))
"""


def packed_files(folder):
    """A copy of what a wheel is made of, so that nothing is built in the checkout."""
    for name in PACKED:
        source, target = places.CHECKOUT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def build(source, target):
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir")
    run(
        *pip,
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--wheel-dir",
        target,
        source,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(packed_files(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel alone; everything else is found in the running one (but not its
    editable uturn_lib: that takes .pth files)."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        wheel,
    )
    packages = run(
        python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    ).stdout.strip()
    others = dict.fromkeys(
        [
            sysconfig.get_paths()["purelib"],
            sysconfig.get_paths()["platlib"],
            *site.getsitepackages(),
        ]
    )
    with open(os.path.join(packages, "others.pth"), "w") as file:
        file.write("\n".join(others) + "\n")
    return python, packages


def listing(folder):
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}


def test_the_wheel_runs_a_u_turn_anywhere_and_writes_into_the_users_folders(environment, tmp_path):
    python, packages = environment
    before, empty, home = listing(packages), tmp_path / "empty", tmp_path / "home"
    empty.mkdir(), home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UTURN_", "XDG_", "PYTHON"))
    }
    settings = kept | {"HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    found = json.loads(run(python, "-c", PROGRAM, cwd=empty, env=settings).stdout.splitlines()[-1])
    assert found["file"].startswith(packages) and 0 < found["moved"] < 0.3 and found["curves"] > 1
    written = {
        path.relative_to(places.CHECKOUT).with_suffix("") for path in places.PACKAGE.rglob("*.py")
    }
    assert {".".join(path.parts).removesuffix(".__init__") for path in written} == {
        "uturn_lib",
        *found["modules"],
    }
    assert found["cached"] and all(
        path.startswith(str(home)) for path in found["cached"] + found["written"]
    )
    assert listing(packages) == before and not any(empty.iterdir())

    refused = subprocess.run(
        [str(python), "-m", "uturn_lib", "figures", "fig08"],
        cwd=empty,
        env=settings,
        capture_output=True,
        text=True,
    )
    assert (
        refused.returncode == 2
        and "notebooks are not part of the installed package: clone" in refused.stderr
    )


def test_the_wheel_holds_the_shipped_files_and_no_large_ones(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {item.filename: item.file_size for item in archive.infolist()}
        (points,) = [name for name in sizes if name.endswith("entry_points.txt")]
        assert "uturn = uturn_lib.cli:main" in archive.read(points).decode()
    assert "uturn_lib/py.typed" in sizes
    for folder, inside in ((places.CHECKPOINTS, "checkpoints"), (places.PUBLISHED, "published")):
        for path in folder.rglob("*"):
            if path.suffix in (".safetensors", ".json", ".csv"):
                name = f"uturn_lib/shipped/{inside}/{path.relative_to(folder).as_posix()}"
                assert (name in sizes) == (path.stat().st_size <= 10_000_000), name
    assert max(sizes.values()) <= 10_000_000 and not any(
        "test" in name or "egg" in name for name in sizes
    )

    source = packed_files(tmp_path / "source")
    with open(source / "checkpoints" / "mnist" / checkpoints.WEIGHTS, "ab") as file:
        file.write(bytes(10_000_001))
    with zipfile.ZipFile(build(source, tmp_path / "large")) as archive:
        names = archive.namelist()
    assert "uturn_lib/shipped/checkpoints/mnist/config.json" in names
    assert f"uturn_lib/shipped/checkpoints/mnist/{checkpoints.WEIGHTS}" not in names


@pytest.fixture
def without_weights(tmp_path, monkeypatch, tiny_network):
    """Shipped checkpoints of which one has lost its weights, as in a wheel; returns those and their
    SHA-256."""
    folder = tmp_path / "shipped"
    save_denoiser(tiny_network, folder / "tiny")
    content = (folder / "tiny" / checkpoints.WEIGHTS).read_bytes()
    (folder / "tiny" / checkpoints.WEIGHTS).unlink()
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", folder)
    monkeypatch.setattr(checkpoints, "kept_folder", lambda: tmp_path / "kept")
    monkeypatch.delenv("UTURN_CHECKPOINTS_URL", raising=False)
    return content


def test_weights_that_are_not_packed_are_fetched_once_and_verified(
    without_weights, monkeypatch, tiny_network
):
    server, name = Server(), f"tiny/{checkpoints.WEIGHTS}"
    server.files[name] = without_weights
    monkeypatch.setenv("UTURN_CHECKPOINTS_URL", server.url(""))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        np.testing.assert_allclose(
            load_denoiser("tiny", "cpu")(x, 1.0), tiny_network(x, 1.0), rtol=1e-5, atol=1e-6
        )
    assert len(server.asked) == 1


def test_other_weights_at_the_address_are_refused(without_weights, monkeypatch):
    server = Server()
    server.files[f"tiny/{checkpoints.WEIGHTS}"] = without_weights[:-1] + b"!"
    monkeypatch.setenv("UTURN_CHECKPOINTS_URL", server.url(""))
    with pytest.raises(ValueError, match="wrong checksum"):
        load_denoiser("tiny", "cpu")


def test_without_an_address_the_error_names_the_ways_out(
    without_weights, tmp_path, monkeypatch, tiny_network
):
    with pytest.raises(
        FileNotFoundError,
        match="'tiny' are too large.*UTURN_CHECKPOINTS_URL.*folder that holds tiny/",
    ):
        load_denoiser("tiny", "cpu")
    monkeypatch.setenv("UTURN_CHECKPOINTS_URL", str(tmp_path / "own"))
    (tmp_path / "own" / "tiny").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="lacks"):
        load_denoiser("tiny", "cpu")
    (tmp_path / "own" / "tiny" / checkpoints.WEIGHTS).write_bytes(without_weights)
    config = json.loads((tmp_path / "shipped" / "tiny" / "config.json").read_text())
    assert config["uturn"]["weights_sha256"] == hashlib.sha256(without_weights).hexdigest()
    assert load_denoiser("tiny", "cpu").sample_shape == tiny_network.sample_shape


def test_a_checkout_is_known_by_what_lies_beside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "uturn_lib"
    package.mkdir()
    assert places.find_checkout(package) is None
    (tmp_path / "pyproject.toml").touch()
    assert places.find_checkout(package) is None
    (tmp_path / "notebooks").mkdir()
    assert places.find_checkout(package) == tmp_path
    assert places.find_checkout() == places.ROOT == places.needs_checkout("anything")
    monkeypatch.setenv("UTURN_CACHE", "relative")
    assert places.cache_folder() == places.ROOT / "relative"
    monkeypatch.delenv("UTURN_CACHE")
    assert places.cache_folder() == places.ROOT / ".cache" / "uturn"
    monkeypatch.setattr(places, "CHECKOUT", None)
    assert "uturn" in str(places.cache_folder()) and not places.cache_folder().is_relative_to(
        places.PACKAGE.parent
    )
    with pytest.raises(
        FileNotFoundError, match="the notebooks are not part of the installed package: clone"
    ):
        places.needs_checkout("the notebooks")
