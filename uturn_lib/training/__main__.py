"""Train the networks of a profile: `python -m uturn_lib.training --profile laptop` (or `make train`)."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ..support import checks
from .shipping import train_profile


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m uturn_lib.training", description="Train the networks of a profile."
    )
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time, with the network as it is then"
    )
    parser.add_argument("--output", type=Path, default=None, help="folder that receives the checkpoints")
    options = parser.parse_args(arguments)
    try:
        if not options.minutes > 0:
            raise ValueError(f"minutes = {options.minutes} must be positive")
        train_profile(options.profile, checks.pick_device(options.device), options.output, options.minutes)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last saved state", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
