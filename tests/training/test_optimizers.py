"""Optimizers against torch.optim where all orders of operations agree, and against the formula one number at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qsweep.training.optimizers import UPDATES, Rows, Settings, remembers

F = np.float32


def steps(optimizer: dict[str, Any], weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Weights after one update a gradient."""
    w = weight.clone()[None]
    state = {name: torch.zeros_like(w) for name in remembers(optimizer)}
    for number, gradient in enumerate(gradients, start=1):
        block = Rows(w, gradient[None], state, Settings([optimizer]), slice(0, 1), number)
        w = w - UPDATES[optimizer["name"]](block)
    return w[0]


def sgd(lr: float, momentum: float, weight_decay: float) -> dict[str, Any]:
    return {"name": "sgd", "lr": lr, "momentum": momentum, "weight_decay": weight_decay}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.25])
def test_sgd_on_powers_of_two_equals_torch_exactly(momentum: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randint(-8, 8, (50,), generator=generator).float() / 8  # noqa: E731
    weight, gradients = draw(), [draw() for _ in range(3)]
    parameter = torch.nn.Parameter(weight.clone())
    peer = torch.optim.SGD([parameter], lr=0.25, momentum=momentum, weight_decay=weight_decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        peer.step()
    assert torch.equal(steps(sgd(0.25, momentum, weight_decay), weight, gradients), parameter.detach())


def rmsprop_by_hand(w: Any, gradients: list[Any], o: dict[str, Any]) -> Any:
    s = F(0)
    for g in gradients:
        g = F(g + w * F(o["weight_decay"])) if o["weight_decay"] else g
        s = s * F(o["alpha"]) + (g * g) * F(1 - o["alpha"])
        w = w - g / (F(np.sqrt(np.float64(s))) + F(o["eps"])) * F(o["lr"])
    return w


def adam_by_hand(w: Any, gradients: list[Any], o: dict[str, Any]) -> Any:
    m = v = F(0)
    one, two = o["betas"]
    for t, g in enumerate(gradients, start=1):
        g = F(g + w * F(o["weight_decay"])) if o["weight_decay"] else g
        m = m * F(one) + g * F(1 - one)
        v = v * F(two) + (g * g) * F(1 - two)
        power = lambda b, t=t: {1: b, 2: b * b, 3: b * (b * b)}[t]  # noqa: E731
        w = w - (m / F(1 - power(one))) / (F(np.sqrt(np.float64(v / F(1 - power(two))))) + F(o["eps"])) * F(o["lr"])
    return w


ADAPTIVE = [
    ({"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "eps": 1e-7}, rmsprop_by_hand, torch.optim.RMSprop),
    ({"name": "adam", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}, adam_by_hand, torch.optim.Adam),
]


@pytest.mark.parametrize(("optimizer", "by_hand", "peer"), ADAPTIVE, ids=["rmsprop", "adam"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adaptive_optimizers_equal_the_formula_exactly_and_torch_nearly(
    optimizer: dict[str, Any], by_hand: Callable[..., Any], peer: Any, weight_decay: float
) -> None:
    optimizer = {**optimizer, "weight_decay": weight_decay}
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(37, generator=generator)
    gradients = [torch.randn(37, generator=generator) for _ in range(3)]
    found = steps(optimizer, weight, gradients)
    exact = [by_hand(F(w), [F(g[i]) for g in gradients], optimizer) for i, w in enumerate(weight.tolist())]
    assert found.tolist() == [float(w) for w in exact]

    parameter = torch.nn.Parameter(weight.clone())
    other = peer([parameter], **{k: v for k, v in optimizer.items() if k != "name"})
    for gradient in gradients:
        parameter.grad = gradient.clone()
        other.step()
    torch.testing.assert_close(found, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_update_of_rows_with_settings_of_their_own_equals_each_row_alone() -> None:
    optimizers = [sgd(lr, 0.9, 0.01) for lr in (0.1, 0.02, 0.3)]
    w, g = torch.randn(3, 19), torch.randn(3, 19)
    memory = torch.randn(3, 19)
    together = UPDATES["sgd"](Rows(w, g, {"momentum": memory.clone()}, Settings(optimizers), slice(0, 3), 1))
    for row in range(3):
        part = slice(row, row + 1)
        alone = Rows(w[part], g[part], {"momentum": memory[part].clone()}, Settings(optimizers), part, 1)
        assert torch.equal(UPDATES["sgd"](alone), together[part])
