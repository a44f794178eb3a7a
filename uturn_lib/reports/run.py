"""Run the notebooks: `uturn figures [fig08 ...] --profile laptop --device auto -p seed 3`.

* ``figures`` executes copies of the notebooks (kept in .cache/executed) with papermill and leaves
  figures and claims in figures/<profile>.
* ``reference`` makes the results of the last run the committed ones, in figures/reference.
* ``readme`` puts the committed claims into README.md and docs/.
* ``refresh`` executes the committed notebooks in place, at their defaults.
"""

from __future__ import annotations

import ast
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..profiles import Profile, load_profile, profile_of
from ..support import checks
from ..support.cluster import Workers
from ..support.files import atomic_path, read_json, write_text
from ..support.machine import machine
from ..support.places import ROOT, figure_folder, needs_checkout, reference_folder
from . import reproduced

# Imports that load torch stand where they are needed: bad input is refused before.
if TYPE_CHECKING:
    import torch

NOTEBOOKS = ROOT / "notebooks"
PAGES = ("fig*.ipynb", "companions/p*.ipynb", "beyond/b*.ipynb")
LESSONS = sorted(NOTEBOOKS.glob("0*.ipynb"))  # pages that make no figure of the paper
# name: how the figures of the group begin
GROUPS = {"paper": "fig", "companions": "p", "beyond": "b", "p2": "p2", "p3": "p3", "p4": "p4"}
HERE = Workers()  # none: every notebook computes its own sweeps
# It shares no sweep with the others: begun last, it would keep one core waiting.
FIRST = ("fig15",)


def find_notebooks(names: list[str]) -> list[Path]:
    """Notebooks of the figures ("fig08") or groups ("paper", "p3") ``names``; of none: all."""
    needs_checkout("the notebooks")
    found = [path for pattern in PAGES for path in sorted(NOTEBOOKS.glob(pattern))]
    known = {figure_of(path): path for path in found}
    chosen = []
    for name in names:
        if name in GROUPS:
            chosen += [path for figure, path in known.items() if figure.startswith(GROUPS[name])]
        elif matches := [path for figure, path in known.items() if name in (figure, path.stem)]:
            chosen += matches
        else:
            allowed = ", ".join([*known, *GROUPS])
            raise ValueError(f"figure = {name!r} is not known; choose among {allowed}")
    return list(dict.fromkeys(chosen)) or list(known.values())


def figure_of(notebook: Path) -> str:
    """The short name of a notebook's figure: "fig08", "p3a", "b1"."""
    return notebook.stem.split("_")[0]


