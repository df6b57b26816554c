"""Rounding a stack of tensors whose values share scales, group by group."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsweep.formats import Grid, name_of
from qsweep.formats.groups import LAST
from qsweep.kernels import rounding as kernels
from qsweep.rounding import formulas, qkeras, qtorch, scales
from qsweep.rounding.elements import Elements
from qsweep.rounding.layout import Layout, channels_of, layout_of
from qsweep.rounding.modes import Mode, noise_array
from qsweep.rounding.way import Way


class OfGroups(Way):
    """Whole tensors, group by group: groups are (R, G, width), their noise (G, width)."""

    def layout(self, shape: Sequence[int], contraction: int) -> Layout:
        """The groups of tensors of a shape."""
        return layout_of(self._shared, shape, contraction)

    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        self.round_whole(w, noise, first, LAST)

    def round_whole(self, values: Tensor, noise: Tensor | None, first: int, contraction: int) -> None:
        if not values.numel():
            return
        layout = self.layout(values.shape[1:], contraction)
        shaped = values.view(len(values), *layout.shape)
        rows = layout.rows(shaped)
        drawn = None if noise is None else layout.rows(noise.reshape(-1, *layout.shape))
        self._round(rows, drawn, layout, first)
        layout.put(rows, shaped)

    @abstractmethod
    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        """Round rows (R, G · width) in place; noise (draws, G · width)."""

    @abstractmethod
    def _same(self, old: Tensor, new: Tensor, layout: Layout, first: int) -> Tensor:
        """Where old and new groups round to the same code under the scales of the new ones."""

    @abstractmethod
    def _group_ends(self, groups: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value of each group's format, (R, G)."""

    def same_codes(self, before: Tensor, after: Tensor, first: int, contraction: int) -> Tensor:
        if not self._shared.drifts:
            return before == after
        layout = self.layout(after.shape[1:], contraction)
        old, new = (
            layout.rows(values.view(len(values), *layout.shape)).view(len(values), -1, layout.width)
            for values in (before, after)
        )
        single = (layout.counts == 1)[:, None].to(after.device)
        equal = torch.where(single, old == new, self._same(old, new, layout, first))
        return _put(equal, layout, after)

    def inside(self, values: Tensor, first: int, contraction: int) -> Tensor:
        layout = self.layout(values.shape[1:], contraction)
        groups = layout.rows(values.view(len(values), *layout.shape)).view(len(values), -1, layout.width)
        low, high = self._group_ends(groups, layout, first)
        return _put((groups >= low[..., None]) & (groups <= high[..., None]), layout, values)


class InGroups(OfGroups):
    """One random number per value; rounding and comparing codes differ only in the scales."""

    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        groups = rows.view(len(rows), -1, layout.width)
        drawn = None if noise is None else noise.view(-1, layout.width)
        groups.copy_(self._rounded(groups, groups, drawn, self._mode, layout, first))

    def _same(self, old: Tensor, new: Tensor, layout: Layout, first: int) -> Tensor:
        codes = (self._rounded(values, new, None, formulas.NEAREST, layout, first) for values in (old, new))
        return torch.eq(*codes)

    @abstractmethod
    def _rounded(
        self, groups: Tensor, like: Tensor, noise: Tensor | None, mode: Mode, layout: Layout, first: int
    ) -> Tensor:
        """A new tensor: `groups` rounded under the scales of `like`."""

    def _own(self, groups: Tensor, first: int) -> Sequence[Any]:
        """The formats of these rows."""
        return self._formats[first : first + len(groups)]


