"""The project's own files: environments in step, names that stay, sizes, nothing private."""

import os
import re
import subprocess
import sys

import pytest

import uturn_lib
from uturn_lib.support.places import ROOT

NAMES = [
    "karras_sigmas",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "EmpiricalDenoiser",
    "load_denoiser",
    "score",
    "reverse",
    "u_turn",
    "UTurn",
    "g_turn",
    "artificial_start",
]


def test_names_are_loaded_when_first_used():
    """`import uturn_lib` is quick; every name, submodule and `import *` still works after it."""
    program = """
import sys, uturn_lib
assert "torch" not in sys.modules
import uturn_lib.api as api
assert all(getattr(uturn_lib, name) is getattr(api, name) for name in api.__all__)
assert set(api.__all__) <= set(dir(uturn_lib)) and uturn_lib.networks.EDMDenoiser
assert not hasattr(uturn_lib, "missing") and not hasattr(uturn_lib, "__wrapped__")
from uturn_lib import *
assert u_turn is api.u_turn
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "hidden", ["jupyter jupyter_client jupyter_core jupyterlab papermill nbval nbformat ipykernel"]
)
def test_the_core_works_without_jupyter(hidden):
    """A U-Turn in an environment without the extra `notebooks`; `uturn figures` says what is
    missing."""
    program = f"""
import sys
for name in {hidden!r}.split():
    sys.modules[name] = None  # importing it raises ImportError
import torch, uturn_lib as ut
from uturn_lib import cli, experiments, reports, training
x0 = torch.zeros(2, 3)
gaussian = ut.GaussianDenoiser(torch.zeros(3), torch.eye(3))
assert ut.u_turn(gaussian, x0, 1.0, steps=4).y0.shape == x0.shape
assert cli.main(["figures", "fig01"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "pip install 'uturn-lib[notebooks]'" in done.stderr, done.stderr


def test_names_that_stay_are_importable():
    for name in NAMES:
        assert getattr(uturn_lib, name).__doc__
    from uturn_lib.measures import correlation, gaussianity, quality, retention

    for module, name in (
        (correlation, "uturn_correlation"),
        (correlation, "gaussian_correlation"),
        (gaussianity, "ks_statistic"),
        (gaussianity, "ks_fraction"),
        (retention, "transition"),
        (quality, "frechet_distance"),
        (quality, "kernel_distance"),
    ):
        assert getattr(module, name).__doc__


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP, which torch has on Linux")
@pytest.mark.parametrize("own, found", [({}, "1000"), ({"GOMP_SPINCOUNT": "777"}, "777")])
def test_waiting_threads_sleep_and_the_users_choice_is_kept(own, found):
    """What libgomp itself says of its settings once ``uturn_lib`` has imported torch."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run(
        [sys.executable, "-c", "import uturn_lib.noise"],
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"} | own,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == {found}


def test_make_and_the_library_agree_about_waiting_threads():
    (number,) = re.findall(r"export GOMP_SPINCOUNT \?= (\d+)", (ROOT / "Makefile").read_text())
    assert (
        f'setdefault("GOMP_SPINCOUNT", "{number}")'
        in (ROOT / "uturn_lib" / "__init__.py").read_text()
    )


def pyproject():
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_conda_builds_the_environment_of_pyproject():
    """environment.yml names no package of its own: Python from conda, everything else from
    pyproject.toml under constraints.txt."""
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert sorted(pip) == ["--constraint constraints.txt", "--editable .[dev]"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (python,) = [entry for entry in plain if entry.startswith("python=")]
    assert {entry.split("=")[0] for entry in plain} == {"python", "pip", "make"}
    lowest = tuple(
        map(int, re.search(r"(\d+)\.(\d+)", pyproject()["project"]["requires-python"]).groups())
    )
    assert tuple(map(int, python.split("=")[1].split("."))) >= lowest
    assert (
        "pytorch" not in environment["channels"] and "defaults" not in environment["channels"]
    )  # the first is no longer served


def test_every_direct_dependency_is_pinned():
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    assert "uturn-lib[notebooks]" in extras["dev"]
    assert "uturn-lib[cluster]" in extras["dev"]
    some = ("notebooks", "cluster", "dev", "bench")
    wanted = [*project["dependencies"], *(entry for name in some for entry in extras[name])]
    pinned = {
        re.split(r"[=;]", line)[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.split(r"[>=<;\[ ]", entry)[0].lower().replace("_", "-") for entry in wanted} - {
        "uturn-lib"
    }
    assert names <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_large_or_executable_data_is_tracked():
    for path in tracked():
        assert path.suffix not in (".pkl", ".pt", ".npz", ".pyc", ".bin"), path
        assert path.stat().st_size < (40e6 if path.suffix == ".safetensors" else 1.5e6), path
        if path.suffix == ".png":
            assert path.stat().st_size <= 400_000, path


def test_committed_claims_were_made_with_the_shipped_network():
    import json

    from uturn_lib.networks import shipped_fingerprint

    entries = json.loads((ROOT / "figures" / "reference" / "laptop" / "claims.json").read_text())
    assert entries and {entry["network"] for entry in entries} == {shipped_fingerprint("mnist")}


def test_make_help_names_the_targets():
    text = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for target in (
        "env",
        "figures",
        "test",
        "fig08",
        "companions",
        "lab",
        "train",
        "bench",
        "clean",
    ):
        assert f"make {target}" in text
