"""Custom layers: the same values and gradients as PyTorch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from qsweep.models.layers import Dropout, HalvingPool, MaskedReLU, ReLU

SPECIAL = [math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-45, 3e38]


def layers() -> tuple[Dropout, MaskedReLU]:
    dropout = Dropout(0.25, (7,), applied=False)
    return dropout, MaskedReLU(dropout)


def mask() -> Tensor:
    return torch.ge(torch.rand(5, 7, generator=torch.Generator().manual_seed(1)), 0.25) / 0.75


def examples(*lead: int) -> Tensor:
    x = torch.randn(*lead, 5, 7, generator=torch.Generator().manual_seed(2))
    x.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL)
    return x


def both_ways(x: Tensor, own: Tensor, lies_apart: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Output and gradient of the combined layer, and of the separate operations."""
    dropout, relu = layers()
    dropout.mask = own
    found = []
    for function in (lambda z: relu(dropout(z)), lambda z: torch.relu(z * own)):
        leaf = x.clone().requires_grad_()
        start = (leaf * 1).transpose(-1, -2).contiguous().transpose(-1, -2) if lies_apart else leaf * 1
        output = function(start)
        error = torch.linspace(-1, 1, output.numel()).view_as(output)
        found.append((output.detach().clone(), torch.autograd.grad(output, leaf, error)[0]))
    return found


@pytest.mark.parametrize("lies_apart", [False, True])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_masked_relu_has_the_bits_of_separate_dropout_and_relu(lead: tuple[int, ...], lies_apart: bool) -> None:
    (output, gradient), (expected, expected_gradient) = both_ways(examples(*lead), mask(), lies_apart)
    torch.testing.assert_close(output, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=0, equal_nan=True)


def test_stack_of_nets_has_the_gradients_of_each_net_alone() -> None:
    dropout, relu = layers()
    dropout.mask = mask()
    net = nn.Sequential(nn.Linear(7, 7), dropout, relu, nn.Linear(7, 1))
    weights = {name: torch.randn(3, *p.shape, requires_grad=True) for name, p in net.named_parameters()}
    x = torch.randn(5, 7)
    stacked = vmap(lambda own: functional_call(net, own, (x,)))(weights)
    found = torch.autograd.grad(stacked.sum(), list(weights.values()))
    for trial in range(3):
        own = {name: w[trial] for name, w in weights.items()}
        plain = nn.functional.linear(torch.relu(nn.functional.linear(x, own["0.weight"], own["0.bias"]) * dropout.mask),
                                     own["3.weight"], own["3.bias"])  # fmt: skip
        expected = torch.autograd.grad(plain.sum(), list(own.values()))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[trial], other)


def test_shared_gradient_is_not_written_to() -> None:
    """The backward pass of a sum expands one error for several inputs."""
    dropout, relu = layers()
    dropout.mask = mask()
    x = torch.randn(5, 7, requires_grad=True)
    gradient = torch.autograd.grad((x * 1 + relu(x * 1)).sum(), x)[0]
    torch.testing.assert_close(gradient, 1 + dropout.mask * (x > 0), rtol=0, atol=0)


def test_masked_relu_in_evaluation_or_without_a_mask_is_a_relu() -> None:
    dropout, relu = layers()
    x = torch.randn(5, 7)
    assert torch.equal(relu(x.clone()), torch.relu(x))
    dropout.mask = mask()
    assert torch.equal(relu.eval()(x.clone()), torch.relu(x))


def images(*shape: int) -> Tensor:
    """Small integers, so that windows contain equal values, and NaN and Inf."""
    x = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(3)).float()
    odd = torch.tensor([*SPECIAL, math.nan, math.nan, -math.nan])
    places = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(4))[: 5 * len(odd)]
    x.view(-1)[places] = odd.repeat(5)[: len(places)]
    return x


@pytest.mark.parametrize("lying", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(3, 5, 8, 6), (2, 1, 7, 9), (2, 4, 2, 3), (4, 20, 24, 24)])
@pytest.mark.parametrize(("own", "peer"), [(ReLU(), nn.ReLU()), (HalvingPool(), nn.MaxPool2d(2))], ids=["relu", "pool"])
def test_custom_layers_have_the_bits_of_pytorch_in_both_passes(
    own: nn.Module, peer: nn.Module, shape: tuple[int, ...], lying: torch.memory_format
) -> None:
    found = []
    for layer in (own, peer):
        leaf = images(*shape).requires_grad_()
        output = layer((leaf * 1).contiguous(memory_format=lying))
        error = torch.linspace(-1, 1, output.numel()).view(output.shape).contiguous(memory_format=lying)
        found.append((output.detach().clone(), torch.autograd.grad(output, leaf, error)[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_pool_of_images_with_another_layout_than_their_errors() -> None:
    leaf = images(2, 3, 4, 4).nan_to_num_().requires_grad_()
    error = torch.linspace(-1, 1, 24).view(2, 3, 2, 2)
    lying = {"memory_format": torch.channels_last}
    own = torch.autograd.grad(HalvingPool()((leaf * 1).contiguous(**lying)), leaf, error)[0]
    assert torch.equal(own, torch.autograd.grad(nn.MaxPool2d(2)(leaf * 1), leaf, error)[0])


def test_relu_of_values_with_gaps_in_memory() -> None:
    leaf = images(6, 8).requires_grad_()
    error = torch.linspace(-1, 1, 24).view(6, 4)
    own = torch.autograd.grad(ReLU()((leaf * 1)[:, ::2]), leaf, error)[0]
    assert torch.equal(own, torch.autograd.grad(torch.relu(leaf[:, ::2]), leaf, error)[0])
