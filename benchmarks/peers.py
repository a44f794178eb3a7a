"""The stochastic samplers of other libraries behind one interface: the same denoiser, start, levels
and number of calls as ours.

A peer is ``run(denoiser, x, sigmas) -> y0``: from ``x`` (B, *sample) at ``sigmas[0]`` down to 0,
with noise from torch's global generator. Its steps are the other library's own code; only the
levels are handed to it. azula is optional, see ``HOW_TO_INSTALL``.

=================
==================================================================================  ==============
name               what
calls per step
=================
==================================================================================  ==============
diffusers 2M SDE   EDMDPMSolverMultistepScheduler, "sde-dpmsolver++", order 2 (Lu et al. 2022)
1 diffusers EulerA   EulerAncestralDiscreteScheduler; where alpha = 1 it takes the steps of DDPM
1 diffusers KDPM2A   KDPM2AncestralDiscreteScheduler (Karras et al. 2022, Algorithm 2, ancestral
noise)  2 azula DDPM         DDPMSampler (Ho et al. 2020)
1 azula Ito          ItoSampler, Euler-Maruyama after an exact linear part
1 azula PC           PCSampler: Langevin corrections between steps of the flow
2
=================
==================================================================================  ==============
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

# Its samplers need einops alone. Its other dependency torchvision must be of the same build as
# torch: another one breaks diffusers.
HOW_TO_INSTALL = (
    "azula is not installed, its rows are skipped; to have them: "
    "pip install --no-deps -c constraints.txt azula einops "
    "(or the extra, pip install -c constraints.txt -e '.[bench]', which brings torchvision)"
)


@dataclass(frozen=True)
class Peer:
    """``name``, ``run`` as in the module's text, ``calls`` per step, ``home``: the library's own
    spacing of levels, "karras" or "log"."""

    name: str
    run: Callable[[object, Tensor, Tensor], Tensor]
    calls: int = 1
    home: str = "karras"


def peers() -> list[Peer]:
    """All peers that can be run here."""
    found = [
        Peer("diffusers 2M SDE", diffusers_multistep),
        Peer("diffusers EulerA", diffusers_euler_ancestral),
        Peer("diffusers KDPM2A", diffusers_kdpm2_ancestral, calls=2),
    ]
    if has_azula():
        found += [
            Peer("azula DDPM", _azula("DDPMSampler"), home="log"),
            Peer("azula Ito", _azula("ItoSampler"), home="log"),
            Peer("azula PC", _azula("PCSampler"), calls=2, home="log"),
        ]
    return found


def has_azula() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("azula", "einops"))


def diffusers_multistep(denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    from diffusers import EDMDPMSolverMultistepScheduler

    class Given(EDMDPMSolverMultistepScheduler):
        """The "model output" is D itself: the preconditioning is the denoiser's business."""

        def precondition_outputs(self, sample, model_output, sigma):
            return model_output

    scheduler = Given(algorithm_type="sde-dpmsolver++", solver_order=2)
    scheduler.set_timesteps(len(sigmas) - 1)
    _hand_over(scheduler, sigmas)
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1].tolist(), strict=True):
        x = scheduler.step(denoiser(x, sigma), t, x).prev_sample
    return x


def diffusers_euler_ancestral(denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    from diffusers import EulerAncestralDiscreteScheduler

    scheduler = EulerAncestralDiscreteScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(len(sigmas) - 1)
    _hand_over(scheduler, sigmas)
    scheduler.is_scale_input_called = (
        True  # the scaling of the input, too, is the denoiser's business
    )
    for t, sigma in zip(scheduler.timesteps, sigmas[:-1].tolist(), strict=True):
        x = scheduler.step((x - denoiser(x, sigma)) / sigma, t, x).prev_sample
    return x


def diffusers_kdpm2_ancestral(denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """The scheduler knows its levels only through four tables; they are filled as its
    ``set_timesteps`` does, at the levels given."""
    from diffusers import KDPM2AncestralDiscreteScheduler

    scheduler = KDPM2AncestralDiscreteScheduler(prediction_type="epsilon")
    steps, levels = len(sigmas) - 1, sigmas.double()
    below = torch.cat([levels[1:], levels[:0].new_zeros(1)])
    up = (below * (1 - (below / levels) ** 2).clamp(min=0).sqrt()).nan_to_num()
    down = (below**2 / levels).nan_to_num()
    middle = (levels * down).sqrt()
    middle[-2:] = 0
    scheduler.set_timesteps(steps)
    for name, table in (
        ("sigmas", levels),
        ("sigmas_interpol", middle),
        ("sigmas_up", up),
        ("sigmas_down", down),
    ):
        setattr(scheduler, name, torch.cat([table[:1], table[1:].repeat_interleave(2), table[-1:]]))
    scheduler.set_begin_index(0)
    for i in range(2 * steps - 1):  # the last step is Euler's and needs one call
        sigma = float(levels[i // 2] if i % 2 == 0 else middle[i // 2])
        x = scheduler.step((x - denoiser(x, sigma)) / sigma, scheduler.timesteps[i], x).prev_sample
    return x


def _hand_over(scheduler, sigmas: Tensor) -> None:
    """Let ``scheduler`` step along ``sigmas`` (n + 1,), in double precision, from its beginning."""
    scheduler.sigmas = sigmas.double().clone()
    scheduler.timesteps = torch.arange(len(sigmas) - 1, dtype=torch.float64).flip(0)
    scheduler.set_begin_index(0)


def _azula(sampler: str) -> Callable[[object, Tensor, Tensor], Tensor]:
    def run(denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
        from azula import sample

        steps = len(sigmas) - 1
        levels = (
            sigmas.double().to(x.device).flip(0)
        )  # azula's time runs from 1 down to 0 in equal steps

        def schedule(time: Tensor) -> tuple[Tensor, Tensor]:
            sigma = levels[(time * steps).round().long()]
            return torch.ones_like(sigma), sigma

        class Given:
            """azula's interface of a denoiser: the mean of p(x_0 | x_t)."""

            def __init__(self) -> None:
                self.schedule = schedule

            def __call__(self, x_t: Tensor, time: Tensor) -> SimpleNamespace:
                return SimpleNamespace(mean=denoiser(x_t, float(schedule(time)[1])))

        return getattr(sample, sampler)(Given(), steps=steps, silent=True, dtype=torch.float64)(x)

    return run


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator at ``seed``, and afterwards as before."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
