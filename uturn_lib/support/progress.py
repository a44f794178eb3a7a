"""One progress display: a bar, a line in a file for `make figures`, silence under test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate over ``items`` with a progress bar.

    ``UTURN_PROGRESS=off`` silences it. ``UTURN_PROGRESS_FILE`` names a file that receives "done
    total description": notebooks run by papermill report through it.
    """
    total = len(items) if total is None and isinstance(items, Sized) else total
    report = os.environ.get("UTURN_PROGRESS_FILE")
    if report:
        yield from _to_file(items, Path(report), description, total)
    elif _disabled():
        yield from items  # tqdm has a lock that forked processes share: a killed one may hold it
    else:
        yield from tqdm(
            items,
            desc=description,
            total=total,
            disable=_disabled(),
            leave=False,
            dynamic_ncols=True,
            delay=1.0,  # seconds: what is read from the cache shows no bar
        )


def bar(total: int | None, description: str, **options: Any) -> tqdm:
    """A progress bar that the caller updates (training)."""
    return tqdm(total=total, desc=description, disable=_disabled(), dynamic_ncols=True, **options)


def _disabled() -> bool | None:
    if os.environ.get("UTURN_PROGRESS", "").lower() in ("off", "0", "false"):
        return True
    # None: tqdm shows a bar at a terminal only
    return None if "ipykernel" not in sys.modules else False


def _to_file(items: Iterable[T], path: Path, description: str, total: int | None) -> Iterator[T]:
    for done, item in enumerate(items):
        with suppress(OSError):  # a full disk or a missing folder must not end the computation
            path.write_text(f"{done} {total or 0} {description}", encoding="utf-8")
        yield item