class UnderScale(OfGroups):
    """To a grid or floating point under a scale per group, by one of scales.RULES."""

    @property
    def _rule(self) -> scales.Rule:
        return scales.RULES[self._shared.rule]

    def _scale(self, groups: Tensor, first: int) -> Tensor:
        """(R, G) float64."""
        return self._rule.scale(groups, self._formats[first : first + len(groups)])

    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        scale = self._scale(rows.view(len(rows), -1, layout.width), first)
        self._elements.round(rows, None if noise is None else noise[0], scale, first, self._rule.exact)

    @cached_property
    def _nearest(self) -> Elements:
        return Elements(self._formats, formulas.NEAREST, self._device, self._has_kernels)

    def _same(self, old: Tensor, new: Tensor, layout: Layout, first: int) -> Tensor:
        scale = self._scale(new, first)
        scale = torch.where(scale == 0, 1.0, scale)
        codes = [values.clone() for values in (old, new)]
        for values in codes:
            self._nearest.round(values.view(len(values), -1), None, scale, first, exact=False)
        return codes[0] == codes[1]

    def _group_ends(self, groups: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        scale, own = self._scale(groups, first), [f.elements for f in self._formats[first : first + len(groups)]]
        highest = scales.column([e.highest if isinstance(e, Grid) else e.largest for e in own], self._device)
        lowest = scales.column([e.lowest if isinstance(e, Grid) else -e.largest for e in own], self._device)
        return scale * formulas.lowest_under(scale, lowest, highest), scale * highest


class ToBlocks(UnderScale):
    """To integers under shared exponents, by a kernel that computes scale and elements in one pass."""

    @cached_property
    def keeps_parts(self) -> bool:  # type: ignore[override]
        """True for blocks of whole tensors, rounded to nearest, with a symmetric range. Rounding keeps the exponent of
        the largest magnitude, so that without that value the step can only get finer; and a multiple of the coarser
        step below 2^(e+1) is at least two finer steps below it: it is not clipped.
        """
        grid = self._shared.elements
        return self._shared.per == "tensor" and self._mode == formulas.NEAREST and bool(grid.lowest == -grid.highest)

    def round_rows(self, w: Tensor, out: Tensor, noise: Tensor | None, first: int) -> None:
        if w.numel():
            self._into(w, out, noise, w.shape[1], first)

    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        self._into(rows, rows, None if noise is None else noise[0], layout.width, first)

    def _into(self, w: Tensor, out: Tensor, noise: Tensor | None, width: int, first: int) -> None:
        """Rows (R, n), `width` values each under one exponent, into `out`, which may be `w`."""
        kernels.to_blocks(w.numpy(), out.numpy(), noise_array(noise), first, width, self._blocks, self._mode.numbers)

    @cached_property
    def _blocks(self) -> kernels.Blocks:
        grids = [f.elements for f in self._formats]
        lowest, highest = np.array([float(g.lowest) for g in grids]), np.array([float(g.highest) for g in grids])
        return kernels.Blocks(*scales.exponents(self._formats), lowest, highest)


class ToQtorchBlocks(ToBlocks):
    """Block floating point by QPyTorch's rules."""

    keeps_parts = False

    @property
    def _rule(self) -> scales.Rule:
        return scales.RULES["exponent"]

    def round_rows(self, w: Tensor, out: Tensor, noise: Tensor | None, first: int) -> None:
        if self._has_kernels:
            super().round_rows(w, out, noise, first)
        else:
            Way.round_rows(self, w, out, noise, first)

    def _into(self, w: Tensor, out: Tensor, noise: Tensor | None, width: int, first: int) -> None:
        if self._has_kernels:
            self._rows.blocks(w, out, noise, width, first)
            return
        drawn = None if noise is None else noise.view(-1, width)
        groups = w.view(len(w), -1, width)
        groups.copy_(qtorch.block(groups, self._formats[first : first + len(w)], drawn))

    @cached_property
    def _rows(self) -> qtorch.Rows:
        return qtorch.Rows(self._formats)


class AsNvidia(UnderScale):
    """nvfp4 as in NVIDIA's reference, which multiplies by the reciprocal of a scale."""

    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        groups = rows.view(len(rows), -1, layout.width)
        drawn = None if noise is None else noise.view(-1, layout.width)
        scale, encode = scales.by_nvidia(groups)
        numbers = [column[first : first + len(rows), :, None] for column in self._elements.numbers]
        m, e, top, over, least = numbers
        s, by = scale[..., None], encode[..., None]
        groups.copy_(formulas.to_floating(groups, drawn, self._mode, s, m, e, top, over, least, encode=by))


class ToEnds(InGroups):
    """To levels from the smallest to the largest value of a group."""

    def _rounded(
        self, groups: Tensor, like: Tensor, noise: Tensor | None, mode: Mode, layout: Layout, first: int
    ) -> Tensor:
        own = self._own(groups, first)
        low, high = (end[..., None] for end in scales.span(like, own))
        count = scales.column([f.elements.highest for f in own], self._device)[..., None]
        return formulas.to_span(groups, noise, mode, low, high, count)

    def _group_ends(self, groups: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        return scales.span(groups, self._own(groups, first))


class ToSigns(InGroups):
    """To -s and s."""

    def _means(self, like: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        """The scale and the threshold of each group."""
        return scales.means(like, self._own(like, first), layout.counts.to(self._device))

    def _rounded(
        self, groups: Tensor, like: Tensor, noise: Tensor | None, mode: Mode, layout: Layout, first: int
    ) -> Tensor:
        scale, _ = self._means(like, layout, first)
        return formulas.to_sign(groups, noise, mode, scale[..., None])

    def _group_ends(self, groups: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        scale, _ = self._means(groups, layout, first)
        return -scale, scale


class ToThree(ToSigns):
    """To -s, 0 and s: to nearest by a threshold."""

    def _rounded(
        self, groups: Tensor, like: Tensor, noise: Tensor | None, mode: Mode, layout: Layout, first: int
    ) -> Tensor:
        scale, threshold = self._means(like, layout, first)
        if mode == formulas.NEAREST:
            return formulas.to_three(groups, scale[..., None], threshold[..., None])
        result, safe = groups.clone(), torch.where(scale == 0, 1.0, scale)
        drawn = None if noise is None else noise.reshape(-1)
        self._elements.round(result.view(len(groups), -1), drawn, safe, first, exact=False)
        return torch.where((scale == 0)[..., None], 0.0, result)


class AsQkeras(OfGroups):
    """QKeras's formats, channel by channel and trial by trial."""

    def layout(self, shape: Sequence[int], contraction: int) -> Layout:
        axis = getattr(self._shared, "axis", "auto")
        return channels_of(name_of(self._shared), shape, 0 if isinstance(axis, str) else int(axis))

    def _round(self, rows: Tensor, noise: Tensor | None, layout: Layout, first: int) -> None:
        for row, fmt in zip(rows, self._formats[first:], strict=False):
            channels = row.view(-1, layout.width)
            draws = [] if noise is None else [draw.view_as(channels) for draw in noise]
            channels.copy_(qkeras.quantized(channels, fmt, draws))

    def _same(self, old: Tensor, new: Tensor, layout: Layout, first: int) -> Tensor:
        own = zip(old, new, self._formats[first:], strict=False)
        return torch.stack([qkeras.codes(o, n, fmt) == qkeras.codes(n, n, fmt) for o, n, fmt in own])

    def inside(self, values: Tensor, first: int, contraction: int) -> Tensor:
        return torch.ones_like(values, dtype=torch.bool)

    def _group_ends(self, groups: Tensor, layout: Layout, first: int) -> tuple[Tensor, Tensor]:
        raise TypeError(f"{name_of(self._shared)} has no clipping range: it defines its own gradients")


def _put(mask: Tensor, layout: Layout, like: Tensor) -> Tensor:
    """A mask of groups (R, G, width) as a mask of tensors (R, *shape)."""
    result = torch.empty(len(like), *layout.shape, device=like.device)
    layout.put(mask.float().view(len(like), -1), result)
    return result.view(like.shape) > 0
