"""Optimizers against torch.optim where all orders of operations agree, and against the formula one number at a time.

Both ways to run them: `update` takes the compiled kernels on a CPU, `update_eager` is what other devices run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qsweep.kernels.optimizers import FORMULAS
from qsweep.training.optimizers import OptimizerStack, Rows, formula_of, update, update_eager
from qsweep.trial.optimizers import EPS, L1, LR, WEIGHT_DECAY, Optimizer
from qsweep.trial.optimizers import OPTIMIZERS as DECLARED
from qsweep.trial.settings import OptimizerSettings

F = np.float32


def test_every_optimizer_that_is_declared_has_a_formula_and_is_tested_below() -> None:
    assert list(FORMULAS) == list(DECLARED)
    assert {examples[0]["name"] for examples in OPTIMIZERS.values()} == set(DECLARED)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Optimizer("lion", (LR, WEIGHT_DECAY, L1)), "optimizer 'lion' is declared, but has no formula"),
        (Optimizer("adam", (LR, EPS, WEIGHT_DECAY, L1)), "the formula of optimizer 'adam' reads 'betas', which"),
        (replace(DECLARED["rmsprop"], memory=("square", "mean")), "keeps 1 tensors, its declaration: square, mean"),
    ],
)
def test_an_optimizer_that_is_half_there_is_refused_at_import(declared: Optimizer, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        formula_of(declared)


def test_an_optimizer_without_what_every_step_reads_is_not_declared() -> None:
    with pytest.raises(TypeError, match="optimizer 'sgd': its parameters lack l1, weight_decay, which every step"):
        Optimizer("sgd", (LR,))


def remembers(optimizer: dict[str, Any]) -> tuple[str, ...]:
    return OptimizerSettings.of(optimizer).memory


def stack(optimizers: list[dict[str, Any]]) -> OptimizerStack:
    return OptimizerStack([OptimizerSettings.of(optimizer) for optimizer in optimizers])


Way = Callable[[Rows, OptimizerStack], None]
WAYS = pytest.mark.parametrize("way", [update, update_eager])


def steps(way: Way, optimizer: dict[str, Any], weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Weights after one update a gradient."""
    w, settings = weight.clone()[None], stack([optimizer])
    state = {name: torch.zeros_like(w) for name in remembers(optimizer)}
    for number, gradient in enumerate(gradients, start=1):
        settings.start(number)
        way(Rows(w, gradient[None], state), settings)
    return w[0]


def sgd(lr: float, momentum: float, weight_decay: float) -> dict[str, Any]:
    return {"name": "sgd", "lr": lr, "momentum": momentum, "weight_decay": weight_decay}


