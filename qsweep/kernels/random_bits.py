"""Random bits by Philox, a counter-based generator, so that each draw is independent of all others."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from qsweep.kernels.compiled import Floats, compiled

MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
WORDS = 1024
"""Random words drawn at a time before conversion to numbers: few enough to stay in the first-level cache."""
LOW_24_BITS, SHARE = np.int32(0xFFFFFF), np.float32(2.0**-24)


@compiled
def uniforms(out: Floats, key: Any) -> None:
    """Multiples of 2^-24 in [0, 1) from Philox4x64-10 (Salmon et al. 2011), as numpy's bit generator of that name.

    Args:
        out: filled from the beginning: 8 numbers per block, two from each of its words, the low half first.
        key: two words, uint64. The counter of the first block is 1.
    """
    words = np.empty(WORDS, np.uint64)
    halves = words.view(np.int32)
    for start in range(0, len(out), 2 * WORDS):  # all words first, then numbers: both loops are only fast if separate
        numbers = out[start : start + 2 * WORDS]
        for block in range((len(numbers) + 7) // 8):
            _philox(words[block * 4 : block * 4 + 4], np.uint64(start // 8 + block + 1), key[0], key[1])
        for i in range(len(numbers)):
            numbers[i] = np.float32(halves[i] & LOW_24_BITS) * SHARE


@njit(inline="always")
def _philox(words: Any, counter: Any, first: Any, second: Any) -> None:
    """One block: ten rounds."""
    a, b, c, d = counter, np.uint64(0), np.uint64(0), np.uint64(0)
    for _ in range(10):
        high, low = product(MULTIPLIERS[0], a)
        high2, low2 = product(MULTIPLIERS[1], c)
        a, b, c, d = high2 ^ b ^ first, low2, high ^ d ^ second, low
        first, second = first + WEYL[0], second + WEYL[1]
    words[0], words[1], words[2], words[3] = a, b, c, d


def _product(context: Any, x: Any, y: Any) -> Any:
    """The upper and the lower 64 bits of a product of two words."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        both = builder.mul(builder.zext(given[0], wide), builder.zext(given[1], wide))
        high = builder.trunc(builder.lshr(both, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, signature.return_type, [high, builder.trunc(both, word)])

    pair: Any = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
    return pair(types.uint64, types.uint64), code


product: Any = intrinsic(_product)