def parse_parameters(pairs: list[list[str]]) -> dict[str, Any]:
    """[["seed", "3"], ...] -> {"seed": 3}: Python literals, else text."""
    values = {}
    for name, text in pairs:
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def parameter_names(notebook: Path) -> list[str]:
    """Names that the cell tagged "parameters" assigns."""
    cells = read_json(notebook)["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    statements = ast.parse("".join(tagged[0]["source"])).body if tagged else []
    targets = [node.targets[0] for node in statements if isinstance(node, ast.Assign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """``ValueError`` for a parameter that ``notebook`` does not have: papermill only warns."""
    for name in parameters:
        checks.one_of(f"parameter of {notebook.stem}", name, parameter_names(notebook))


def needs_papermill() -> None:
    """Raise ``ValueError`` where the extra that runs notebooks is not installed."""
    if find_spec("papermill") is None:
        raise ValueError("notebooks are run by papermill: pip install 'uturn-lib[notebooks]'")


def execute(
    notebook: Path,
    output: Path,
    parameters: dict[str, Any],
    environment: dict[str, str] | None = None,
) -> None:
    """Run one notebook with papermill, ``environment`` added to its process.

    Raises ``RuntimeError`` with the failing cell's error, or saying that the kernel has died.
    """
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are raised, and said once
    sockets = tempfile.TemporaryDirectory(prefix="uturn-", dir=_short_folder())

    class LocalKernelManager(AsyncKernelManager):
        """Talks to the kernel through files of this user, not through open ports."""

        transport = "ipc"
        ip = str(Path(sockets.name) / "kernel")

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            # without the log level it reports its own shutdown
            arguments = [*options.pop("extra_arguments", []), "--log-level=CRITICAL"]
            options["env"] = os.environ | (environment or {})
            # not in the home folder, which may be missing or read-only
            self.connection_file = str(Path(sockets.name) / "connection.json")
            await super().start_kernel(**options, extra_arguments=arguments)
            KERNELS.add(self)

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            cwd=str(ROOT),
            kernel_manager_class=LocalKernelManager,
        )
    except PapermillExecutionError as error:
        where = f"{notebook.name}, cell {error.cell_index}"
        raise RuntimeError(f"{where}: {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        why = "its process has died: killed, crashed, or out of memory"
        raise RuntimeError(f"{notebook.name}: {why}") from error
    finally:
        sockets.cleanup()


def _short_folder() -> str | None:
    """Where sockets go: the usual temporary folder, unless its path is too long for one."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) + len("/uturn-xxxxxxxx/kernel-99") < SOCKET_PATH
    return None if fits or not Path("/tmp").is_dir() else "/tmp"


SOCKET_PATH = 104  # bytes that the path of a socket may have (108 on Linux, 104 on macOS)
# The notebooks' processes that are alive, so that an interruption can end them.
KERNELS: set[Any] = set()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute_all(
    tasks: list[tuple[Path, Path, dict[str, Any]]], jobs: int
) -> Iterator[tuple[Path, float]]:
    """Run notebooks, (source, output, parameters) each, ``jobs`` at a time.

    Yields each with its seconds as it is done. Two at a time keep the cores busy while one of them
    draws; they share sweeps through the cache, chunk by chunk. Each process gets its share of the
    cores. A failure stops no other notebook: when all the rest are done, ``RuntimeError`` names
    those that failed, with their errors.
    """
    jobs = min(checks.positive_int("jobs", jobs), len(tasks))
    threads = str(max(1, cores() // jobs))
    with tempfile.TemporaryDirectory(prefix="uturn-progress-") as folder:

        def work(number: int) -> tuple[Path, float]:
            begun = time.monotonic()
            source, output, parameters = tasks[number]
            report = Path(folder) / source.stem
            environment = {"OMP_NUM_THREADS": threads, "UTURN_PROGRESS_FILE": str(report)}
            try:
                execute(source, output, parameters, environment)
            finally:
                report.unlink(missing_ok=True)
            return source, time.monotonic() - begun

        pool = ThreadPoolExecutor(jobs)
        failures: list[str] = []
        try:
            waiting = {pool.submit(work, number) for number in range(len(tasks))}
            with tqdm(total=len(tasks), unit="figure", dynamic_ncols=True, disable=None) as bar:
                while waiting:
                    done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                    for task in done:
                        try:
                            source, seconds = task.result()
                        except (RuntimeError, OSError) as error:
                            failures.append(str(error))
                            bar.write(f"  failed: {error}")
                            bar.update()
                            continue
                        bar.write(f"  {source.stem}: {seconds:.0f} s")
                        bar.update()
                        yield source, seconds
                    if sys.stderr.isatty():  # in a log file a line per figure is enough
                        bar.set_postfix_str(_running(Path(folder)), refresh=True)
        finally:  # also after an interruption or a failure: no kernel is left running
            pool.shutdown(wait=False, cancel_futures=True)
            for kernel in list(KERNELS):
                process = getattr(kernel.provisioner, "process", None)
                if process is not None and process.poll() is None:
                    process.kill()
            KERNELS.clear()
    if failures:
        kept = f"{len(tasks) - len(failures)} of {len(tasks)} notebooks are done; failed: "
        raise RuntimeError((kept if len(tasks) > 1 else "") + "\n".join(failures))


def _running(folder: Path) -> str:
    """What the notebooks at work report in their progress files."""
    texts = []
    for file in sorted(folder.iterdir()):
        try:
            done, total, text = file.read_text(encoding="utf-8").split(" ", 2)
            texts.append(f"{file.name.split('_')[0]}: {text} {done}/{total}")
        except (FileNotFoundError, ValueError):
            continue  # just done, or just being written
    return " | ".join(texts)


def figures(
    names: list[str],
    profile: str,
    device: str,
    parameters: dict[str, Any],
    jobs: int,
    workers: Workers = HERE,
) -> None:
    """Compute the figures; each notebook's own figure and claims appear as soon as it is done.

    ``workers`` compute the sweeps of all of them.
    """
    needs_papermill()
    checks.device_name(device)
    jobs = checks.positive_int("jobs", jobs)
    notebooks = [path for path in find_notebooks(names) if _can_show(profile, path, names)]
    if not notebooks:
        asked = ", ".join(names)
        raise ValueError(f"figure = {asked!r}: none of them can be made with profile {profile}")
    profiles = {path: profile_of(profile, figure_of(path)) for path in notebooks}
    common = {"profile": profile, "device": device}
    for name in common.keys() & parameters.keys():
        raise ValueError(f"parameter {name!r} is set by --{name}, not by -p")
    for notebook in notebooks:
        check_parameters(notebook, common | parameters)
    where = checks.pick_device(device)
    common["device"] = str(where)
    scales = [load_profile(name).on(where.type) for name in dict.fromkeys(profiles.values())]
    from ..networks.features import chosen_extractor, feature_naming

    if parameters and "UTURN_FIGURES" not in os.environ:
        os.environ["UTURN_FIGURES"] = "figures/custom"  # those of the defaults stay
    executed = ROOT / ".cache" / "executed" / (os.environ.get("UTURN_SCALE") or "") / profile
    target = _short(figure_folder(profile))
    print(f"{len(notebooks)} figures, profile {profile}, on {where}, into {target}", flush=True)
    for scale in scales:
        print(f"scale{' of ' + scale.name if len(scales) > 1 else ''}: {scale.scale()}", flush=True)
        if scale.features != "classifier":  # decided once, or figures could disagree about it
            os.environ["UTURN_FEATURES"] = chosen_extractor(scale.features)
            naming = feature_naming(scale.features, scale.feature_components)
            print(f"quality in {naming.phrase}", flush=True)
    start = time.monotonic()
    notebooks = sorted(notebooks, key=lambda path: figure_of(path) not in FIRST)
    given = {path: common | {"profile": profiles[path]} | parameters for path in notebooks}
    tasks = [(path, executed / path.name, given[path]) for path in notebooks]
    if workers.words:
        print(f"sweeps: {workers.words}", flush=True)
    with workers.start(cores(), ROOT / ".cache" / "workers"):
        times = {path.stem: seconds for path, seconds in execute_all(tasks, jobs)}
    total = time.monotonic() - start
    print(f"done in {total:.0f} s", flush=True)
    if not parameters and (not names or names[0] in GROUPS and len(names) == 1):
        group = f"_{names[0].upper()}" if names else ""
        made = names[0] if names else "figures"
        page = run_page(profile, scales, where, times, total, jobs, made, workers.words)
        write_text(figure_folder(profile) / f"RUN{group}.md", page)
    if not names and not parameters:
        page = figures_page(profile, [output for _, output, _ in tasks])
        write_text(figure_folder(profile) / "FIGURES.md", page)
    print_claims(profile)
    compared = None if parameters or os.environ.get("UTURN_SCALE") else reproduced.report(profile)
    if compared:
        print(f"reproduced? {compared}\ndetails: {target}/REPRODUCED.md", flush=True)


def _can_show(profile: str, notebook: Path, names: list[str]) -> bool:
    """Whether the profile's network allows this figure; ``ValueError`` where ``names`` has it."""
    figure = figure_of(notebook)
    chosen = load_profile(profile_of(profile, figure))
    lacks = chosen.why_not(figure)
    if lacks is None:
        return True
    if {figure, notebook.stem} & set(names):
        has = f"the network of profile {chosen.name} has {lacks}"
        raise ValueError(f"figure = {figure!r} cannot be made: {has}")
    print(f"left out: {notebook.stem}, the network of this profile has {lacks}", flush=True)
    return False


def run_page(
    profile: str,
    scales: list[Profile],
    device: torch.device,
    seconds: dict[str, float],
    total: float,
    jobs: int,
    target: str = "figures",
    workers: str = "",
) -> str:
    """RUN.md: on what machine, at what scale and in what time the figures beside it were made."""
    import torch

    from ..networks.features import feature_naming

    times = [f"{name.split('_')[0]} {time:.0f}" for name, time in sorted(seconds.items())]
    namings = [feature_naming(scale.features, scale.feature_components) for scale in scales]
    several = len(scales) > 1
    texts = [(f"{scale.name}: " if several else "") + scale.scale() for scale in scales]
    measures = [f"{one.frechet} and {one.kernel} in {one.phrase}" for one in namings]
    return f"""# How these figures were made

Written by `make {target} PROFILE={profile}`; do not edit.

| | |
|---|---|
| machine | {machine(device)}, {jobs} notebooks at a time{workers and ", " + workers} |
| versions | Python {platform.python_version()}, torch {torch.__version__} |
| scale | {"; ".join(texts)} |
| quality | {"; ".join(dict.fromkeys(measures))} |
| time | {total:.0f} s in all (what an earlier run had finished is not computed again) |
| seconds per figure | {", ".join(times)} |
"""


def figures_page(profile: str, executed: list[Path]) -> str:
    """FIGURES.md: every figure with the caption and the tables of its executed notebook."""
    import nbformat

    parts = [
        f"# The figures, profile {profile}",
        f"Written by `make figures PROFILE={profile}`; do not edit. The claims with their rules: "
        "[CLAIMS.md](CLAIMS.md); scale and machine: [RUN.md](RUN.md).",
    ]
    for path in sorted(executed):
        texts = [text for cell in nbformat.read(path, as_version=4).cells for text in _said(cell)]
        figure = figure_of(path)
        pictures = sorted(figure_folder(profile).glob(f"{figure}_*.png"))
        shown = "\n\n".join(f"![{picture.stem}]({picture.name})" for picture in pictures)
        source = next(known for known in find_notebooks([]) if known.name == path.name)
        notebook = f"[notebook](../../{source.relative_to(ROOT).as_posix()})"
        paper = figure.startswith("fig")
        title = int(figure.removeprefix("fig")) if paper else figure.capitalize()
        parts += [f"## Figure {title}", shown, *texts]
        parts.append(f"({notebook}, which explains method and symbols)")
    return "\n\n".join(parts) + "\n"


def _said(cell: Any) -> list[str]:
    """What a cell says about its figure: captions (cells or outputs) and tables of numbers.

    "What we see" is written for the committed laptop run, so it stays in the notebook.
    """
    if cell.cell_type == "markdown":
        return [cell.source] if cell.source.startswith("**Figure") else []
    shown = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
    kept = [text for text in shown if text.startswith(("**Figure", "| "))]
    return [text.replace("\n## ", "\n### ") for text in kept]


def print_claims(profile: str) -> None:
    """The ledger in a few lines."""
    path = figure_folder(profile) / "claims.json"
    for entry in read_json(path) if path.is_file() else []:
        found = f"{entry['verdict']}: {entry['measured']}"
        print(f"  {entry['id']} ({entry['source']}, {entry['figure']}) {found}")


def refresh(names: list[str], jobs: int) -> None:
    """Execute the committed notebooks in place, at their defaults.

    Puts the committed claims into README.md and docs/.
    """
    execute_in_place(find_notebooks(names) + ([] if names else LESSONS), jobs)
    from . import pages

    pages.update()


def execute_in_place(notebooks: list[Path], jobs: int) -> None:
    """Execute ``notebooks`` and keep outputs, tags and folding: nothing that changes every run."""
    needs_papermill()
    import nbformat

    os.environ["UTURN_PROGRESS"] = "off"
    folder = ROOT / ".cache" / "executed" / "refresh"
    for notebook, _ in execute_all([(path, folder / path.name, {}) for path in notebooks], jobs):
        document = nbformat.read(folder / notebook.name, as_version=4)
        document.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        for cell in document.cells:
            # Times and execution status change with every run; tags and folding are what we keep.
            kept = {name: cell.metadata.get(name) for name in ("tags", "jupyter")}
            cell.metadata = {name: value for name, value in kept.items() if value}
        nbformat.write(document, notebook)


def publish(profile: str) -> list[Path]:
    """Make the results in figures/<profile> the committed ones, in figures/reference/<profile>.

    Returns what was written. Raises ``FileNotFoundError`` where there are none.
    """
    source, target = figure_folder(profile), reference_folder(profile)
    if not (source / "claims.json").is_file():
        missing = f"{_short(source)} has no claims.json"
        raise FileNotFoundError(f"{missing}: run make figures PROFILE={profile} first")
    kept = [path for path in sorted(source.iterdir()) if _is_result(path)]
    for path in kept:
        with atomic_path(target / path.name) as temporary:
            if path.suffix == ".md":  # one folder deeper: links into the project go up once more
                text = path.read_text(encoding="utf-8").replace("](../../", "](../../../")
                temporary.write_text(text, encoding="utf-8")
            else:
                shutil.copyfile(path, temporary)
    return kept


def _is_result(path: Path) -> bool:
    own = path.stem in ("quick", "REPRODUCED") or path.name.startswith(".")
    return path.suffix in (".png", ".pdf", ".json", ".md") and not own


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
