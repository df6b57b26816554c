"""Products of a stack: the same bits for each trial at any position, alignment and stack size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qsweep.training.matrix_products import NoVectors, has_vectors, product

SHAPES = [
    *((297, 24, 10), (33, 33, 17), (7, 5, 3), (64, 64, 10)),
    *((1, 31, 9), (1, 100, 31), (17, 100, 1), (31, 1, 10), (1, 9, 1)),
]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_product_has_the_same_bits_at_every_position_and_alignment(
    rows: int, inputs: int, outputs: int, transposed: bool
) -> None:
    """On AMD Zen 5 this fails without the mode that qsweep.trial.environment.fix_products sets."""
    a, b = operands(rows, inputs, outputs)
    alone = [product(a[i : i + 1].clone(), lying(b[i : i + 1], transposed, 0))[0] for i in range(17)]
    for size in range(1, 18):
        for offset in (0, 1, 3, 5):  # floats from an aligned address
            together = product(lying(a[:size], False, offset), lying(b[:size], transposed, offset))
            assert all(torch.equal(together[i], alone[i]) for i in range(size)), (size, offset)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_product_is_the_sum_of_products(rows: int, inputs: int, outputs: int) -> None:
    a, b = operands(rows, inputs, outputs)
    assert product(a, b).shape == (17, rows, outputs)
    assert torch.allclose(product(a, b).double(), a.double() @ b.double(), atol=1e-4)


def test_no_vectors_pads_products_on_the_way_forward_and_back() -> None:
    a, b = (t.requires_grad_() for t in operands(1, 100, 31))
    with NoVectors():  # type: ignore[no-untyped-call]
        forward = torch.bmm(a, b)
        of_a, of_b = torch.autograd.grad(forward.sum(), [a, b])
    ones = torch.ones(17, 1, 31)
    assert torch.equal(forward, product(a, b))
    assert torch.equal(of_a, product(ones, b.transpose(1, 2)))
    assert torch.equal(of_b, product(a.transpose(1, 2), ones))


@pytest.mark.parametrize(
    ("shapes", "batch", "expected"),
    [([(4, 3, 2), (4, 1)], 5, False), ([(4, 3, 2)], 1, True), ([(4, 1, 2)], 5, True), ([(4, 3, 1)], 5, True)],
)
def test_has_vectors_of_single_examples_inputs_and_outputs(
    shapes: list[tuple[int, ...]], batch: int, expected: bool
) -> None:
    assert has_vectors(map(torch.zeros, shapes), batch) is expected


def operands(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(17, rows, inputs, generator=generator), torch.randn(17, inputs, outputs, generator=generator)


def lying(values: Tensor, transposed: bool, offset: int) -> Tensor:
    """The same values in new memory, from so many floats behind an aligned address, rows or columns one by one."""
    values = values.transpose(1, 2) if transposed else values
    memory = torch.empty(values.numel() + offset)
    placed = memory[offset:].view(values.shape).copy_(values)
    return placed.transpose(1, 2) if transposed else placed
