"""The two ways to compute gradients: a stack of trials in one batched pass, or one trial by plain autograd.

Both hold the weights of P trials as tensors with P in front, so that all else (updates, rounding, evaluation) is written
once. Whether a net stacks depends on its operations alone, never on how many trials there are: a net that stacks takes
the stacked way for a single trial too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

Values = dict[str, Tensor]
"""Tensors by parameter name, each (P, *shape)."""


class Net(Protocol):
    """P trials' weights and what can be asked of them."""

    values: Values

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Values, Tensor, Tensor]:
        """Gradients of the mean loss over a batch, the losses (P,) and the logits (P, B, classes), in training mode."""

    def logits(self, x: Tensor) -> Tensor:
        """(P, B, classes) in evaluation mode."""

    def keep(self, indices: Sequence[int]) -> None:
        """Go on with these trials alone."""


class StackedNet:
    """P trials of one architecture, differentiated together by `vmap` over their stacked parameters."""

    def __init__(self, model: nn.Module, count: int) -> None:
        self.model = model
        self.values: Values = {n: p.detach().expand(count, *p.shape).clone() for n, p in model.named_parameters()}

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Values, Tensor, Tensor]:
        self.model.train()

        def loss(values: Values) -> tuple[Tensor, Tensor]:
            logits = functional_call(self.model, values, (x,))
            return cross_entropy(logits, y), logits

        gradients, (losses, logits) = vmap(grad_and_value(loss, has_aux=True))(self.values)
        return gradients, losses, logits

    def logits(self, x: Tensor) -> Tensor:
        self.model.eval()
        with torch.no_grad():
            return vmap(lambda values: functional_call(self.model, values, (x,)))(self.values)

    def keep(self, indices: Sequence[int]) -> None:
        self.values = {name: value[list(indices)] for name, value in self.values.items()}


class PlainNet:
    """One trial by ordinary autograd: for nets whose operations give other bits in a stack."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.values: Values = {name: p.detach()[None] for name, p in model.named_parameters()}

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Values, Tensor, Tensor]:
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        logits = self.model(x)
        loss = cross_entropy(logits, y)
        loss.backward()
        gradients = {n: (torch.zeros_like(p) if p.grad is None else p.grad)[None] for n, p in self._named()}
        return gradients, loss.detach()[None], logits.detach()[None]

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.named_parameters())

    def logits(self, x: Tensor) -> Tensor:
        self.model.eval()
        with torch.no_grad():
            return self.model(x)[None]

    def keep(self, indices: Sequence[int]) -> None:
        """One trial is kept, or none is asked for any more."""
