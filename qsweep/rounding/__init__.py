"""Rounding tensors to formats. Pure functions of (values, format, rounding, random bits), without state.

Only + − × ÷ floor round min max, comparisons and bit patterns are used: these give the same bits eager, compiled, in a
stack and alone. On a CPU the kernels of qsweep.kernels run, elsewhere equivalent tensor operations.
"""

from __future__ import annotations

from typing import SupportsIndex, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qsweep.errors import ArgumentError, unknown
from qsweep.formats import Float32, Format, KMeans, QKeras, check_rounding, name_of, parse
from qsweep.formats.declared import ROUNDING
from qsweep.formats.groups import LAST
from qsweep.parameter import BadValueError, show
from qsweep.rounding import kmeans
from qsweep.rounding.gradients import StraightThrough
from qsweep.rounding.qkeras import gradient_factor
from qsweep.rounding.stack import Stack

__all__ = ["GRADIENTS", "Stack", "quantize"]


Array = NDArray[np.float32]

GRADIENTS = ("identity", "clipped")
"""Straight-through estimators: the gradient itself, or 0 where the value was clipped."""


@overload
def quantize(
    x: Tensor,
    fmt: Format | str,
    rounding: str = "nearest",
    noise: Tensor | None = None,
    gradient: str = "identity",
    contraction: int = LAST,
    *,
    generator: torch.Generator | None = None,
) -> Tensor: ...


@overload
def quantize(
    x: Array,
    fmt: Format | str,
    rounding: str = "nearest",
    noise: Array | None = None,
    *,
    contraction: int = LAST,
    generator: np.random.Generator | None = None,
) -> Array: ...


def quantize(
    x: Tensor | Array,
    fmt: Format | str,
    rounding: str = "nearest",
    noise: Tensor | Array | None = None,
    gradient: str = "identity",
    contraction: int = LAST,
    *,
    generator: torch.Generator | np.random.Generator | None = None,
) -> Tensor | Array:
    """Round the values of `x` to a format: `quantize(x, "e4m3")`.

    Args:
        x: float32, any shape: a tensor on any device, or a NumPy array; the result is of the same type.
        fmt: a format, or its name as in a spec.
        rounding: `nearest`, `away`, `zero`, `up`, `down`, `stochastic` or `stochasticN` with N from 1 to 23.
        noise: only for the stochastic modes: multiples of 2^-24 in [0, 1), float32, of x's shape; (draws, *shape) for
            a format of QKeras that takes several draws per value.
        gradient: what the straight-through estimator (Bengio et al. 2013) passes back: `identity`, the gradient itself,
            or `clipped`, 0 where the value was clipped. QKeras's formats have their own instead of `identity`.
        contraction: the axis along which groups run, if the format has groups and does not set their axis: by default
            the last one. In training and compression it is axis 1 of a weight, its inputs, so `contraction=1` rounds
            the weights (outputs, inputs, height, width) of a convolution as they do. A vector has only one axis.
        generator: draws the noise instead: a torch.Generator on x's device for a tensor, a numpy.random.Generator for
            an array. Modes that are not stochastic do not use it.

    Returns:
        A new float32 tensor like `x`; `x` itself if the format is float32. The format defines what NaN and ±Inf
        become: in most formats NaN stays NaN, and under a shared scale either makes its whole group NaN.

    Raises:
        Error: an unknown format, mode or gradient; an `x` that is neither a tensor nor an array, or not of float32;
            noise that is missing, of the wrong shape or given along with a generator; a generator of the other library;
            an axis that `x` does not have. Except for formats, it is also a TypeError and a ValueError.
    """
    if isinstance(fmt, str):
        fmt = parse(fmt)
    try:
        _check(x, fmt, rounding, noise, gradient, contraction)
        return _quantize(x, fmt, rounding, noise, gradient, contraction, generator)
    except BadValueError as problem:
        raise ArgumentError(str(problem)) from None


def _check(x: object, fmt: object, rounding: object, noise: object, gradient: object, contraction: object) -> None:
    """Refuse arguments of wrong types, and values that no format accepts."""
    if not isinstance(fmt, Format):
        raise BadValueError(f"format: found {show(fmt)}, expected a name such as 'e4m3' or what qsweep.parse returns")
    if not isinstance(rounding, str):
        raise BadValueError(f"rounding: found {show(rounding)}, expected {ROUNDING.expected}")
    if not isinstance(noise, Tensor | np.ndarray | None):
        raise BadValueError(f"noise: found {show(noise)}, expected a tensor or a NumPy array")
    if gradient not in GRADIENTS:
        raise BadValueError(unknown("gradient", gradient, GRADIENTS))
    if not isinstance(contraction, SupportsIndex):
        raise BadValueError(f"contraction: found {show(contraction)}, expected the number of an axis")
    if not isinstance(x, Tensor | np.ndarray):
        found = type(x).__name__
        raise BadValueError(f"quantize takes a tensor or a NumPy array, found {found}: torch.tensor(x) first")
    check_rounding(fmt, rounding)


