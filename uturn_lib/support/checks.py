"""Early, specific errors: each check names the argument, its value and what is allowed."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, overload

# torch takes seconds to load: bad input to the command line is refused without it
if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEVICES = ("cpu", "cuda")


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(
            f"{name} = {value!r} is not known; choose one of {', '.join(map(repr, allowed))}"
        )


def positive_int(name: str, value: int, minimum: int = 1) -> int:
    """Return ``value`` as an int; raise ``ValueError`` unless it is a whole number >=
    ``minimum``."""
    whole = (
        isinstance(value, numbers.Real)  # numpy's numbers as well
        and not isinstance(value, bool)
        and math.isfinite(value)
        and int(value) == value
    )
    if not whole or value < minimum:
        raise ValueError(f"{name} = {value!r} must be a whole number of at least {minimum}")
    return int(value)


def noise_level(
    name: str, value: float, highest: float = math.inf, allow_zero: bool = True, lowest: float = 0.0
) -> float:
    """``value`` as a float; ``ValueError`` unless it is 0 (if allowed) or in [lowest, highest]."""
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} = {value!r} is not a number; a noise level is needed") from error
    too_low = value < 0 or (value == 0 and not allow_zero) or 0 < value < lowest * (1 - 1e-6)
    if math.isnan(value) or math.isinf(value) or too_low or value > highest:
        low = (
            ("0 or " if allow_zero else "") + f"[{lowest:g}"
            if lowest
            else "[0"
            if allow_zero
            else "(0"
        )
        raise ValueError(
            f"{name} = {value} is not a usable noise level; allowed is {low}, {highest:g}]"
        )
    return value


def samples(name: str, x: Tensor, sample_shape: tuple[int, ...] | None = None) -> None:
    """Raise unless ``x`` is a floating point batch of shape (B, *sample_shape)."""
    import torch

    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(
            f"{name} has dtype {x.dtype}; a floating point tensor is needed (images scaled to "
            "[-1, 1])"
        )
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; a batch (B, *sample) is needed")
    if sample_shape is not None and tuple(x.shape[1:]) != tuple(sample_shape):
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; this denoiser works on (B, "
            f"{', '.join(map(str, sample_shape))})"
        )


def tensors(**named: object) -> None:
    """Raise ``TypeError`` unless all of ``named`` are tensors of real numbers."""
    import torch

    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if value.is_complex():
            raise TypeError(f"{name} has dtype {value.dtype}; real numbers are needed")


def ground_truth(
    name: str, x0: Tensor, sample_shape: tuple[int, ...] | None, value_range: tuple[float, float]
) -> None:
    """Raise unless ``x0`` is a finite batch whose values lie in ``value_range`` (images are scaled
    to [-1, 1])."""
    import torch

    samples(name, x0, sample_shape)
    if not torch.isfinite(x0).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    low, high = value_range
    # Outputs of a sampler overshoot the range a little and may be turned again; pixels of 0 to 255
    # are far outside.
    margin = 0.25 * (high - low) if math.isfinite(high - low) else 0.0
    if x0.numel() and (x0.min() < low - margin or x0.max() > high + margin):
        raise ValueError(
            f"{name} has values in [{float(x0.min()):g}, {float(x0.max()):g}]; this denoiser "
            f"expects [{low:g}, {high:g}]"
        )


@overload
def labels(value: Tensor, batch: int, num_classes: int, needed: bool = ...) -> Tensor: ...
@overload
def labels(value: Tensor | None, batch: int, num_classes: int, needed: Literal[True]) -> Tensor: ...
@overload
def labels(
    value: Tensor | None, batch: int, num_classes: int, needed: bool = ...
) -> Tensor | None: ...
def labels(
    value: Tensor | None, batch: int, num_classes: int, needed: bool = False
) -> Tensor | None:
    """Check class labels: integers (batch,) in [0, num_classes), or None where allowed."""
    if value is None:
        if needed:
            raise ValueError(
                f"labels are missing: this denoiser needs one of {num_classes} classes per sample"
            )
        return None
    if num_classes == 0:
        raise ValueError("labels were given, but this denoiser has no classes; leave labels=None")
    import torch

    value = torch.as_tensor(value)
    if value.is_floating_point() or value.dtype == torch.bool:
        raise TypeError(f"labels have dtype {value.dtype}; integers are needed")
    if tuple(value.shape) != (batch,):
        raise ValueError(
            f"labels have shape {tuple(value.shape)}; one per sample, ({batch},), is needed"
        )
    if batch and (value.min() < 0 or value.max() >= num_classes):
        raise ValueError(
            f"labels lie in [{int(value.min())}, {int(value.max())}]; this denoiser has classes 0 "
            f"to {num_classes - 1}"
        )
    return value.long()


def device_name(name: str) -> None:
    """Raise ``ValueError`` for an unsupported kind of device, without loading torch."""
    kind = re.sub(r":\d+$", "", name)
    if kind in ("mps", "xpu", "hpu", "xla", "mtia", "meta"):
        raise ValueError(
            f"device = {name!r} is not supported: sampler states are float64; use 'cpu' or 'cuda'"
        )
    if name not in ("", "auto") and kind not in DEVICES:
        raise ValueError(f"device = {name!r} is not a torch device; use 'cpu', 'cuda' or 'cuda:0'")


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """``device`` (None, "auto", "cpu", "cuda:0", ...) as a torch device; default cuda if any."""
    device_name(str(device or ""))
    import torch

    if device in (None, "", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device = {str(chosen)!r} was asked for, but torch sees no CUDA device here; use 'cpu'"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device = {str(chosen)!r} was asked for, but torch sees {torch.cuda.device_count()} "
            "CUDA device(s)"
        )
    return chosen
