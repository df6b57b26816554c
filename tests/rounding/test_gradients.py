"""Straight-through gradients: the identity, or 0 where a value was clipped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qsweep.formats import parse
from qsweep.rounding import quantize

NAMES = (
    *("range4", "range3 scale=2", "fixed8f4", "fixed4f2 overflow=wrap", "e4m3", "e2m1", "bf16", "block4", "mxfp4"),
    *("block4 per=8", "nvfp4", "uniform4", "uniform4 scaling=0.7", "uniform4 symmetric=true scaling=0.7", "po2_4"),
    *("ternary scaling=0.5", "binary scaling=0.5", "binary", "fixed8f4 compat=qtorch"),
)


def gradient(x: Tensor, name: str, kind: str, weights: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((quantize(x, parse(name), gradient=kind) * weights).sum(), x)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_identity_passes_the_gradient_as_it_is(name: str) -> None:
    x, weights = torch.randn(40) * 3, torch.randn(40)
    assert torch.equal(gradient(x, name, "identity", weights), weights)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("range4", -1, 0.875),
        ("range3 scale=2", -0.5, 0.375),
        ("fixed8f4", -8, 7.9375),
        ("fixed4f2 symmetric=true", -1.75, 1.75),
        ("e4m3", -448, 448),
        ("e2m1", -6, 6),
        ("uniform4 scaling=0.75", -0.75, 0.75),
        ("po2_4 scaling=2", -2, 2),
        ("ternary scaling=0.5", -0.5, 0.5),
        ("binary scaling=0.5", -0.5, 0.5),
    ],
)
def test_clipped_is_0_beyond_the_ends_and_the_identity_between_them(name: str, low: float, high: float) -> None:
    ends = torch.tensor([low, high])
    x = torch.cat([ends, ends * (1 + 2**-20), ends * 0.5, torch.zeros(2), ends * 4])
    weights = torch.arange(1.0, 11.0)
    expected = weights * torch.tensor([1.0, 1, 0, 0, 1, 1, 1, 1, 0, 0])
    assert torch.equal(gradient(x, name, "clipped", weights), expected)


@pytest.mark.parametrize("name", ["fixed4f2 overflow=wrap", "fixed4f2 overflow=unbounded", "uniform3"])
def test_clipped_is_the_identity_where_nothing_is_clipped(name: str) -> None:
    x, weights = torch.randn(40) * 9, torch.randn(40)
    assert torch.equal(gradient(x, name, "clipped", weights), weights)


def test_clipped_looks_at_each_groups_own_ends() -> None:
    x = torch.tensor([[1.9, 1.0, 0.1], [190.0, 100.0, 10.0]])  # 1.75 and 112 (or 224) are the largest of block4
    found = gradient(x, "block4 per=channel", "clipped", torch.ones(2, 3))
    assert found.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_gradient_of_a_result_lies_and_flows_on_as_that_of_any_tensor() -> None:
    x = torch.randn(4, 5).t().requires_grad_()
    (quantize(x * 2, parse("fixed8f4")) ** 2).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, 4 * quantize(x.detach() * 2, parse("fixed8f4")))


def test_gradient_float32_is_the_tensor_itself() -> None:
    x = torch.randn(3, requires_grad=True)
    assert quantize(x, parse("float32")) is x


def test_unknown_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown gradient 'tanh' \\(one of: identity, clipped\\)"):
        quantize(torch.zeros(2), parse("e4m3"), gradient="tanh")
