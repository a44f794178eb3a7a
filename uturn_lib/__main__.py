"""``python -m uturn_lib`` is the command ``uturn``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
