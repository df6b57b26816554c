"""Shared by all kernels: compilation, array types, and the bits of a number as an integer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

ZERO, ONE = np.float32(0), np.float32(1)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, and cache the code next to this file or in the user's cache, if either is writable."""
    try:
        kernel = njit(function, cache=True, error_model="numpy")
    except RuntimeError:  # numba found no folder to write to
        return njit(function, error_model="numpy")
    # numba validates cached code by the size and date of the function's file; what it calls may be in another file,
    # and installed files may all have the same date.
    kernel._cache._cache_file._source_stamp = _digest()
    return kernel


@cache
def _digest() -> str:
    """A hash of the source of all kernels."""
    texts = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(texts)).hexdigest()


def called(function: Callable[..., Any]) -> Any:
    """Compile a function together with the kernels that call it."""
    return njit(function, error_model="numpy")


def _bits_of(context: Any, value: Any) -> Any:
    """The 64 bits of a float64 as an integer."""
    return types.int64(types.float64), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(64))


def _float_of_bits(context: Any, value: Any) -> Any:
    """The float64 of 64 bits."""
    return types.float64(types.int64), lambda _, builder, __, given: builder.bitcast(given[0], ir.DoubleType())


def _float_of_pattern(context: Any, value: Any) -> Any:
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda _, builder, __, given: builder.bitcast(given[0], ir.FloatType())


def _pattern_of(context: Any, value: Any) -> Any:
    """The 32 bits of a float32 as an integer."""
    return types.int32(types.float32), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(32))


bits_of: Any = intrinsic(_bits_of)
float_of_pattern: Any = intrinsic(_float_of_pattern)
pattern_of: Any = intrinsic(_pattern_of)
float_of_bits: Any = intrinsic(_float_of_bits)


@njit(inline="always")
def copy(source: Floats, target: Floats) -> None:
    """Copy values of one row to another that does not overlap."""
    for i in range(len(source)):
        target[i] = source[i]
