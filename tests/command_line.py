"""The commands of the library as a reader starts them: processes of their own."""

import os
import subprocess
import sys

from uturn_lib.support.places import ROOT


def command(*arguments, **environment):
    """``python -m uturn_lib.reports.run`` with ``arguments``, finished."""
    return subprocess.run(
        [sys.executable, "-m", "uturn_lib.reports.run", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env=os.environ | environment,
    )
