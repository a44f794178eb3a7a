"""Short form in `make test`, long form in `make faults` (UTURN_FAULTS=long)."""

import os

LONG = os.environ.get("UTURN_FAULTS") == "long"
