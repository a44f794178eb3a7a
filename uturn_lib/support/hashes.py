"""Content hash of tensors."""

from __future__ import annotations

import hashlib

import numpy as np
from torch import Tensor


def content_hash(*tensors: Tensor) -> str:
    """SHA-256 of the values of ``tensors``, independent of device: their name in cache keys."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()
