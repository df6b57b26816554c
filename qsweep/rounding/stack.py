"""A stack of formats: the values of P trials rounded together, each row in its own format.

The trials share the family, the rounding mode and all parameters that are not declared `stacks`. On a CPU the kernels
round in place; elsewhere tensor operations do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from qsweep.formats import (
    MX,
    NVFP4,
    Binary,
    Block,
    Fixed,
    Float,
    Float32,
    Format,
    Grid,
    Law,
    PowerOfTwo,
    QKeras,
    Range,
    Scaled,
    Ternary,
    Unbounded,
    Uniform,
    name_of,
)
from qsweep.formats.groups import LAST
from qsweep.kernels import rounding as kernels
from qsweep.kernels.compiled import Floats
from qsweep.rounding import laws, qkeras, qtorch, scales
from qsweep.rounding.layout import Layout, channels_of, layout_of
from qsweep.rounding.modes import Mode, noise_array

OVERFLOWS = ("saturate", "wrap", "unbounded")
MANTISSA, LEAST_EXPONENT = 23, -126
"""Of float32."""


class Stack:
    """P formats of one family with one rounding mode."""

    def __init__(self, formats: Sequence[Format], rounding: str = "nearest", device: str = "cpu") -> None:
        self.formats = list(formats)
        self.mode = Mode(rounding)
        self.device = torch.device(device)
        self._shared = self.formats[0]

    @property
    def whole(self) -> bool:
        """Whether a value depends on others of its tensor, so that only whole tensors can be rounded."""
        return isinstance(self._shared, Scaled | QKeras)

    @cached_property
    def by_rows(self) -> bool:
        """Whether `round_rows` can round it: value by value, or a row that is a whole tensor under one scale."""
        fmt = self._shared
        return not self.whole or (isinstance(fmt, Scaled) and fmt.per == "tensor")

    @cached_property
    def keeps_parts(self) -> bool:
        """Whether rounded values stay as they are when some of them, with zeros or without, are rounded again.

        So it is with blocks of whole tensors to nearest, whose ends are symmetric: rounding leaves the largest
        magnitude its exponent, so that without it the step can only get finer, and a multiple of the coarser step below
        2^(e+1) is at least two of the finer ones less than that: it is not clipped.
        """
        fmt = self._shared
        is_block = isinstance(fmt, Block) and fmt.compat == "none" and fmt.per == "tensor"
        return is_block and self._blocks is not None and self.mode.number == 0

    def is_like(self, other: Stack) -> bool:
        """Whether both round in the same way."""
        return self.formats == other.formats and self.mode == other.mode and self.device == other.device

    @cached_property
    def draws(self) -> int:
        """Number of uniform random numbers per value; if it is above 1, noise has it in front of the tensor's shape."""
        if not self.mode.draws:
            return 0
        return self._shared.draws

    def round_rows(self, w: Tensor, noise: Tensor | None = None, first: int = 0, out: Tensor | None = None) -> None:
        """Round values one by one, or rows that are whole tensors (see `by_rows`).

        Args:
            w: rows (R, n), float32, contiguous.
            noise: (n,) for all rows, where the mode draws.
            first: the format of row 0 among those of the stack.
            out: where the rounded values go, apart from `w`; None: they take the place of `w`.
        """
        if self._blocks is not None and w.numel():
            self._blocks(w, w if out is None else out, noise, w.shape[1], first)
            return
        if out is not None:
            w = out.copy_(w)
        match self._shared:
            case Float32():
                return
            case Range():
                self._to_range(w, noise, first)
            case Fixed() | Float() if self._shared.compat == "qtorch":
                self._qtorch.elementwise(w, noise, first)
            case Float() if self._is_shorter:
                kernels.to_shorter(w.numpy(), first, self._number_arrays[0])
            case _ if self.whole:
                self.round_whole(w, noise, first)
            case _:
                self._to_law(w, noise, self._steps[first : first + len(w)], first, True)

    def round_whole(self, values: Tensor, noise: Tensor | None = None, first: int = 0, contraction: int = LAST) -> None:
        """Round whole tensors whose values share scales, in place.

        Args:
            values: (R, *shape), float32, lying in memory in any order.
            noise: (*shape), where the mode draws.
            contraction: the axis of the shape along which groups run, where the format leaves it open.
        """
        fmt = self._shared
        if not values.numel():
            return
        if isinstance(fmt, QKeras):
            self._round_channels(values, fmt, noise, first)
            return
        assert isinstance(fmt, Scaled)  # noqa: S101
        layout = layout_of(fmt, values.shape[1:], contraction)
        shaped = values.view(len(values), *layout.shape)
        rows = layout.rows(shaped)
        drawn = None if noise is None else layout.rows(noise.reshape(1, *layout.shape))[0]
        self._round_groups(rows, drawn, layout, first)
        layout.put(rows, shaped)

    def _round_channels(self, values: Tensor, shared: QKeras, noise: Tensor | None, first: int) -> None:
        """QKeras's formats, trial by trial."""
        layout = channels_of(name_of(shared), values.shape[1:], self._channel)
        shaped = values.view(len(values), *layout.shape)
        rows = layout.rows(shaped)
        drawn = [] if noise is None else list(layout.rows(noise.reshape(self.draws, *layout.shape)))
        for row, fmt in zip(rows, self.formats[first:], strict=False):
            channels = row.view(-1, layout.width)
            draws = [draw.view_as(channels) for draw in drawn]
            channels.copy_(qkeras.quantized(channels, cast(QKeras, fmt), draws))
        layout.put(rows, shaped)

    @property
    def _channel(self) -> int:
        """The axis of the channels of QKeras's formats."""
        axis = getattr(self._shared, "axis", "auto")
        return 0 if isinstance(axis, str) else int(axis)

    # laws without a scale of the data

    @cached_property
    def _range(self) -> tuple[Tensor, ...]:
        """Columns (P, 1) in float32; tensors also because CUDA divides by a Python number as by its reciprocal."""
        ranges = [f for f in self.formats if isinstance(f, Range)]
        numbers = [(f.steps_per_unit, f.lowest, f.highest, not f.zero) for f in ranges]
        return tuple(
            torch.tensor(c, dtype=torch.float32, device=self.device)[:, None] for c in zip(*numbers, strict=True)
        )

    @cached_property
    def _range_arrays(self) -> list[Floats]:
        """The same for the kernel: slicing tensors a hundred times a step costs more than it looks."""
        return [column.numpy()[:, 0] for column in self._range]

    def _to_range(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        rows = slice(first, first + len(w))
        if w.device.type == "cpu":
            numbers = [column[rows] for column in self._range_arrays]
            kernels.to_range(w.numpy(), noise_array(noise), *numbers, self.mode.number, self.mode.shares)
        else:
            w.copy_(laws.to_range(w, noise, self.mode, *[column[rows] for column in self._range]))

    @cached_property
    def _numbers(self) -> tuple[Tensor, ...]:
        """What each trial's law has of its own, as columns (P, 1)."""
        found: list[tuple[Any, ...]] = []
        for fmt in self.formats:
            law: Any = fmt.law
            if isinstance(law, Grid):
                found.append((float(law.lowest), float(law.highest)))
            else:
                smallest = 0.0 if law.has_zero else law.smallest
                found.append((law.mantissa, law.least_exponent, law.largest, law.beyond, smallest))
        return tuple(column.to(self.device)[:, None] for column in _columns(found))

    @cached_property
    def _number_arrays(self) -> list[Any]:
        """The same for the kernels, (P,)."""
        return [column.numpy()[:, 0] for column in self._numbers]

    @cached_property
    def _steps(self) -> Tensor:
        """The scale of a law without one of the data: its step, (P, 1) float64."""
        steps = [f.law.step if isinstance(f, Fixed | Unbounded) else 1.0 for f in self.formats]
        return torch.tensor(steps, dtype=torch.float64, device=self.device)[:, None]

    def _to_law(self, w: Tensor, noise: Tensor | None, scale: Tensor, first: int, exact: bool) -> None:
        """Round rows to integers or floating point under a scale (R, G), `exact` where each is a power of two."""
        rows = slice(first, first + len(w))
        law: Any = self._shared.law
        if w.device.type == "cpu":
            self._compiled(w, noise, scale, rows, law, exact)
        else:
            self._eager(w, noise, scale, [column[rows] for column in self._numbers], law)

    def _compiled(self, w: Tensor, noise: Tensor | None, scale: Tensor, rows: slice, law: Law, exact: bool) -> None:
        width = w.shape[1] // scale.shape[1]
        mode = self.mode.number, self.mode.shares
        columns = [column[rows] for column in self._number_arrays]
        if isinstance(law, Grid):
            overflow = OVERFLOWS.index(law.overflow)
            kernels.to_grid(w.numpy(), noise_array(noise), scale.numpy(), width, exact, *columns, overflow, *mode)
        else:
            kernels.to_floating(w.numpy(), noise_array(noise), scale.numpy(), width, exact, *columns, *mode)

    def _eager(self, w: Tensor, noise: Tensor | None, scale: Tensor, numbers: Sequence[Tensor], law: Law) -> None:
        groups = w.view(*scale.shape, -1)
        drawn = None if noise is None else noise.view(scale.shape[1], -1)
        columns = [column[..., None] for column in numbers]
        if isinstance(law, Grid):
            groups.copy_(laws.to_grid(groups, drawn, self.mode, scale[..., None], columns[0], columns[1], law.overflow))
        else:
            groups.copy_(laws.to_floating(groups, drawn, self.mode, scale[..., None], *columns))

    # laws under a scale of the data

    def _round_groups(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        groups = rows.view(len(rows), -1, layout.width)
        drawn = None if noise is None else noise.view(-1, layout.width)
        formats: Any = self.formats[first : first + len(rows)]
        if self._blocks is not None:
            self._blocks(rows, rows, noise, layout.width, first)
            return
        match self._shared:
            case Block() if self._shared.compat == "qtorch":
                groups.copy_(qtorch.block(groups, formats, drawn))
            case Uniform() if not self._shared.symmetric:
                self._to_span(groups, drawn, formats)
            case Binary() | Ternary():
                self._to_signs(rows, groups, noise, layout, formats, first)
            case NVFP4() if self._shared.arithmetic == "nvidia":
                scale, encode = scales.by_nvidia(groups)
                m, e, top, over, least = (column[first : first + len(rows), :, None] for column in self._numbers)
                s, by = scale[..., None], encode[..., None]
                groups.copy_(laws.to_floating(groups, drawn, self.mode, s, m, e, top, over, least, encode=by))
            case fmt:
                exact = not isinstance(fmt, NVFP4) and not (isinstance(fmt, Uniform) and fmt.scaling != "po2")
                self._to_law(rows, noise, self._scale(groups, formats), first, exact)

    @cached_property
    def _is_shorter(self) -> bool:
        """Whether all are float32 with fewer bits of mantissa, rounded to nearest on a CPU."""
        laws: Any = [f.law for f in self.formats if isinstance(f, Float) and 0 < f.mantissa < MANTISSA]
        is_alike = len(laws) == len(self.formats) and all(law.beyond == math.inf for law in laws)
        exponents = {law.least_exponent for law in laws}
        return self.device.type == "cpu" and self.mode.number == 0 and is_alike and exponents == {LEAST_EXPONENT}

    @cached_property
    def _blocks(self) -> Callable[[Tensor, Tensor, Tensor | None, int, int], None] | None:
        """What rounds rows (R, n) of integers under shared exponents, `width` values each, on a CPU; else None."""
        fmt: Any = self._shared
        if self.device.type != "cpu" or not isinstance(fmt, Block | MX) or not isinstance(fmt.law, Grid):
            return None
        return self._qtorch.blocks if isinstance(fmt, Block) and fmt.compat == "qtorch" else self._to_blocks

    def _to_blocks(self, w: Tensor, out: Tensor, noise: Tensor | None, width: int, first: int) -> None:
        numbers = self._block_arrays
        in_place = out is w
        mode = self.mode.number, self.mode.shares
        kernels.to_blocks(w.numpy(), out.numpy(), noise_array(noise), width, first, *numbers, in_place, *mode)

    @cached_property
    def _block_arrays(self) -> tuple[Any, ...]:
        formats: Any = self.formats
        ends = [np.array([float(f.law.lowest) for f in formats]), np.array([float(f.law.highest) for f in formats])]
        return *scales.exponents(formats), *ends

    @cached_property
    def _qtorch(self) -> qtorch.Rows:
        return qtorch.Rows(self.formats)

    def _scale(self, groups: Tensor, formats: Any) -> Tensor:
        """The scale of each group (R, G) under which values are rounded by a law."""
        match self._shared:
            case PowerOfTwo():
                return scales.by_power(groups, formats)
            case NVFP4():
                is_nvidia = formats[0].arithmetic == "nvidia"
                return scales.by_nvidia(groups)[0] if is_nvidia else scales.by_e4m3(groups, formats)
            case Uniform():
                return scales.by_largest(groups, formats)
        return scales.by_exponent(groups, formats)

    def _to_span(self, groups: Tensor, noise: Tensor | None, formats: Sequence[Uniform]) -> None:
        low, high = scales.span(groups, formats)
        count = scales.column([f.law.highest for f in formats], self.device)
        groups.copy_(laws.to_span(groups, noise, self.mode, low[..., None], high[..., None], count[..., None]))

    def _to_signs(
        self, rows: Tensor, groups: Tensor, noise: Tensor | None, layout: Layout, formats: Any, first: int
    ) -> None:
        scale, threshold = scales.means(groups, formats, layout.counts.to(self.device))
        if isinstance(self._shared, Binary):
            drawn = None if noise is None else noise.view(-1, layout.width)
            groups.copy_(laws.to_sign(groups, drawn, self.mode, scale[..., None]))
        elif self.mode == laws.NEAREST:
            groups.copy_(laws.to_three(groups, scale[..., None], threshold[..., None]))
        else:
            safe = torch.where(scale == 0, 1.0, scale)
            self._to_law(rows, noise, safe, first, False)
            groups.copy_(torch.where((scale == 0)[..., None], 0.0, groups))

    # codes

    def same_codes(self, before: Tensor, after: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where stored values (R, *shape) have one code before and after a step: where both round to nearest alike
        under the scales of what is stored after it. Where a scale does not drift, or a group has one value, which its
        scale follows whole: where the values are equal.
        """
        fmt = self._shared
        if not fmt.drifts:
            return before == after
        is_foreign = isinstance(fmt, QKeras)
        layout = channels_of(name_of(fmt), after.shape[1:], self._channel) if is_foreign else None
        layout = layout or layout_of(cast(Scaled, fmt), after.shape[1:], contraction)
        old, new = (layout.rows(values.view(len(values), *layout.shape)) for values in (before, after))
        like = new.view(len(new), -1, layout.width)
        if is_foreign:
            same = [
                qkeras.codes(o, n, cast(QKeras, own)) == qkeras.codes(n, n, cast(QKeras, own))
                for o, n, own in zip(old.view_as(like), like, self.formats[first:], strict=False)
            ]
            equal = torch.stack(same)
        else:
            nearest = Stack(self.formats, device=str(self.device))
            equal = nearest._under(like, old.view_as(like), layout, first) == nearest._under(like, like, layout, first)
        single = (layout.counts == 1)[:, None].to(after.device)
        equal = torch.where(single, old.view_as(like) == like, equal)
        result = torch.empty(len(after), *layout.shape, device=after.device)
        layout.put(equal.float().view_as(new), result)
        return result.view(after.shape) > 0

    def _under(self, like: Tensor, groups: Tensor, layout: Layout, first: int) -> Tensor:
        """Groups of values, rounded to nearest under the scales of others."""
        formats: Any = self.formats[first : first + len(groups)]
        result = groups.clone()
        match self._shared:
            case Uniform() if not self._shared.symmetric:
                low, high = (end[..., None] for end in scales.span(like, formats))
                count = scales.column([f.law.highest for f in formats], self.device)[..., None]
                return laws.to_span(result, None, self.mode, low, high, count)
            case Binary():
                scale, _ = scales.means(like, formats, layout.counts.to(self.device))
                return laws.to_sign(result, None, self.mode, scale[..., None])
            case Ternary():
                scale, threshold = scales.means(like, formats, layout.counts.to(self.device))
                return laws.to_three(result, scale[..., None], threshold[..., None])
        scale = self._scale(like, formats)
        self._to_law(result.view(len(groups), -1), None, torch.where(scale == 0, 1.0, scale), first, False)
        return result

    # gradients

    def inside(self, values: Tensor, first: int = 0, contraction: int = LAST) -> Tensor:
        """Where values are not clipped: between the least and the greatest value of their format, inclusive.

        Args:
            values: (R, *shape).
            first: the format of row 0 among those of the stack.
        """
        fmt = self._shared
        if isinstance(fmt, QKeras):
            return torch.ones_like(values, dtype=torch.bool)
        if not isinstance(fmt, Scaled):
            ends = (column[first : first + len(values)] for column in self._ends)
            low, high = (column.view(-1, *[1] * (values.dim() - 1)) for column in ends)
            return (values >= low) & (values <= high)
        layout = layout_of(fmt, values.shape[1:], contraction)
        shaped = values.view(len(values), *layout.shape)
        groups = layout.rows(shaped).view(len(values), -1, layout.width)
        low, high = self._group_ends(groups, layout, self.formats[first : first + len(values)])
        within = ((groups >= low[..., None]) & (groups <= high[..., None])).float()
        result = torch.empty_like(shaped)
        layout.put(within.view(len(values), -1), result)
        return result.view(values.shape) > 0

    def ends(self, trial: int) -> tuple[float, float]:
        """The least and the greatest value of a trial's format, where values round one by one."""
        low, high = self._ends
        return float(low[trial]), float(high[trial])

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each trial's format, (P,); ±Inf where nothing is clipped."""
        ends = []
        for fmt in self.formats:
            if isinstance(fmt, Float32 | Unbounded) or (isinstance(fmt, Fixed) and fmt.overflow != "saturate"):
                ends.append((-math.inf, math.inf))
            elif isinstance(fmt, Range):
                ends.append((fmt.lowest * fmt.step, fmt.highest * fmt.step))
            else:
                law: Any = fmt.law
                ends.append((law.lowest * law.step if isinstance(law, Grid) else -law.largest, law.largest))
        low, high = zip(*ends, strict=True)
        return tuple(torch.tensor(e, dtype=torch.float32, device=self.device) for e in (low, high))  # type: ignore[return-value]

    def _group_ends(self, groups: Tensor, layout: Layout, formats: Any) -> tuple[Tensor, Tensor]:
        match self._shared:
            case Uniform() if not self._shared.symmetric:
                return scales.span(groups, formats)
            case Binary() | Ternary():
                scale, _ = scales.means(groups, formats, layout.counts.to(self.device))
                return -scale, scale
        scale = self._scale(groups, formats)
        grid = isinstance(formats[0].law, Grid)
        highest = scales.column([f.law.highest if grid else f.law.largest for f in formats], self.device)
        lowest = scales.column([f.law.lowest if grid else -f.law.largest for f in formats], self.device)
        return scale * laws.lowest_under(scale, lowest, highest), scale * highest


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Tensor]:
    """Columns of numbers: integers as int64, all others as float64."""
    dtypes = [torch.int64 if isinstance(value, int) else torch.float64 for value in rows[0]]
    return [torch.tensor(column, dtype=d) for column, d in zip(zip(*rows, strict=True), dtypes, strict=True)]
