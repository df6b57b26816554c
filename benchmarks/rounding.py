"""Rounding on one core compared with QPyTorch's CPU kernels, if installed: 670,000 float32 values per tensor.

A stack rounds 16 tensors, each to its own format, with shared noise; a single tensor draws its own noise, as in
QPyTorch. Without QPyTorch the comparison is with a copy of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from measure import as_a_worker, ratios, spread
from torch import Tensor

from qsweep.formats import Block, Fixed, Float, Format
from qsweep.kernels.streams import Stream
from qsweep.rounding import Stack, quantize

SIZE, P, N = 670_000, 16, 15
REPEATS = 8
"""Calls per measurement, one after the other as in training."""
NANO = 1e9
Work = Callable[[], object]


def peer() -> Any:
    """QPyTorch's quantizers; None if they are not installed or don't compile."""
    try:
        from qtorch import quant
    except (ImportError, RuntimeError, OSError):
        return None
    return quant


def line(what: str, work: Work, values: int, other: Work, other_values: int, name: str) -> None:
    """Print nanoseconds per value, and how many times as fast as `other` it is, in interleaved measurements."""
    ours, theirs = ratios(repeated(work), repeated(other), N)
    times = [(t / other_values) / (o / values) for o, t in zip(ours, theirs, strict=True)]
    own = spread([seconds / REPEATS / values * NANO for seconds in ours])
    print(f"{what:<38} {own} ns per value; {spread(times, 1)} times as fast as {name}", flush=True)


def repeated(work: Work) -> Work:
    """A function that calls `work` several times."""

    def calls() -> None:
        for _ in range(REPEATS):
            work()

    return calls


def stack_of(formats: list[Format], rounding: str, x: Tensor) -> Work:
    """A function that rounds a stack with new shared noise."""
    stack, stream = Stack(formats, rounding), Stream(0)
    rows = x.expand(len(formats), -1).contiguous()

    def work() -> None:
        noise = stream.uniform((SIZE,), "rounding", "x", 1) if stack.draws else None
        if stack.whole:
            for row in range(len(formats)):  # like the training step for tensors of this size
                stack.round_whole(rows[row : row + 1], noise, row)
        else:
            stack.round_rows(rows, noise)

    return work


def single(fmt: Format, rounding: str, x: Tensor) -> Work:
    """A function that rounds one tensor with its own noise."""
    stream = Stream(0)
    draws = rounding == "stochastic"
    return lambda: quantize(x, fmt, rounding, stream.uniform((SIZE,), "rounding", "x", 1) if draws else None)


def main() -> None:
    """Print one line per measurement."""
    as_a_worker()  # otherwise page faults dominate
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    quant = peer()
    print("on one core" + ("" if quant else "; QPyTorch is not installed: compared with a copy"))

    def theirs(call: str, **more: object) -> tuple[Work, str]:
        if quant is None:
            return lambda: x.clone(), "a copy"
        return lambda: getattr(quant, call)(x, **more), "QPyTorch"

    fixed = [Fixed(8, fraction) for fraction in range(P)]
    floats = [Float(5, mantissa) for mantissa in range(1, P + 1)]
    blocks = [Block(bitwidth) for bitwidth in range(2, P + 2)]
    stochastic = {"rounding": "stochastic"}
    nearest = {"rounding": "nearest"}
    cases: list[tuple[str, list[Format], str, tuple[Work, str]]] = [
        ("fixed, stochastic", [*fixed], "stochastic", theirs("fixed_point_quantize", wl=8, fl=4, **stochastic)),
        ("fixed, nearest", [*fixed], "nearest", theirs("fixed_point_quantize", wl=8, fl=4, **nearest)),
        ("float, stochastic", [*floats], "stochastic", theirs("float_quantize", exp=5, man=2, **stochastic)),
        ("float, nearest", [*floats], "nearest", theirs("float_quantize", exp=5, man=2, **nearest)),
        ("block, stochastic", [*blocks], "stochastic", theirs("block_quantize", wl=8, **stochastic)),
        ("block, nearest", [*blocks], "nearest", theirs("block_quantize", wl=8, **nearest)),
    ]
    for what, formats, rounding, (other, name) in cases:
        line(f"{what}, a stack of {P}", stack_of(formats, rounding, x), SIZE * P, other, SIZE, name)
        line(f"{what}, one tensor", single(formats[4], rounding, x), SIZE, other, SIZE, name)


if __name__ == "__main__":
    main()
