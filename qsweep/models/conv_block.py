"""Blocks of convolutions: `ConvBlockNetwork` of QKeras's AutoQKeras notebook, with the names that it gives layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from qsweep.models.shapes import Chain, LayerShape, Shape, UnfitError
from qsweep.parameter import Parameter

KERAS_NORM = {"eps": 1e-3, "momentum": 0.01}
"""What Keras has by default, which counts its momentum from the other end: 0.99."""

Width = Annotated[int, Field(ge=1, le=65536)]
Blocks = list[int | list[int]]


def _in_one_spelling(blocks: Blocks) -> Blocks:
    """A block of one convolution is its number of filters."""
    return [block[0] if isinstance(block, list) and len(block) == 1 else block for block in blocks]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError
    return value


FILTERS = Parameter(
    "filters",
    Annotated[
        list[Width | Annotated[list[Width], Field(min_length=1, max_length=32)]],
        Field(min_length=1, max_length=32),
        AfterValidator(_in_one_spelling),
    ],
    "a list of blocks, each a number of filters or a list of them, one per convolution, such as [16, [32, 32]]",
    default=[16, 32, 64],
)
KERNEL_SIZE = Parameter(
    "kernel_size",
    Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)],
    "an odd integer from 1 to 31",
    default=3,
)
DOWNSAMPLE = Parameter(
    "downsample",
    Literal["stride", "max_pool"],
    "stride (of 2, in the last convolution of each block) or max_pool (2×2, after each block)",
    default="stride",
)
NORM = Parameter(
    "norm", bool, "true or false (a BatchNorm after each convolution, which then has no bias)", default=True
)
SEPARABLE = Parameter(
    "separable",
    Literal["none", "dsp", "mobilenet"],
    "none, dsp (1×k, then k×1) or mobilenet (depthwise k×k, then 1×1)",
    default="none",
)
XNORNET = Parameter(
    "xnornet",
    bool,
    "true or false (the last BatchNorm and ReLU of a block come after its pool)",
    default=False,
)
ALL_CONV = Parameter(
    "all_conv", bool, "true or false (a 1×1 convolution in place of the last linear layer)", default=False
)
OWN_PARAMETERS = (FILTERS, KERNEL_SIZE, DOWNSAMPLE, NORM, SEPARABLE, XNORNET, ALL_CONV)


def conv_block(shape: Shape, classes: int, own: Mapping[str, Any]) -> list[LayerShape]:
    """The layers of a net of blocks.

    Args:
        own: the values of `OWN_PARAMETERS` and `dropout`.

    Raises:
        TooSmallError: a pool gets an image of a single row or column.
        UnfitError: parameters that do not fit together, or all_conv where more than one pixel is left.
    """
    _check(own)
    chain = Chain(shape)
    for block, suffixes in _blocks(own["filters"]):
        _add_block(chain, block, suffixes, own)
    if own["all_conv"]:
        chain.convolution("dense", classes, (1, 1))
        if chain.shape != (classes, 1, 1):
            _, height, width = chain.shape
            raise UnfitError("all_conv", f"it takes blocks that leave a single pixel, these leave {height}×{width}")
        chain.flatten()
    else:
        chain.flatten()
        chain.linear("dense", classes)
    return chain.layers


MOBILENET = {"downsample": "max_pool", "separable": "mobilenet", "xnornet": True}
AUTOQKERAS: dict[str, dict[str, Any]] = {
    "mnist": {"filters": [16, 32, 48, 64, 128]},
    "fashion_mnist": {"filters": [16, [32] * 3, [64] * 3], **MOBILENET},
    "cifar10": {"filters": [16, [32] * 3, [64] * 3, [128] * 3], **MOBILENET},
    "cifar100": {"filters": [16, [32] * 3, [64] * 3, [128] * 3, [256] * 3], **MOBILENET},
}
"""The notebook's `get_model`: what each data set's net has beside defaults and dropout."""


def autoqkeras(data: str, shape: Shape, classes: int, own: Mapping[str, Any]) -> list[LayerShape]:
    """The layers of the notebook's net for a data set. `own`: the value of `dropout`."""
    defaults = {p.name: p.default for p in OWN_PARAMETERS}
    return conv_block(shape, classes, {**defaults, **AUTOQKERAS[data], **own})


