"""Parts of a U-Net switched off inside a window of noise levels.

After Prasad et al. 2023, arXiv 2312.14965. Weights are not changed: hooks act during a call.

==============  ========================================================================
component       what is left when it is off
==============  ========================================================================
residual block  its shortcut: the input, projected where the number of channels changes
attention       its input
skip            the decoder block gets zeros in place of the encoder's features
==============  ========================================================================

What counts as removal is our choice: the paper's abstract does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...support import checks

KINDS = ("block", "attention", "skip")


@dataclass(frozen=True)
class Component:
    """A part of a U-Net: ``kind`` ("block", "attention", "skip"), stage and place.

    ``module``: a path in the U-Net (of a skip: the decoder block that reads it). ``skip_channels``:
    the channels of its input that come from the encoder. ``depth``: how often the resolution has
    been halved there.
    """

    name: str
    kind: str
    stage: str
    module: str
    depth: int
    skip_channels: int = 0


def is_unet2d(unet: object) -> bool:
    """Whether it has the stages of a diffusers ``UNet2DModel``."""
    return all(hasattr(unet, name) for name in ("down_blocks", "mid_block", "up_blocks"))


def components(unet: Any) -> list[Component]:
    """All residual blocks, attentions and skip connections of a diffusers ``UNet2DModel``.

    In the order of a forward pass, a skip before the block that reads it. Raises ``TypeError`` for
    another network.
    """
    if not is_unet2d(unet):
        raise TypeError(f"unet is a {type(unet).__name__}; a diffusers UNet2DModel is needed")
    found: list[Component] = []
    depth, channels = 0, unet.conv_in.out_channels

    def stage(label: str, name: str, block: Any, path: str, skips: bool) -> None:
        nonlocal channels

        def add(kind: str, group: str, skip_channels: int = 0) -> None:
            module = f"{path}.{group}.{number}"
            part = Component(f"{name} {kind} {number}", kind, label, module, depth, skip_channels)
            found.append(part)

        attentions = list(getattr(block, "attentions", None) or [])
        for number, resnet in enumerate(block.resnets):
            if skips:
                add("skip", "resnets", resnet.conv1.in_channels - channels)
            add("block", "resnets")
            channels = resnet.conv1.out_channels
            if number < len(attentions) and attentions[number] is not None:
                add("attention", "attentions")

    for index, block in enumerate(unet.down_blocks):
        stage("encoder", f"encoder {index}", block, f"down_blocks.{index}", False)
        depth += bool(getattr(block, "downsamplers", None))
    stage("middle", "middle", unet.mid_block, "mid_block", False)
    for index, block in enumerate(unet.up_blocks):
        stage("decoder", f"decoder {index}", block, f"up_blocks.{index}", True)
        depth -= bool(getattr(block, "upsamplers", None))
    return found


@contextmanager
def as_written(unet: nn.Module) -> Iterator[None]:
    """Context in which a compiled U-Net runs uncompiled: compiled code ignores hooks."""
    compiled = getattr(unet, "_compiled_call_impl", None)
    if compiled is None:
        yield
        return
    unet._compiled_call_impl = None
    try:
        yield
    finally:
        unet._compiled_call_impl = compiled


@contextmanager
def switched_off(unet: nn.Module, parts: list[Component]) -> Iterator[None]:
    """Context in which ``unet`` runs without ``parts``; the network is restored afterwards."""
    with ExitStack() as stack:
        stack.enter_context(as_written(unet))
        for part in parts:
            checks.one_of("kind", part.kind, KINDS)
            module = unet.get_submodule(part.module)
            if part.kind == "skip":
                handle = module.register_forward_pre_hook(_zero_skip(part.skip_channels))
            else:
                hook = _shortcut if part.kind == "block" else _input_again
                handle = module.register_forward_hook(hook)
            stack.callback(handle.remove)
        yield


def _zero_skip(count: int):
    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *others = arguments
        return torch.cat([x[:, :-count], torch.zeros_like(x[:, -count:])], dim=1), *others

    return hook


def shortcut_branch(block: Any, x: Tensor) -> Tensor:
    """A residual block without its branch: the input, in the block's scale.

    Projected where the number of channels changes.
    """
    projected = x if block.conv_shortcut is None else block.conv_shortcut(x)
    return projected / block.output_scale_factor


def _shortcut(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    return shortcut_branch(module, arguments[0])


def _input_again(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    return arguments[0]


class AroundUNet:
    """A denoiser that wraps another one: the same interface, its own fingerprint.

    Patches the wrapped U-Net during each call. Not thread-safe.

    Raises ``TypeError`` for a denoiser without a ``UNet2DModel``.
    """

    def __init__(self, denoiser, how: str):
        if not is_unet2d(getattr(denoiser, "unet", None)):
            raise TypeError(
                f"denoiser is a {type(denoiser).__name__}; a diffusers UNet2DModel is needed"
            )
        self.denoiser = denoiser
        self.sample_shape, self.num_classes = denoiser.sample_shape, denoiser.num_classes
        self.sigma_range, self.value_range = denoiser.sigma_range, denoiser.value_range
        self.fingerprint = None if denoiser.fingerprint is None else f"{denoiser.fingerprint} {how}"

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of the network (so that its device is found)."""
        return self.denoiser.parameters()


class AblatedDenoiser(AroundUNet):
    """A denoiser without ``parts`` of its ``UNet2DModel`` where ``low <= sigma < high``.

    Elsewhere it is the network itself. Interface of a denoiser; the fingerprint says what is off.
    Raises ``ValueError`` unless 0 <= low < high. A batch with levels on both sides of the window is
    refused: a hook acts on a whole call.
    """

    def __init__(self, denoiser, parts: list[Component], low: float = 0.0, high: float = math.inf):
        if not 0 <= low < high:
            raise ValueError(
                f"low = {low} and high = {high} make no window; 0 <= low < high is needed"
            )
        names = ", ".join(part.name for part in parts)
        super().__init__(denoiser, f"without {names} in [{low:g}, {high:g})")
        self.parts, self.low, self.high = list(parts), low, high

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        levels = torch.as_tensor(sigma).flatten()
        inside = (levels >= self.low) & (levels < self.high)
        if bool(inside.any()) and not bool(inside.all()):
            raise ValueError(
                f"sigma has levels inside and outside of the window [{self.low:g}, {self.high:g})"
            )
        if not bool(inside.any()):
            with as_written(self.denoiser.unet):
                return self.denoiser(x, sigma, labels)
        with switched_off(self.denoiser.unet, self.parts):
            return self.denoiser(x, sigma, labels)
