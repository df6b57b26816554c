"""The two ways through a net: a stack of trials in one batched pass, or one trial by itself.

Both hold the weights of P trials as tensors with P in front, so that all else (losses, updates, rounding, evaluation)
is written once. Whether a net stacks depends on its operations alone, never on how many trials there are: a net that
stacks does so for a single trial too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from qsweep.training.matrix_products import NoVectors, has_vectors
from qsweep.trial.parameters import CROSS_ENTROPY, SQUARED_ERROR

Values = dict[str, Tensor]
"""Tensors by parameter name, each (P, *shape)."""

Forward = Callable[[Values, Tensor], Tensor]
"""(values, examples of all trials) → logits (P, B, classes)."""


class Net:
    """P trials' weights and their forward pass."""

    def __init__(self, model: nn.Module, values: Values, forward: Forward, loss: str) -> None:
        self.model = model
        self.values = values
        self.frozen = frozen_parameters(model)
        """Names of the parameters that do not train."""
        self.losses = LOSSES[loss]
        """(logits (P, B, classes), labels (B,)) → the loss of each example, (P, B)."""
        self._forward = forward

    def gradients(self, x: Tensor, y: Tensor, part: slice, scales: Tensor | None) -> tuple[Values, Tensor, Tensor]:
        """In training mode, for some trials: gradients of each one's mean loss over a batch, losses (P,), logits.

        Frozen parameters have no gradient.

        Args:
            scales: (P,), a factor of each loss for computing gradients; returned losses are not scaled.
        """
        self.model.train()
        values = {name: value[part].detach() for name, value in self.values.items()}
        trained = {name: value.requires_grad_() for name, value in values.items() if name not in self.frozen}
        with self._products(len(x)):
            logits = self._forward(values, x)
            means = self.losses(logits, y).mean(1)
            total = (means if scales is None else means * scales).sum()
            gradients = torch.autograd.grad(total, list(trained.values()), materialize_grads=True)
        return dict(zip(trained, gradients, strict=True)), means.detach(), logits.detach()

    @property
    def trained(self) -> Values:
        """The values that train."""
        return {name: value for name, value in self.values.items() if name not in self.frozen}

    def logits(self, x: Tensor, part: slice) -> Tensor:
        """Logits (P, B, classes) of some trials, in evaluation mode."""
        self.model.eval()
        with torch.no_grad(), self._products(len(x)):
            return self._forward({name: value[part] for name, value in self.values.items()}, x)

    def _products(self, batch: int) -> AbstractContextManager[object]:
        """How matrices are multiplied in a pass of `batch` examples."""
        return NoVectors() if has_vectors(self.values.values(), batch) else nullcontext()  # type: ignore[no-untyped-call]

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these trials."""
        self.values = {name: lying_as(value, value[list(indices)]) for name, value in self.values.items()}


def frozen_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that a net does not train: `requires_grad=False`."""
    return frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)


def stacked_net(model: nn.Module, count: int, loss: str = CROSS_ENTROPY) -> Net:
    """P trials of one architecture by `vmap` over their stacked parameters."""

    def forward(values: Values, x: Tensor) -> Tensor:
        logits: Tensor = vmap(lambda own: functional_call(model, own, (x,)))(values)
        return logits

    return Net(model, {name: _repeated(p.detach(), count) for name, p in model.named_parameters()}, forward, loss)


def plain_net(model: nn.Module, loss: str = CROSS_ENTROPY) -> Net:
    """One trial without `vmap`: for nets whose operations compute other bits in a stack."""
    model.to(memory_format=torch.channels_last)

    def forward(values: Values, x: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, {name: value.squeeze(0) for name, value in values.items()}, (x,))
        return logits[None]

    return Net(model, {name: p.detach().clone()[None] for name, p in model.named_parameters()}, forward, loss)


def _repeated(value: Tensor, count: int) -> Tensor:
    """P copies of a tensor; matrices have the memory layout of their gradients, so that updates needn't transpose them.

    The layout of a matrix can change the bits of its products, so it is the same for every P.
    """
    if value.dim() != 2:
        return value.expand(count, *value.shape).clone()
    return value.t().expand(count, -1, -1).contiguous().transpose(1, 2)


def memory_order(value: Tensor) -> tuple[int, ...]:
    """The permutation that keeps the first dimension and puts the others in the order in which they lie in memory."""
    return (0, *sorted(range(1, value.dim()), key=value.stride, reverse=True))


def as_rows(value: Tensor, like: Tensor) -> Tensor:
    """(P, n) of (P, *shape), in the memory order of `like`: a view, if both have the same layout."""
    laid = value.permute(memory_order(like)).contiguous()
    return laid.flatten(1) if laid.dim() > 1 else laid[:, None]  # a scalar parameter is one value


def lying_as(model: Tensor, value: Tensor) -> Tensor:
    """The same values in the memory layout of another tensor of the same dimensions."""
    order = memory_order(model)
    back = sorted(range(len(order)), key=order.__getitem__)
    return value.permute(order).contiguous().permute(back)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per example: (P, B) from logits (P, B, classes) and labels (B,)."""
    chosen = labels.expand(logits.shape[:-1])[..., None]
    return -torch.log_softmax(logits, -1).gather(-1, chosen)[..., 0]


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the sum of squares over the classes, whose gradient is logits - labels."""
    wanted = torch.zeros_like(logits).scatter_(-1, labels.expand(logits.shape[:-1])[..., None], 1.0)
    return (logits - wanted).square().sum(-1) / 2


LOSSES = {CROSS_ENTROPY: cross_entropy, SQUARED_ERROR: squared_error}
"""The losses of a trial, by name."""
