"""Other processes and machines that work on a list of tasks, through Dask (the extra ``cluster``).

:class:`Workers` says which, in one word each: so many processes of this machine, a Dask scheduler
that runs already, or jobs of SLURM. While they are started, ``$UTURN_SCHEDULER`` names their
scheduler; every process that finds it there (the notebooks of `make figures`) sends its tasks to
the same workers with :func:`spread`.

Dask is imported when workers are asked for, and not before. Its scheduler runs what it is sent by
anyone who reaches its port: it belongs on a machine or in a network whose users trust each other.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import checks
from .files import read_toml

VARIABLE = "UTURN_SCHEDULER"
DEATHS = 10  # workers that may die at a task before it is given up: SLURM ends jobs at any moment
MANY = 16  # workers that the sweeps of two notebooks do not keep busy
ONE_AT_A_TIME = threading.Lock()  # in a worker: networks are patched in place, a GPU is not shared


def needs_dask(*packages: str) -> None:
    """Raise ``ValueError`` that names the extra where Dask is not installed."""
    if any(find_spec(name) is None for name in ("distributed", *packages)):
        raise ValueError(
            "workers are started and reached through Dask, which is not installed: "
            "pip install 'uturn-lib[cluster]'"
        )


@dataclass(frozen=True)
class Slurm:
    """Jobs of SLURM, as a TOML file describes them: every field is a line of it."""

    workers: int = 1  # in all; WORKERS= on the command line replaces it
    partition: str | None = None
    account: str | None = None
    walltime: str = "01:00:00"  # of a job; a new one takes its place when it ends
    gpus: int = 0  # per job: one worker for each; 0: one worker per job, on a CPU
    cpus: int = 1  # per worker
    memory: str = "8GB"  # per job
    interface: str | None = None  # network between the nodes ("ib0")
    prologue: list[str] = field(default_factory=list)  # shell lines before the worker
    directives: list[str] = field(default_factory=list)  # more #SBATCH options

    @classmethod
    def read(cls, name: str) -> Slurm:
        """From ``name``.toml in the current folder; or from ``name``, a path that ends in .toml.

        Raises ``ValueError`` for an unknown or wrong line, ``FileNotFoundError`` without a file.
        """
        path = Path(name if name.endswith(".toml") else f"{name}.toml")
        if not path.is_file():
            raise FileNotFoundError(
                f"cluster = {name!r} needs a file {path} with partition, walltime, gpus and so on: "
                "docs/cluster.md has one to copy"
            )
        lines = read_toml(path)
        usual = {item.name: getattr(cls(), item.name) for item in fields(cls)}
        for line, value in lines.items():
            checks.one_of(f"line of {path}", line, usual)
            wanted = type(usual[line]) if usual[line] is not None else str
            if type(value) is not wanted:
                raise ValueError(f"{path}: {line} = {value!r} must be a {wanted.__name__}")
        found = cls(**lines)
        for number, lowest in (("workers", 1), ("cpus", 1), ("gpus", 0)):
            checks.positive_int(f"{path}: {number}", getattr(found, number), lowest)
        return found

    def start(self, workers: int, folder: Path) -> Any:
        """A Dask cluster of SLURM jobs with ``workers`` workers in all; their logs in ``folder``.

        A job that ends or dies is replaced.
        """
        from dask_jobqueue import SLURMCluster

        per_job = max(1, self.gpus)
        directives = [f"--gres=gpu:{self.gpus}"] if self.gpus else []
        options: dict[str, Any] = {
            "queue": self.partition,
            "account": self.account,
            "interface": self.interface,
        }
        made = SLURMCluster(
            **{name: value for name, value in options.items() if value is not None},
            cores=per_job,  # threads of Dask: one per worker, a chunk at a time
            processes=per_job,
            job_cpu=per_job * self.cpus,
            memory=self.memory,
            walltime=self.walltime,
            job_extra_directives=[*directives, *self.directives],
            job_script_prologue=[_threads_of_workers(self.cpus), *self.prologue],
            log_directory=str(folder),
            scheduler_options={"dashboard_address": ":0"},
        )
        jobs = -(-workers // per_job)
        made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
        return made


def _threads_of_workers(count: int) -> str:
    """A line of the shell: Dask sets OMP_NUM_THREADS of its workers from this."""
    return f"export DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON__OMP_NUM_THREADS={count}"


@dataclass(frozen=True)
class Workers:
    """Who computes the chunks of sweeps; with all fields None the process itself, as ever."""

    count: int | None = None
    scheduler: str | None = None
    slurm: Slurm | None = None

    @classmethod
    def choose(
        cls,
        count: int | None = None,
        scheduler: str | None = None,
        cluster: str | None = None,
        device: str = "auto",
    ) -> Workers:
        """What WORKERS=, SCHEDULER= and CLUSTER= ask for.

        Raises ``ValueError`` for values that are not possible, or where Dask is missing,
        ``FileNotFoundError`` for a missing TOML file.
        """
        count = None if count is None else checks.positive_int("workers", count)
        if (count, scheduler, cluster) == (None, None, None):
            return cls()
        if scheduler is not None and (count, cluster) != (None, None):
            raise ValueError(
                f"scheduler = {scheduler!r} brings its own workers; leave out workers and cluster"
            )
        if scheduler is not None and not re.fullmatch(r"(tcp|tls|ucx|wss?)://.+", scheduler):
            raise ValueError(f"scheduler = {scheduler!r} must be an address as tcp://host:8786")
        if ":" in device:
            raise ValueError(
                f"device = {device!r} names one card, and every worker takes one of its own: "
                "use 'cuda' or 'cpu'"
            )
        slurm = None if cluster is None else Slurm.read(cluster)
        needs_dask(*(["dask_jobqueue"] if slurm else []))
        return cls(count if slurm is None else count or slurm.workers, scheduler, slurm)

    @property
    def words(self) -> str:
        """As a report says it; "" for none."""
        if self.scheduler:
            return "workers of a running Dask cluster"
        if self.count is None:
            return ""
        where = "of SLURM" if self.slurm else "of this machine"
        return f"{self.count} worker{'s' if self.count > 1 else ''} {where}"

    @property
    def notebooks(self) -> int:
        """Notebooks at a time that keep the workers busy (benchmarks/workers.py)."""
        return 8 if self.scheduler or (self.count or 1) >= MANY else 2

    @contextmanager
    def start(self, cores: int, folder: Path) -> Iterator[str | None]:
        """Run the workers for the length of a block; gives the address of their scheduler.

        Those of this machine share its ``cores``; logs of SLURM go to ``folder``. Raises
        ``ValueError`` for a scheduler that does not answer.
        """
        if self == Workers():
            yield None
            return
        _settings()
        before = os.environ.get(VARIABLE)
        if self.scheduler:
            running, address = connected(self.scheduler), self.scheduler
        else:
            running = self._start(max(1, cores // (self.count or 1)), folder)
            address = running.scheduler_address
        os.environ[VARIABLE] = address
        try:
            yield address
        finally:
            os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})
            forget()
            running.close()

    def _start(self, threads: int, folder: Path) -> Any:
        count = self.count or 1
        if self.slurm:
            return self.slurm.start(count, folder)
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=0,  # the machine's own limits hold, as without workers
            dashboard_address=":0",
            env={"OMP_NUM_THREADS": str(threads)},
            silence_logs=logging.CRITICAL,
        )


def _settings() -> None:
    """Dask's settings for the processes that we start; its messages only where all else fails."""
    import dask
    import distributed  # noqa: F401  sets its own logging when it is imported

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": DEATHS,
            "distributed.admin.large-graph-warning-threshold": "1TB",
            "distributed.comm.timeouts.connect": "30s",
        }
    )