def _check(own: Mapping[str, Any]) -> None:
    if own["xnornet"] and own["downsample"] != "max_pool":
        raise UnfitError("xnornet", "it takes `downsample: max_pool`; without pools it would change nothing")
    if own["separable"] == "dsp" and own["kernel_size"] == 1:
        raise UnfitError("kernel_size", "`separable: dsp` takes 3 or more")


def _blocks(filters: Blocks) -> Iterator[tuple[list[int], list[str]]]:
    """The filters of each block and what its layers' names end in: a number of the block and one of the convolution,
    each only where there is more than one."""
    for i, block in enumerate(filters):
        widths = block if isinstance(block, list) else [block]
        first = [str(i)] if len(filters) > 1 else []
        yield widths, ["_".join([*first, *([str(j)] if len(widths) > 1 else [])]) for j in range(len(widths))]


def _add_block(chain: Chain, widths: list[int], suffixes: list[str], own: Mapping[str, Any]) -> None:
    """A block: its convolutions, then its pool and dropout, which are named as the last of these."""
    has_pool, last = own["downsample"] == "max_pool", suffixes[-1]
    for width, suffix in zip(widths, suffixes, strict=True):
        is_last = suffix == last
        stride = 2 if is_last and not has_pool else 1
        _add_convolution(chain, width, suffix, stride, own, is_bare=is_last and own["xnornet"])
    if has_pool:
        chain.pool(f"mp_{last}")
    if own["xnornet"]:
        chain.norm(f"mp_bn_{last}", **KERAS_NORM)  # also where `norm` is false
        chain.relu(f"mp_act_{last}")
    if own["dropout"]:
        chain.dropout(f"drop_{last}", own["dropout"])


def _add_convolution(chain: Chain, width: int, suffix: str, stride: int, own: Mapping[str, Any], is_bare: bool) -> None:
    """One convolution, or the two that take its place. `is_bare`: the last of them has no BatchNorm and ReLU."""
    size = own["kernel_size"]
    if own["separable"] == "dsp":
        _add(chain, width, f"1{size}_{suffix}", (1, size), 1, own["norm"])
        _add(chain, width, f"{size}1_{suffix}", (size, 1), stride, own["norm"], is_bare)
    elif own["separable"] == "mobilenet":
        _add_depthwise(chain, f"{size}{size}_{suffix}", (size, size), stride, own["norm"])
        _add(chain, width, f"11_{suffix}", (1, 1), 1, own["norm"], is_bare)
    else:
        _add(chain, width, suffix, (size, size), stride, own["norm"], is_bare)


def _add(
    chain: Chain, width: int, name: str, kernel: tuple[int, int], stride: int, has_norm: bool, is_bare: bool = False
) -> None:
    chain.convolution(f"conv2d_{name}", width, kernel, stride, same=True, has_bias=not has_norm)
    if not is_bare:
        _add_relu(chain, f"bn_{name}", f"act_{name}", has_norm)


def _add_depthwise(chain: Chain, name: str, kernel: tuple[int, int], stride: int, has_norm: bool) -> None:
    channels = chain.shape[0]
    chain.convolution(f"conv2d_dw_{name}", channels, kernel, stride, same=True, groups=channels, has_bias=False)
    _add_relu(chain, f"conv2d_dw_bn_{name}", f"conv2d_dw_act_{name}", has_norm)


def _add_relu(chain: Chain, norm: str, relu: str, has_norm: bool) -> None:
    if has_norm:
        chain.norm(norm, **KERAS_NORM)
    chain.relu(relu)
