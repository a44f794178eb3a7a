"""Run the notebooks: `python -m uturn_lib.run figures [fig08 ...] --profile laptop --device auto -p seed 3`.

``figures`` executes copies with papermill (kept in .cache/executed) and leaves figures and claims in figures/<profile>.
``refresh`` executes the committed notebooks in place, at their defaults, so that they can be read without being run.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import checks, claims
from .profiles import ROOT, figure_folder, load_profile

NOTEBOOKS = ROOT / "notebooks"

# For the notebooks' processes: a waiting thread spins only briefly before it sleeps. On a machine that does other work as well,
# threads that spin were seen to slow the many small tensor operations of the exact cases tenfold; sleeping at once costs a third
# of the network's speed on a quiet one.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def find_notebooks(names: list[str]) -> list[Path]:
    """Notebooks whose file name starts with one of ``names`` ("fig08"); all figures when empty."""
    known = sorted(NOTEBOOKS.glob("fig*.ipynb"))
    chosen = []
    for name in names:
        matches = [path for path in known if path.stem == name or path.stem.split("_")[0] == name]
        if not matches:
            raise ValueError(
                f"figure = {name!r} is not known; choose among {', '.join(path.stem.split('_')[0] for path in known)}"
            )
        chosen += matches
    return chosen or known


def parse_parameters(pairs: list[list[str]]) -> dict[str, Any]:
    """[["seed", "3"], ...] -> {"seed": 3}: Python literals, else text."""
    values = {}
    for name, text in pairs:
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a name that the notebook's parameters cell does not have (papermill would only warn)."""
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        checks.one_of(f"parameter of {notebook.stem}", name, known)


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Run one notebook with papermill; raises ``RuntimeError`` with the failing cell's error."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from papermill.exceptions import PapermillExecutionError

    sockets = tempfile.TemporaryDirectory(prefix="uturn-")

    class LocalKernelManager(AsyncKernelManager):
        """Talks to the kernel through files of this user instead of open ports; each run has its own."""

        transport = "ipc"
        ip = str(Path(sockets.name) / "kernel")

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
        raise RuntimeError(f"{notebook.name}, cell {error.cell_index}: {error.ename}: {error.evalue}") from error
    finally:
        sockets.cleanup()


@contextmanager
def reporting(bar: tqdm, file: Path) -> Iterator[None]:
    """Show on ``bar`` what the notebook's process writes to its progress file."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            try:
                done, total, text = file.read_text(encoding="utf-8").split(" ", 2)
                bar.set_postfix_str(f"{text} {done}/{total}", refresh=True)
            except (FileNotFoundError, ValueError):
                continue  # not written yet, or just being written

    os.environ["UTURN_PROGRESS_FILE"] = str(file)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        os.environ.pop("UTURN_PROGRESS_FILE", None)
        file.unlink(missing_ok=True)


def figures(names: list[str], profile: str, device: str, parameters: dict[str, Any]) -> None:
    """Compute the figures; each notebook's own figure and claims appear as soon as it is done."""
    load_profile(profile)
    where = checks.pick_device(device)
    notebooks = find_notebooks(names)
    common = {"profile": profile, "device": str(where)}
    for notebook in notebooks:
        check_parameters(notebook, common | parameters)
    if parameters and "UTURN_FIGURES" not in os.environ:
        os.environ["UTURN_FIGURES"] = "figures/custom"  # the figures of the defaults stay as they are
    executed = ROOT / ".cache" / "executed" / profile
    executed.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(notebooks)} figures, profile {profile}, on {where}; results go to {_short(figure_folder(profile))}",
        flush=True,
    )
    start = time.monotonic()
    with (
        tqdm(notebooks, unit="figure", dynamic_ncols=True) as bar,
        reporting(bar, executed / f"progress-{os.getpid()}.txt"),
    ):
        for notebook in bar:
            bar.set_description(notebook.stem)
            begun = time.monotonic()
            execute(notebook, executed / notebook.name, common | parameters)
            bar.write(f"  {notebook.stem}: {time.monotonic() - begun:.0f} s")
    print(f"done in {time.monotonic() - start:.0f} s", flush=True)
    print_claims(profile)


def print_claims(profile: str) -> None:
    """The ledger in a few lines."""
    from .files import read_json

    path = figure_folder(profile) / "claims.json"
    for entry in read_json(path) if path.is_file() else []:
        print(f"  {entry['id']} ({entry['source']}, {entry['figure']}) {entry['verdict']}: {entry['measured']}")


def refresh(names: list[str]) -> None:
    """Execute the committed notebooks in place with their default parameters, and put their claims into the README."""
    import nbformat

    for notebook in find_notebooks(names):
        begun = time.monotonic()
        temporary = ROOT / ".cache" / "executed" / "refresh" / notebook.name
        os.environ["UTURN_PROGRESS"] = "off"
        execute(notebook, temporary, {})
        document = nbformat.read(temporary, as_version=4)
        document.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        for cell in document.cells:
            # Times and execution status change with every run; tags are what we keep.
            cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        nbformat.write(document, notebook)
        print(f"{notebook.stem}: {time.monotonic() - begun:.0f} s", flush=True)
    readme = ROOT / "README.md"
    readme.write_text(with_claims(readme.read_text(encoding="utf-8"), claims.table("laptop")), encoding="utf-8")


def with_claims(text: str, table: str) -> str:
    """``text`` with the lines between its two claims marks replaced by ``table``."""
    begin, end = "<!-- claims:begin -->\n", "<!-- claims:end -->"
    before, rest = text.split(begin)
    return before + begin + table + "\n" + end + rest.split(end)[1]


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 for bad input, 1 for a failed notebook."""
    parser = argparse.ArgumentParser(prog="python -m uturn_lib.run", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("figures", "refresh"))
    parser.add_argument("names", nargs="*", help="figures, for instance fig08; all by default")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "refresh":
            refresh(options.names)
        else:
            figures(options.names, options.profile, options.device, parse_parameters(options.parameter))
    except KeyboardInterrupt:
        print("interrupted; what was computed is kept, and the same command continues from there", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