CLIENTS: dict[tuple[str, int], Any] = {}  # of this process: a copy of it (fork) opens its own


def connected(address: str) -> Any:
    """The Dask client of this process at ``address``, opened once.

    Raises ``ValueError`` where no scheduler answers.
    """
    needs_dask()
    _settings()
    from distributed import Client

    client = CLIENTS.get((address, os.getpid()))
    if client is None or client.status != "running":
        try:
            client = Client(address, timeout=30, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise ValueError(f"scheduler = {address!r} does not answer: {error}") from error
        CLIENTS[address, os.getpid()] = client
    return client


def forget() -> None:
    """Close the clients of this process."""
    for client in CLIENTS.values():
        client.close(timeout=1)
    CLIENTS.clear()


@dataclass(frozen=True)
class Task:
    """A call: ``function(*arguments, values of shared)``; tasks of one key are done once.

    ``shared``: large values by their names. Tasks that name the same value share one copy of it,
    also on the way.
    """

    key: str
    arguments: tuple[Any, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)


def spread(function: Callable[..., Any], tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """Number and result of every task, as the workers of ``$UTURN_SCHEDULER`` finish them.

    What a task raises is raised here. Raises ``RuntimeError`` for a task at which workers die again
    and again, and where the scheduler is lost. Tasks that are not begun are taken back when the
    caller stops early.
    """
    from distributed import as_completed

    address = os.environ[VARIABLE]
    client = connected(address)
    values = {name: value for task in tasks for name, value in task.shared.items()}
    kept = dict(zip(values, client.map(_same, values.values(), key=list(values)), strict=True))
    futures = client.map(
        function,
        *zip(*(task.arguments for task in tasks), strict=True),
        [[kept[name] for name in task.shared] for task in tasks],
        key=[task.key for task in tasks],
    )
    numbers: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        numbers.setdefault(task.key, []).append(number)
    try:
        one_each = {future.key: future for future in futures}.values()
        for future in as_completed(one_each, loop=client.loop):
            result = _result(future, address)
            for number in numbers[future.key]:
                yield number, result
    finally:
        for future in [*futures, *kept.values()]:
            future.release()


def _same(value: Any) -> Any:
    return value


def _result(future: Any, address: str) -> Any:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        return future.result()
    except KilledWorker as error:
        raise RuntimeError(
            f"{future.key}: {DEATHS} workers died while they computed it; is there enough memory?"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise RuntimeError(
            f"the scheduler at {address} is gone; what was computed is kept, and the same command "
            "continues from there"
        ) from error


# ------------------------------------------------------------------------------------ in a worker


def take_gpu() -> None:
    """Use one card: worker number n of a machine the n-th, counted in a circle."""
    import torch
    from distributed import get_worker

    if torch.cuda.is_available():
        number = re.search(r"\d+$", str(get_worker().name))
        torch.cuda.set_device(int(number[0] if number else 0) % torch.cuda.device_count())


@contextmanager
def mark(folder: Path) -> Iterator[str]:
    """A file in ``folder`` for the length of a block; who sees its name there shares the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f".seen-{uuid.uuid4().hex}"
    (folder / name).touch()
    try:
        yield name
    finally:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for the length of a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})
