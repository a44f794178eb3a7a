"""What a computer is called in reports and model cards."""

from __future__ import annotations

import platform
from typing import Any


def machine(device: Any) -> str:
    """Description of a device without host name: the GPU's model, or CPU type and threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
