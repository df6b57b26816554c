"""Rounding tensors to formats. Pure functions of (values, format, rounding, random bits), without state.

Only + − × ÷ floor round min max, comparisons and bit patterns are used: these give the same bits eager, compiled, in a
stack and alone. On a CPU the kernels of qsweep.kernels run, elsewhere equivalent tensor operations.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qsweep.formats import Float32, Format, KMeans, QKeras, check_rounding, name_of, parse
from qsweep.formats.groups import LAST
from qsweep.rounding import kmeans
from qsweep.rounding.gradients import StraightThrough
from qsweep.rounding.qkeras import gradient_factor
from qsweep.rounding.stack import Stack

__all__ = ["GRADIENTS", "Stack", "quantize"]


Array = NDArray[np.float32]

GRADIENTS = ("identity", "clipped")
"""What the straight-through estimator passes back: the gradient itself, or 0 where the value was clipped."""


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
        x: float32, any shape: a tensor on any device, or a NumPy array, which gives a NumPy array.
        fmt: a format, or its name as in a spec.
        rounding: one of qsweep.formats.ROUNDINGS.
        noise: only for the stochastic modes: multiples of 2^-24 in [0, 1), float32, of x's shape; (draws, *shape) for
            a format of QKeras that takes several draws per value.
        gradient: the straight-through estimator (Bengio et al. 2013), one of GRADIENTS. QKeras's formats have their
            own instead of `identity`.
        contraction: the axis along which groups run, if the format has groups and does not set their axis.
        generator: draws the noise instead: a torch.Generator on x's device for a tensor, a numpy.random.Generator for
            an array. It is left alone by modes that are not stochastic.

    Returns:
        A new float32 tensor like `x`; `x` itself if the format is float32. The format defines what NaN and ±Inf
        become: in most formats NaN stays NaN, and under a shared scale either makes its whole group NaN.

    Raises:
        TypeError: `x` is neither a tensor nor an array, or the generator is not of the same library.
        ValueError: a type other than float32, an unknown mode, noise that is missing, of another shape or given beside
            a generator, or an axis that `x` does not have.
        UserError: an unknown format name.
    """
    if isinstance(fmt, str):
        fmt = parse(fmt)
    if generator is not None:
        if noise is not None:
            raise ValueError("quantize takes noise or a generator that draws it, and found both")
        noise = _noise(x, fmt, rounding, generator)
    if isinstance(x, np.ndarray):
        if x.dtype != np.float32:
            raise ValueError(f"quantize to {name_of(fmt)} takes float32, found {x.dtype}: x.astype('float32') first")
        drawn = torch.from_numpy(noise.copy()) if isinstance(noise, np.ndarray) else noise
        return _quantized(torch.from_numpy(x.copy()), fmt, rounding, drawn, gradient, contraction).numpy()
    if not isinstance(x, Tensor):
        raise TypeError(f"quantize takes a tensor or a NumPy array, found {type(x).__name__}: torch.tensor(x) first")
    drawn = torch.from_numpy(noise.copy()) if isinstance(noise, np.ndarray) else noise
    return _quantized(x, fmt, rounding, drawn, gradient, contraction)


NOISE_BITS = 24


def _noise(
    x: Tensor | Array, fmt: Format, rounding: str, generator: torch.Generator | np.random.Generator
) -> Tensor | Array | None:
    """The noise that rounding `x` takes, if it takes any, from integers: torch.rand has other steps on a GPU."""
    expected = np.random.Generator if isinstance(x, np.ndarray) else torch.Generator
    if not isinstance(generator, expected):
        module = "numpy.random" if isinstance(x, np.ndarray) else "torch"
        raise TypeError(f"generator: found {type(generator).__name__}, expected a {module}.Generator for such an x")
    if isinstance(fmt, Float32 | KMeans):
        return None
    check_rounding(fmt, rounding)
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
    _refuse(x, stack, rounding, noise, gradient)
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
    """What the gradient is multiplied with; None for the identity."""
    fmt = stack.formats[0]
    if isinstance(fmt, QKeras):
        return gradient_factor(x, fmt)
    return None if gradient == "identity" else stack.inside(x.contiguous()[None], 0, contraction)[0].float()


def _refuse_type(x: Tensor, fmt: Format) -> None:
    if x.dtype != torch.float32:
        raise ValueError(f"quantize to {name_of(fmt)} takes float32, found {x.dtype}: x.float() first")


def _refuse(x: Tensor, stack: Stack, rounding: str, noise: Tensor | None, gradient: str) -> None:
    name = name_of(stack.formats[0])
    _refuse_type(x, stack.formats[0])
    check_rounding(stack.formats[0], rounding)
    if gradient not in GRADIENTS:
        raise ValueError(f"unknown gradient {gradient!r} (one of: {', '.join(GRADIENTS)})")
    if not stack.draws:
        return
    shape = _noise_shape(x, stack)
    if noise is None:
        raise ValueError(
            f"{rounding} rounding to {name} needs noise, uniform numbers in [0, 1): give `noise=torch.rand({shape})`, "
            f"or of NumPy `noise=numpy.random.default_rng().random({shape}, 'float32')`, or what draws it: "
            "`generator=torch.Generator()` or `generator=numpy.random.default_rng()`"
        )
    if tuple(noise.shape) != shape or noise.dtype != torch.float32:
        raise ValueError(f"noise for {name}: found {noise.dtype} {tuple(noise.shape)}, expected float32 {shape}")
