"""Work that costs only its scheduling, in a file that workers can import."""

import numpy as np

from uturn_lib.experiments import engine


def nothing(number: int, shared: list) -> int:
    """A task for the overhead of Dask alone."""
    return number


@engine.experiment("value")
def empty(number: int) -> engine.Arrays:
    """A chunk for the overhead with its key, its lock and its file."""
    return {"value": np.array(number)}
