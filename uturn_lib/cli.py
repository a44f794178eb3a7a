"""The command ``uturn`` (also ``python -m uturn_lib``): one subcommand per task.

Only the subcommand that runs imports what it needs: help and bad input do not wait for torch.
Exit status: 0 done, 1 failed while running, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from .profiles import check_profile
from .support import checks
from .support.cluster import Workers

JOBS = 2  # notebooks at a time
KEPT = "interrupted; what was computed is kept, and the same command continues from there"


def figures(options: argparse.Namespace) -> None:
    from .reports import run

    parameters = run.parse_parameters(options.parameter)
    workers = Workers.choose(options.workers, options.scheduler, options.cluster, options.device)
    jobs = workers.notebooks if options.jobs is None else options.jobs
    run.figures(options.names, options.profile, options.device, parameters, jobs, workers)


def refresh(options: argparse.Namespace) -> None:
    from .reports import run

    run.refresh(options.names, options.jobs)
    if not options.names:
        from .course import write

        run.execute_in_place(write.instructor_notebooks(), options.jobs)
        write.write()


def reference(options: argparse.Namespace) -> None:
    from .profiles import load_profile
    from .reports import run

    files = run.publish(load_profile(options.profile).name)
    print(f"{len(files)} files are now in figures/reference; commit them")


def readme(options: argparse.Namespace) -> None:
    from .reports import pages

    pages.update()


def course(options: argparse.Namespace) -> None:
    from .course import write
    from .reports import run

    if options.execute is not None:
        run.execute_in_place(write.instructor_notebooks(options.execute), options.jobs)
    files = write.write()
    print(f"{len(files)} files are now in notebooks/course; commit them")


def slides(options: argparse.Namespace) -> None:
    from .course import slides

    for path in slides.slides(options.output):
        print(path)


def quick(options: argparse.Namespace) -> None:
    check_profile(options.profile)
    checks.device_name(options.device)
    from .reports import quick

    quick.show(options.profile, options.device)


def cost(options: argparse.Namespace) -> None:
    check_profile(options.profile)
    checks.device_name(options.device)
    from .reports import cost

    cost.show(options.profile, checks.pick_device(options.device), options.rate, options.workers)


def train(options: argparse.Namespace) -> None:
    if not options.minutes > 0:
        raise ValueError(f"minutes = {options.minutes} must be positive")
    if options.threads is not None:
        checks.positive_int("threads", options.threads)
    checks.device_name(options.device)
    import torch

    from .training import train_profile

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = checks.pick_device(options.device)
    train_profile(options.profile, device, options.output, options.minutes, options.part)


def gpu_hour(options: argparse.Namespace) -> None:
    if not options.minutes > 0:
        raise ValueError(f"minutes = {options.minutes} must be positive")
    check_profile(options.profile)
    checks.device_name(options.device)
    from .reports import gpu_hour

    hour = gpu_hour.Hour(options.profile, options.device, options.minutes)
    if options.step is None:
        gpu_hour.show(hour, options.names)
    else:
        gpu_hour.run_step(options.step, hour)


def fetch(options: argparse.Namespace) -> None:
    from .networks.edm.pretrained import find_edm_file

    print(find_edm_file(options.name))


def convert(options: argparse.Namespace) -> None:
    from .networks.edm import pretrained

    print(pretrained.convert(options.source, options.folder))


def make_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of ``uturn`` and those of its subcommands."""
    top = argparse.ArgumentParser(
        prog="uturn", description="U-Turn diffusion: the paper as notebooks."
    )
    group = top.add_subparsers(dest="command", required=True, metavar="command")
    parsers = {}

    def command(run: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        name = run.__name__.replace("_", "-")
        parser = group.add_parser(name, help=summary, description=summary)
        parser.set_defaults(run=run, failed=2, interrupted="interrupted")
        parsers[name] = parser
        return parser

    one = command(figures, "run notebooks and write figures/PROFILE/")
    add_names(one)
    add_scale(one)
    one.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
    )
    one.add_argument("--workers", type=int, help="processes that compute the sweeps")
    one.add_argument("--scheduler", help="a running Dask cluster computes them: tcp://host:8786")
    one.add_argument("--cluster", help="jobs of SLURM compute them: slurm (reads slurm.toml)")
    one.set_defaults(failed=1, interrupted=KEPT, jobs=None)
    add_scale(command(quick, "the method in a minute: 40 digits, their U-Turns, T_m and T_s"))
    one = command(cost, "network calls and estimated hours of the figures of a profile")
    add_scale(one)
    one.add_argument("--rate", type=float, help="images per second, instead of measuring them")
    one.add_argument("--workers", type=int, nargs="*", help="time with so many workers, each")
    one = command(train, "train the networks of a profile; resumes from the last saved state")
    add_scale(one)
    one.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    one.add_argument("--threads", type=int, help="threads of the CPU (default: torch's)")
    one.add_argument("--output", type=Path, help="folder that receives the checkpoints")
    one.add_argument(
        "--part",
        choices=("all", "noise-classifier", "memory"),
        default="all",
        help="train only this; --minutes is then its training time in all",
    )
    one.set_defaults(
        failed=1, interrupted="interrupted; the same command continues from the last saved state"
    )
    one = command(
        gpu_hour, "the first hour on a card: tests, benchmark, training, Figures 9 and 13"
    )
    one.add_argument("names", nargs="*", metavar="STEP", help="only these steps")
    one.add_argument("--minutes", type=float, default=20.0, help="of training in all (default 20)")
    one.add_argument("--step", help=argparse.SUPPRESS)  # one step, in this process
    add_scale(one)
    one.set_defaults(failed=1, interrupted=KEPT, profile="cifar10", device="cuda")
    command(fetch, "download a published EDM file").add_argument("name")
    one = command(convert, "write an EDM file as safetensors and JSON")
    one.add_argument("source", help="a path, or a published name")
    one.add_argument("folder")
    one = command(refresh, "execute the committed notebooks in place (for maintainers)")
    add_names(one)
    one.set_defaults(failed=1, interrupted=KEPT)
    one = command(course, "student versions and solutions of the lessons (for maintainers)")
    one.add_argument(
        "--execute",
        nargs="*",
        metavar="LESSON",
        help="run instructor notebooks first; all, or some",
    )
    one.add_argument("--jobs", type=int, default=JOBS, help="lessons at a time")
    one.set_defaults(failed=1, interrupted=KEPT)
    one = command(slides, "slides of the lessons, one HTML file each that needs no network")
    one.add_argument("--output", type=Path, default=Path("slides"), help="folder (default slides)")
    one = command(reference, "commit the figures of the last run (for maintainers)")
    one.add_argument("--profile", default="laptop")
    command(readme, "put the committed claims into README.md and docs/ (for maintainers)")
    return top, parsers


def add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="figures, for instance fig08; all by default")
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help=f"notebooks at a time (default {JOBS})"
    )


def add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: those of the process); returns the exit
    status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    top, parsers = make_parsers()
    # options may stand between names: fig08 -p seed 3 fig09
    if arguments and arguments[0] in parsers:
        options = parsers[arguments[0]].parse_intermixed_args(arguments[1:])
    else:
        options = top.parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(options.interrupted, file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return options.failed
    return 0
