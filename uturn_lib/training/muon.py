"""The Muon optimiser (Jordan et al. 2024) on hidden weights, AdamW on the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def matrices(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden weights (convolutions and linear layers), which Muon orthogonalises, and the rest.

    AdamW takes first and last layers, embeddings, norms and biases (Jordan et al. 2024).
    """
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim >= 2 and not any(
            part in name for part in ("conv_in", "conv_out", "class_embedding", "head")
        )
        (inner if hidden else outer).append(parameter)
    return inner, outer


class Muon:
    """``torch.optim.Muon`` on the hidden weights as matrices (out, in x kernel), AdamW on the rest.

    The matrices are views, so that a step changes the network in place. Muon's rate is scaled to
    serve both at one learning rate. ``weight_decay`` is that of the hidden weights.
    """

    def __init__(self, module: nn.Module, learning_rate: float, weight_decay: float = 0.0):
        if not hasattr(torch.optim, "Muon"):
            raise RuntimeError(
                f"optimizer = 'muon' needs torch 2.9 or newer; this is {torch.__version__}"
            )
        self.inner, outer = matrices(module)
        self.views = [nn.Parameter(self._matrix(weight.detach())) for weight in self.inner]
        self.muon = torch.optim.Muon(
            self.views,
            lr=learning_rate,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adam = torch.optim.AdamW(outer, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.param_groups = self.muon.param_groups + self.adam.param_groups

    @staticmethod
    def _matrix(weight: Tensor) -> Tensor:
        """A view (out, kernel x in) of a channels-last weight; the order of columns is free."""
        return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).view(len(weight), -1)

    def step(self) -> None:
        for view, weight in zip(self.views, self.inner, strict=True):
            gradient = weight.grad
            if gradient is not None and weight.ndim == 4:
                gradient = gradient.permute(0, 2, 3, 1).flatten(1)
            view.grad = gradient
        self.muon.step()
        self.adam.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.inner:
            weight.grad = None
        self.adam.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        # Loading replaces the groups; a rate set on the old ones would have no effect.
        self.param_groups = self.muon.param_groups + self.adam.param_groups
