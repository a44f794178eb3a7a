"""Cheaper calls of a U-Net: skipped parts, and reused deep features.

:class:`ShortcutDenoiser` leaves parts out by a schedule over the noise level (after Prasad et al.
2023, arXiv 2312.14965); :class:`CachedDenoiser` computes the deep part only every k-th call and
otherwise uses what it gave last (the idea of Ma et al. 2023, DeepCache, arXiv 2312.00858). Both
replace the ``forward`` of modules during a call and restore it afterwards.
``ablation.switched_off`` gives the same numbers without saving time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...support import checks
from .ablation import AroundUNet, Component, as_written, shortcut_branch, switched_off


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable) -> Iterator[None]:
    """Context in which ``module`` computes ``forward``; weights and class stay as they are."""
    hidden = vars(module).get("forward")  # another replacement, if this one is inside of it
    module.forward = forward
    try:
        yield
    finally:
        if hidden is None:
            del module.forward
        else:
            module.forward = hidden


@contextmanager
def left_out(unet: nn.Module, parts: Sequence[Component]) -> Iterator[None]:
    """``ablation.switched_off``, the same numbers, without computing what is left out."""
    with ExitStack() as stack:
        stack.enter_context(switched_off(unet, [part for part in parts if part.kind == "skip"]))
        for part in dict.fromkeys(parts):  # cuts may overlap
            if part.kind == "skip":
                continue
            module = unet.get_submodule(part.module)
            forward = partial(_only_shortcut, module) if part.kind == "block" else _same
            stack.enter_context(replaced_forward(module, forward))
        yield


def _only_shortcut(block: nn.Module, x: Tensor, *others: object, **options: object) -> Tensor:
    return shortcut_branch(block, x)


def _same(x: Tensor, *others: object, **options: object) -> Tensor:
    return x


@dataclass(frozen=True)
class Cut:
    """``part`` is left out where ``low <= sigma < high``."""

    part: Component
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"part {self.part.name}: 0 <= low < high is needed, got {self.low}, {self.high}"
            )


class ShortcutDenoiser(AroundUNet):
    """A denoiser that skips parts of its ``UNet2DModel`` by a schedule.

    ``cuts``: parts, each with its window of noise levels. Every call is for one noise level (a
    number): the schedule acts on whole calls. Raises ``ValueError`` for a batch of several levels.
    """

    def __init__(self, denoiser, cuts: Sequence[Cut]):
        text = "; ".join(f"{cut.part.name} in [{cut.low:g}, {cut.high:g})" for cut in cuts)
        super().__init__(denoiser, f"without {text or 'nothing'}")
        self.cuts = list(cuts)

    def missing(self, sigma: float) -> list[Component]:
        """The parts that are left out at ``sigma``."""
        return [cut.part for cut in self.cuts if cut.low <= sigma < cut.high]

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        unet, parts = self.denoiser.unet, self.missing(one_level(sigma))
        with as_written(unet), left_out(unet, parts):
            return self.denoiser(x, sigma, labels)


class CachedDenoiser(AroundUNet):
    """A denoiser that reuses the deep features of its ``UNet2DModel``.

    All but the outermost stage is computed only at every ``every``-th call of a trajectory. In
    between only the first encoder and the last decoder stage are computed, and the features that
    come up from below are those of the last full call. A trajectory is recognised by its falling
    noise level: a call with another batch size, or at a level that is not lower than the last one,
    begins a new one.
    """

    def __init__(self, denoiser, every: int):
        every = checks.positive_int("every", every)
        super().__init__(denoiser, f"with deep features of every {every}-th call")
        if len(denoiser.unet.down_blocks) < 2:
            raise ValueError("denoiser: its U-Net has one stage; two or more are needed")
        self.every = every
        self.begin()

    def begin(self) -> None:
        """Forget what is kept: the next call is a full one."""
        self._calls, self._last, self._deep = 0, (0, -math.inf), None

    def __call__(self, x: Tensor, sigma: float | Tensor, labels: Tensor | None = None) -> Tensor:
        level = one_level(sigma)
        if self._last[0] != len(x) or level >= self._last[1]:
            self.begin()
        full = self._deep is None or self._calls % self.every == 0
        self._calls, self._last = self._calls + 1, (len(x), level)
        with as_written(self.denoiser.unet), self._kept() if full else self._used():
            return self.denoiser(x, sigma, labels)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """A full call; what the last stage but one hands up is kept."""

        def keep(module: nn.Module, arguments: tuple, output) -> None:
            self._deep = output

        handle = self.denoiser.unet.up_blocks[-2].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _used(self) -> Iterator[None]:
        """A call in which everything below the outermost stage answers with what was kept."""
        unet = self.denoiser.unet
        with ExitStack() as stack:
            for block in unet.down_blocks[1:]:
                count = len(block.resnets) + bool(block.downsamplers)
                stack.enter_context(replaced_forward(block, _placeholders(count)))
            if unet.mid_block is not None:
                stack.enter_context(replaced_forward(unet.mid_block, _same))
            for block in unet.up_blocks[:-1]:
                stack.enter_context(replaced_forward(block, lambda *_, **__: self._deep))
            yield


def _placeholders(count: int) -> Callable:
    """An encoder stage that computes nothing; the skips that it hands on are read by nobody."""

    def forward(hidden_states: Tensor, temb: Tensor | None = None, *others: object) -> tuple:
        return hidden_states, (hidden_states,) * count

    return forward


def one_level(sigma: float | Tensor) -> float:
    """``sigma`` as a number; ``ValueError`` for a batch of different levels, or NaN."""
    levels = torch.as_tensor(sigma).flatten()
    if bool(levels.isnan().any()):
        raise ValueError(f"sigma = {sigma} is not a number")
    if len(levels) == 0 or bool((levels != levels[0]).any()):
        raise ValueError(
            f"sigma holds {len(levels.unique())} different levels; a call is for one level"
        )
    return float(levels[0])


@torch.no_grad()
def operations(denoiser, sigma: float = 1.0) -> int:
    """Floating-point operations (convolutions, matrix products) of one call for one image."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    network = denoiser.denoiser if isinstance(denoiser, AroundUNet) else denoiser
    like = next(iter(network.parameters()))
    # Attention as plain matrix products: the fused kernels of a CPU are not counted.
    with (
        as_written(network.unet),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        denoiser(torch.zeros(1, *denoiser.sample_shape, device=like.device), sigma)
    return counter.get_total_flops()


def cached_saving(denoiser, every: int, steps: int) -> float:
    """Share of the operations of ``steps`` calls that :class:`CachedDenoiser` saves: what the calls
    in between do without, counted by torch."""
    cached = CachedDenoiser(denoiser, every)
    full = operations(cached, 1.0)  # the first call; the next one, at a lower level, uses features
    in_between = sum(n % every > 0 for n in range(checks.positive_int("steps", steps))) / steps
    return (1 - operations(cached, 0.5) / full) * in_between


def part_costs(denoiser, parts: Sequence[Component]) -> list[float]:
    """Share of a full call's operations that skipping each of ``parts`` saves.

    A skip connection saves nothing.
    """
    full = operations(denoiser)

    def cost(part: Component) -> float:
        if part.kind == "skip":
            return 0.0
        return 1 - operations(ShortcutDenoiser(denoiser, [Cut(part, 0.0, math.inf)])) / full

    return [cost(part) for part in parts]
