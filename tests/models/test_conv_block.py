"""Blocks of convolutions, against the notebook's loop written once more in plain torch, and AutoQKeras's four nets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.models.catalog import ARCHITECTURES
from qsweep.models.conv_block import AUTOQKERAS, FILTERS, KERNEL_SIZE
from qsweep.models.layers import Dropout
from qsweep.models.shapes import ConvolutionShape, LayerShape, Shape, TooSmallError, UnfitError, same_padding
from qsweep.parameter import BadValueError

CONV_BLOCK = ARCHITECTURES["conv_block"]
DEFAULTS: dict[str, Any] = {p.name: p.default for p in CONV_BLOCK.parameters}


def layers(shape: Shape, classes: int = 10, **own: object) -> list[LayerShape]:
    return CONV_BLOCK.layers(shape, classes, {**DEFAULTS, **own})


def net(shape: Shape, classes: int = 10, **own: object) -> nn.Module:
    made = build({"name": "conv_block", **DEFAULTS, **own}, {}, shape, classes)
    initialize(made, {"name": "he_uniform"}, Stream(0))
    return made


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "zeros"),
    [
        (28, 3, 2, (0, 1)),  # windows at 0, 2 … 26
        (7, 3, 2, (1, 1)),
        (6, 5, 2, (1, 2)),
        (28, 3, 1, (1, 1)),
        (1, 3, 2, (1, 1)),
        (4, 1, 2, (0, 0)),
        (1, 31, 1, (15, 15)),
    ],
)
def test_same_padding_has_its_odd_zero_after_the_side(
    side: int, kernel: int, stride: int, zeros: tuple[int, int]
) -> None:
    assert same_padding(side, kernel, stride) == zeros


def test_a_convolution_of_stride_2_sums_the_windows_that_tensorflow_does() -> None:
    made = net((1, 4, 4), filters=[1], norm=False)
    with torch.no_grad():
        made.conv2d_.weight.fill_(1.0)  # type: ignore[union-attr, operator]
    x = torch.arange(16.0).view(1, 1, 4, 4)
    # Rows 0 to 2 and 2 to 4 of 0 … 3, the row 4 being zeros; columns as well.
    assert made.conv2d_(x).tolist() == [[[[45.0, 39.0], [66.0, 50.0]]]]  # type: ignore[operator]


# --- the notebook's loop ----------------------------------------------------------------------------------------------


class Notebook:
    """`ConvBlockNetwork.build`, with layers that compute: parameters by name, in PyTorch's order of axes."""

    def __init__(self, made: nn.Module, own: dict[str, Any], is_training: bool) -> None:
        self.given = dict(made.named_parameters())
        self.used: set[str] = set()
        self.masks = {name: m.mask for name, m in made.named_modules() if isinstance(m, Dropout)}
        self.own = own
        self.is_training = is_training

    def parameter(self, name: str) -> Tensor:
        self.used.add(name)
        return self.given[name]

    def convolve(self, name: str, x: Tensor, strides: int, groups: int, has_bias: bool) -> Tensor:
        weight = self.parameter(f"{name}.weight")
        sides: list[int] = []
        for side, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
            total = max((-(-side // strides) - 1) * strides + kernel - side, 0)
            sides += [total // 2, total - total // 2]
        bias = self.parameter(f"{name}.bias") if has_bias else None
        return F.conv2d(F.pad(x, sides), weight, bias, strides, groups=groups)

    def normalize(self, name: str, x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        if not self.is_training:
            mean, var = torch.zeros_like(mean), torch.ones_like(var)
        mean, scale, shift, var = (
            t[:, None, None] for t in (mean, self.parameter(f"{name}.weight"), self.parameter(f"{name}.bias"), var)
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * scale + shift

    def __call__(self, x: Tensor) -> Tensor:
        filters, is_pooled = self.own["filters"], self.own["downsample"] == "max_pool"
        for i, block in enumerate(filters):
            parts = [str(i)] if len(filters) > 1 else []
            widths = block if isinstance(block, list) else [block]
            for j in range(len(widths)):
                suffix = "_".join([*parts, str(j)] if len(widths) > 1 else parts)
                x = self.convolve_and_activate(x, suffix, j == len(widths) - 1, is_pooled)
            if is_pooled:
                x = F.max_pool2d(x, 2)
                if self.own["xnornet"]:
                    x = torch.relu(self.normalize(f"mp_bn_{suffix}", x))
            if self.own["dropout"] and self.is_training:
                x = x * self.masks[f"drop_{suffix}"]
        if self.own["all_conv"]:
            return self.convolve("dense", x, 1, 1, True).flatten(1)
        return F.linear(x.flatten(1), self.parameter("dense.weight"), self.parameter("dense.bias"))

    def convolve_and_activate(self, x: Tensor, suffix: str, is_last_of_block: bool, is_pooled: bool) -> Tensor:
        size, separable, has_norm = self.own["kernel_size"], self.own["separable"], self.own["norm"]
        kernels = [(1, size), (size, 1)] if separable == "dsp" else [(size, size)]
        for k, kernel in enumerate(kernels):
            is_last = is_last_of_block and k == len(kernels) - 1
            strides = 2 if not is_pooled and is_last else 1
            long = f"{kernel[0]}{kernel[1]}_{suffix}"
            if separable == "mobilenet":
                x = self.convolve(f"conv2d_dw_{long}", x, strides, x.shape[1], False)
                x = self.normalize(f"conv2d_dw_bn_{long}", x) if has_norm else x
                x, strides = torch.relu(x), 1
            name = {"dsp": long, "mobilenet": f"11_{suffix}", "none": suffix}[separable]
            x = self.convolve(f"conv2d_{name}", x, strides, 1, not has_norm)
            if not (is_pooled and self.own["xnornet"] and is_last):
                x = self.normalize(f"bn_{name}", x) if has_norm else x
                x = torch.relu(x)
        return x


POOLED: dict[str, Any] = {"downsample": "max_pool", "filters": [4, [5, 6]]}
VARIANTS: dict[str, dict[str, Any]] = {
    "strides": {"filters": [4, 5, [6, 7]]},
    "strides of 5×5, no norm": {"filters": [4, [5, 6]], "kernel_size": 5, "norm": False},
    "one convolution": {"filters": [4]},
    "one block": {"filters": [[4, 5, 6]], "kernel_size": 1},
    "pools": POOLED,
    "pools, no norm": {**POOLED, "norm": False},
    "xnornet": {**POOLED, "xnornet": True},
    "xnornet, no norm": {**POOLED, "xnornet": True, "norm": False},
    "dsp": {"filters": [4, [5, 6]], "separable": "dsp"},
    "dsp, xnornet": {**POOLED, "separable": "dsp", "xnornet": True},
    "mobilenet": {"filters": [4, [5, 6]], "separable": "mobilenet", "norm": False},
    "mobilenet, xnornet": {**POOLED, "separable": "mobilenet", "xnornet": True, "dropout": 0.25},
    "all convolutions": {"filters": [4, 5, 6], "all_conv": True},
    "dropout": {"filters": [4, 5], "dropout": 0.5},
}


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_conv_block_computes_what_the_notebooks_loop_does(variant: str, is_training: bool) -> None:
    own, shape = {**DEFAULTS, **VARIANTS[variant]}, (2, 7, 8)
    made = net(shape, **own).train(is_training)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "bn_" in name or name.endswith("bias"):
                parameter.add_(torch.rand(parameter.shape, generator=generator))
    for name, module in made.named_modules():
        if isinstance(module, Dropout):
            module.mask = module.draw(Stream(0), name, 6, 1)
    x = torch.rand(6, *shape, generator=generator)
    notebook = Notebook(made, own, is_training)
    expected = notebook(x)
    assert notebook.used == set(notebook.given)
    torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-5)


def test_layers_have_the_notebooks_names_in_its_order() -> None:
    places = [layer.place for layer in layers((1, 8, 8), **{**POOLED, "separable": "mobilenet", "xnornet": True})]
    first = ["conv2d_dw_33_0", "conv2d_dw_bn_33_0", "conv2d_dw_act_33_0", "conv2d_11_0"]
    second = ["conv2d_dw_33_1_0", "conv2d_dw_bn_33_1_0", "conv2d_dw_act_33_1_0", "conv2d_11_1_0"]
    third = ["conv2d_dw_33_1_1", "conv2d_dw_bn_33_1_1", "conv2d_dw_act_33_1_1", "conv2d_11_1_1"]
    assert places == [
        *(*first, "mp_0", "mp_bn_0", "mp_act_0"),
        *(*second, "bn_11_1_0", "act_11_1_0"),
        *(*third, "mp_1_1", "mp_bn_1_1", "mp_act_1_1"),
        *("flatten", "dense"),
    ]


def test_layers_of_a_single_block_or_convolution_have_no_number_of_it() -> None:
    one = [layer.place for layer in layers((1, 8, 8), filters=[4], dropout=0.1)]
    assert one == ["conv2d_", "bn_", "act_", "drop_", "flatten", "dense"]
    block = [layer.place for layer in layers((1, 8, 8), filters=[[4, 5]], downsample="max_pool")]
    assert block == ["conv2d_0", "bn_0", "act_0", "conv2d_1", "bn_1", "act_1", "mp_1", "flatten", "dense"]


def test_norms_are_keras_and_convolutions_before_them_have_no_bias() -> None:
    made = net((1, 8, 8), filters=[4])
    assert made.bn_.eps == 1e-3  # type: ignore[union-attr]
    assert made.bn_.momentum == 0.01  # type: ignore[union-attr]
    assert made.conv2d_.bias is None  # type: ignore[union-attr]


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_count_the_parameters_and_outputs_of_the_net(variant: str) -> None:
    own, shape = VARIANTS[variant], (2, 7, 8)
    made, found = net(shape, **own), layers(shape, **own)
    modules = dict(made.named_children())
    assert [layer.place for layer in found] == list(modules)
    sizes: dict[str, int] = {}
    for place, module in modules.items():
        module.register_forward_hook(lambda _, __, y, place=place: sizes.update({place: y[0].numel()}))
    made(torch.zeros(2, *shape))
    for layer in found:
        own_parameters = dict(modules[layer.place].named_parameters())
        assert layer.parameters == sum(p.numel() for p in own_parameters.values())
        if layer.weights:
            assert (layer.weights, layer.activations) == (own_parameters["weight"].numel(), sizes[layer.place])
            assert layer.biases == (own_parameters["bias"].numel() if "bias" in own_parameters else 0)


def test_products_of_a_depthwise_convolution_are_those_of_its_own_channel() -> None:
    deep = next(layer for layer in layers((3, 8, 8), filters=[4], separable="mobilenet"))
    assert isinstance(deep, ConvolutionShape)
    assert (deep.groups, deep.weights, deep.products) == (3, 3 * 9, 3 * 9 * 16)


COUNTS = {
    "mnist": ((1, 28, 28), 10, 121_242, 576, 660_800),
    "fashion_mnist": ((1, 28, 28), 10, 20_755, 1_090, 1_240_560),
    "cifar10": ((3, 32, 32), 10, 64_005, 2_502, 2_370_560),
    "cifar100": ((3, 32, 32), 100, 254_175, 5_318, 3_069_440),
}
"""Of each net: parameters of convolutions and the linear layer, those of norms, and multiply-adds without biases. The
numbers of the first are the document's; the others are sums by hand: of a convolution from c to f channels at h×h,
9c + cf parameters, 2c + 2f of norms and h²(9c + cf) multiply-adds."""


@pytest.mark.parametrize("data", COUNTS)
def test_autoqkeras_nets_have_the_parameters_and_products_of_the_notebook(data: str) -> None:
    shape, classes, weights, norms, products = COUNTS[data]
    architecture = ARCHITECTURES[f"autoqkeras_{data}"]
    own = {p.name: p.default for p in architecture.parameters}
    found = architecture.layers(shape, classes, own)
    assert own == {"dropout": 0.2}
    assert sum(layer.weights + layer.biases for layer in found) == weights
    assert sum(layer.norms for layer in found) == norms
    assert sum(layer.products for layer in found) - classes == products  # biases of the linear layer
    made = build({"name": architecture.name, **own}, {}, shape, classes)
    assert sum(p.numel() for p in made.parameters()) == weights + norms


def test_autoqkeras_nets_are_conv_blocks() -> None:
    given = {**DEFAULTS, **AUTOQKERAS["cifar10"], "dropout": 0.5}
    assert ARCHITECTURES["autoqkeras_cifar10"].layers((3, 32, 32), 10, {"dropout": 0.5}) == CONV_BLOCK.layers(
        (3, 32, 32), 10, given
    )


# --- what can't be ----------------------------------------------------------------------------------------------------


def test_a_pool_of_a_single_row_is_refused_and_strides_never_are() -> None:
    with pytest.raises(TooSmallError):
        layers((1, 8, 8), filters=[1] * 4, downsample="max_pool")
    assert layers((1, 8, 8), filters=[1] * 4)
    assert CONV_BLOCK.least({**DEFAULTS, "filters": [1] * 32, "downsample": "max_pool"}) == 2**32


@pytest.mark.parametrize(
    ("own", "parameter", "said"),
    [
        ({"all_conv": True, "filters": [4, 4]}, "all_conv", "these leave 2×2"),
        ({"xnornet": True}, "xnornet", "it takes `downsample: max_pool`"),
        ({"separable": "dsp", "kernel_size": 1}, "kernel_size", "takes 3 or more"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(own: dict[str, Any], parameter: str, said: str) -> None:
    with pytest.raises(UnfitError, match=said) as error:
        layers((1, 8, 8), **own)
    assert error.value.parameter == parameter


def test_a_block_of_one_convolution_has_one_spelling() -> None:
    assert FILTERS.check([16, [32], [8, 8]]) == [16, 32, [8, 8]]


@pytest.mark.parametrize("filters", [[], [[]], 16, [0], [1.5], [[16, [3]]], [1] * 33])
def test_filters_take_blocks_only(filters: object) -> None:
    with pytest.raises(BadValueError, match="a list of blocks"):
        FILTERS.check(filters)


@pytest.mark.parametrize("size", [2, 0, 33, "3"])
def test_kernel_size_takes_odd_integers_only(size: object) -> None:
    with pytest.raises(BadValueError, match="an odd integer from 1 to 31"):
        KERNEL_SIZE.check(size)