@WAYS
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.25])
def test_sgd_on_powers_of_two_equals_torch_exactly(way: Way, momentum: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randint(-8, 8, (50,), generator=generator).float() / 8  # noqa: E731
    weight, gradients = draw(), [draw() for _ in range(3)]
    parameter = torch.nn.Parameter(weight.clone())
    peer = torch.optim.SGD([parameter], lr=0.25, momentum=momentum, weight_decay=weight_decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        peer.step()
    assert torch.equal(steps(way, sgd(0.25, momentum, weight_decay), weight, gradients), parameter.detach())


@WAYS
def test_l1_adds_the_gradient_of_the_sum_of_magnitudes(way: Way) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randint(-8, 8, (50,), generator=generator).float() / 8  # noqa: E731
    weight, gradients = draw(), [draw() for _ in range(3)]
    parameter = torch.nn.Parameter(weight.clone())
    peer = torch.optim.SGD([parameter], lr=0.25, momentum=0.5, weight_decay=0.25)
    for gradient in gradients:
        loss = (parameter * gradient).sum() + 0.125 * parameter.abs().sum()
        peer.zero_grad()
        loss.backward()
        peer.step()
    assert torch.equal(steps(way, {**sgd(0.25, 0.5, 0.25), "l1": 0.125}, weight, gradients), parameter.detach())


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


@WAYS
@pytest.mark.parametrize(("optimizer", "by_hand", "peer"), ADAPTIVE, ids=["rmsprop", "adam"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adaptive_optimizers_equal_the_formula_exactly_and_torch_nearly(
    way: Way, optimizer: dict[str, Any], by_hand: Callable[..., Any], peer: Any, weight_decay: float
) -> None:
    optimizer = {**optimizer, "weight_decay": weight_decay}
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(37, generator=generator)
    gradients = [torch.randn(37, generator=generator) for _ in range(3)]
    found = steps(way, optimizer, weight, gradients)
    exact = [by_hand(F(w), [F(g[i]) for g in gradients], optimizer) for i, w in enumerate(weight.tolist())]
    assert found.tolist() == [float(w) for w in exact]

    parameter = torch.nn.Parameter(weight.clone())
    other = peer([parameter], **{k: v for k, v in optimizer.items() if k != "name"})
    for gradient in gradients:
        parameter.grad = gradient.clone()
        other.step()
    torch.testing.assert_close(found, parameter.detach(), rtol=1e-5, atol=1e-6)


OPTIMIZERS = {
    "sgd": [sgd(lr, 0.0, 0.0) for lr in (0.1, 0.02, 0.3)],
    "decay": [sgd(lr, 0.0, lr / 7) for lr in (0.1, 0.02, 0.3)],
    "l1": [{**sgd(lr, 0.5, 0.01), "l1": l1} for lr, l1 in ((0.1, 0.01), (0.02, 0.0), (0.3, 0.1))],
    "momentum": [sgd(lr, 0.9 + lr / 10, 0.01) for lr in (0.1, 0.02, 0.3)],
    "rmsprop": [
        {"name": "rmsprop", "lr": lr, "alpha": 0.9 - lr / 3, "eps": 1e-7, "weight_decay": 0.0}
        for lr in (0.1, 0.02, 0.3)
    ],
    "adam": [
        {"name": "adam", "lr": lr, "betas": [0.9 - lr / 9, 0.999], "eps": 1e-8, "weight_decay": lr}
        for lr in (0.1, 0.3, 0)
    ],
}


def rows_of(optimizer: dict[str, Any], shape: tuple[int, int]) -> Rows:
    """Weights, gradients and memory with values of all sizes, and of none."""
    generator = torch.Generator().manual_seed(5)

    def draw() -> torch.Tensor:
        values = torch.randn(shape, generator=generator) * 2.0 ** torch.randint(-20, 3, shape, generator=generator)
        edges = [0.0, -0.0, math.inf, -math.inf, 1e-45, 3e38, -3e38]
        values[:, : len(edges)] = torch.tensor(edges)
        return values[:, torch.randperm(shape[1], generator=generator)]

    memory = {name: draw().abs() for name in remembers(optimizer)}
    return Rows(draw(), draw(), memory)


def bits(rows: Rows) -> list[list[int]]:
    """All that a step has written; NaN is NaN, whatever its payload."""
    tensors = (rows.weight, *rows.state.values())
    return [torch.where(t.isnan(), torch.nan, t).contiguous().view(torch.int32).flatten().tolist() for t in tensors]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_give_the_bits_of_the_eager_operations(name: str) -> None:
    optimizers, found = OPTIMIZERS[name], []
    for way in (update, update_eager):
        rows, settings = rows_of(optimizers[0], (3, 4099)), stack(optimizers)
        for step in (1, 2, 3):
            settings.start(step)
            way(rows, settings)
        found.append(bits(rows))
    assert found[0] == found[1]


@WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_of_rows_with_settings_of_their_own_equals_each_row_alone(way: Way, name: str) -> None:
    optimizers = OPTIMIZERS[name]
    together, settings = rows_of(optimizers[0], (3, 19)), stack(optimizers)
    settings.start(2)
    way(together, settings)
    for row in range(3):
        whole = rows_of(optimizers[0], (3, 19))
        state = {n: v[row : row + 1] for n, v in whole.state.items()}
        alone = Rows(whole.weight[row : row + 1], whole.gradient[row : row + 1], state, first=row)
        way(alone, settings)
        assert torch.equal(alone.weight.nan_to_num(7), together.weight[row : row + 1].nan_to_num(7))