def _quantize(
    x: Tensor | Array,
    fmt: Format,
    rounding: str,
    noise: Tensor | Array | None,
    gradient: str,
    contraction: int,
    generator: torch.Generator | np.random.Generator | None,
) -> Tensor | Array:
    if generator is not None:
        if noise is not None:
            raise BadValueError("quantize takes noise or a generator that draws it, and found both")
        noise = _noise(x, fmt, rounding, generator)
    drawn = torch.from_numpy(noise.copy()) if isinstance(noise, np.ndarray) else noise
    if isinstance(x, Tensor):
        return _quantized(x, fmt, rounding, drawn, gradient, contraction)
    if x.dtype != np.float32:
        raise BadValueError(f"quantize to {name_of(fmt)} takes float32, found {x.dtype}: x.astype('float32') first")
    return _quantized(torch.from_numpy(x.copy()), fmt, rounding, drawn, gradient, contraction).numpy()


NOISE_BITS = 24


def _noise(
    x: Tensor | Array, fmt: Format, rounding: str, generator: torch.Generator | np.random.Generator
) -> Tensor | Array | None:
    """The noise for rounding `x`, if any, drawn as integers: torch.rand has a different resolution on a GPU."""
    expected = np.random.Generator if isinstance(x, np.ndarray) else torch.Generator
    if not isinstance(generator, expected):
        module = "numpy.random" if isinstance(x, np.ndarray) else "torch"
        raise BadValueError(f"generator: found {type(generator).__name__}, expected a {module}.Generator for such an x")
    if isinstance(fmt, Float32 | KMeans):
        return None
    stack = Stack([fmt], rounding, "cpu")
    if not stack.draws:
        return None
    shape = _noise_shape(x, stack)
    if isinstance(generator, np.random.Generator):
        return generator.integers(1 << NOISE_BITS, size=shape).astype(np.float32) / np.float32(1 << NOISE_BITS)
    drawn = torch.randint(1 << NOISE_BITS, shape, generator=generator, device=generator.device)
    return drawn.float() / (1 << NOISE_BITS)


def _noise_shape(x: Tensor | Array, stack: Stack) -> tuple[int, ...]:
    return tuple(x.shape) if stack.draws == 1 else (stack.draws, *x.shape)


def _quantized(x: Tensor, fmt: Format, rounding: str, noise: Tensor | None, gradient: str, contraction: int) -> Tensor:
    if isinstance(fmt, Float32):
        return x
    if isinstance(fmt, KMeans):
        _refuse_type(x, fmt)
        found: Tensor = StraightThrough.apply(x, kmeans.quantized(x, fmt, contraction), None)
        return found if x.requires_grad else found.detach()
    stack = Stack([fmt], rounding, str(x.device))
    _refuse(x, stack, rounding, noise)
    drawn = noise if stack.mode.draws else None
    result = _rounded(x.detach(), stack, drawn, contraction)
    if not x.requires_grad:
        return result
    back: Tensor = StraightThrough.apply(x, result, _factor(x.detach(), stack, gradient, contraction))
    return back


def _rounded(x: Tensor, stack: Stack, noise: Tensor | None, contraction: int) -> Tensor:
    if stack.whole:
        values = x.clone(memory_format=torch.contiguous_format)[None]
        stack.round_whole(values, noise, 0, contraction)
        return values[0]
    rows = x.reshape(1, -1).clone(memory_format=torch.contiguous_format)
    stack.round_rows(rows, None if noise is None else noise.reshape(-1).contiguous())
    return rows.view(x.shape)


def _factor(x: Tensor, stack: Stack, gradient: str, contraction: int) -> Tensor | None:
    """What the gradient is multiplied by; None for the identity."""
    fmt = stack.formats[0]
    if isinstance(fmt, QKeras):
        return gradient_factor(x, fmt)
    return None if gradient == "identity" else stack.inside(x.contiguous()[None], 0, contraction)[0].float()


def _refuse_type(x: Tensor, fmt: Format) -> None:
    if x.dtype != torch.float32:
        raise BadValueError(f"quantize to {name_of(fmt)} takes float32, found {x.dtype}: x.float() first")


def _refuse(x: Tensor, stack: Stack, rounding: str, noise: Tensor | None) -> None:
    name = name_of(stack.formats[0])
    _refuse_type(x, stack.formats[0])
    if not stack.draws:
        return
    shape = _noise_shape(x, stack)
    if noise is None:
        raise BadValueError(
            f"{rounding} rounding to {name} needs noise, uniform numbers in [0, 1): pass `noise=torch.rand({shape})`, "
            f"or in NumPy `noise=numpy.random.default_rng().random({shape}, 'float32')`, or a generator: "
            "`generator=torch.Generator()` or `generator=numpy.random.default_rng()`"
        )
    if tuple(noise.shape) != shape or noise.dtype != torch.float32:
        raise BadValueError(f"noise for {name}: found {noise.dtype} {tuple(noise.shape)}, expected float32 {shape}")
