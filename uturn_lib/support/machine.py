"""What a computer is called in reports and model cards."""

from __future__ import annotations

import platform
from typing import Any


def machine(device: Any) -> str:
    """What a ``torch.device`` is, in words that name no single machine: the graphics card, or the
    processor's kind and its cores in use."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
