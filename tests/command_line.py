"""The command ``uturn`` as a reader starts it: a process of its own."""

import os
import subprocess
import sys

from uturn_lib.support.places import ROOT


def command(*arguments, **environment):
    """``python -m uturn_lib`` with ``arguments``, finished."""
    return subprocess.run(
        [sys.executable, "-m", "uturn_lib", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env=os.environ | environment,
    )
