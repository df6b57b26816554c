"""The interface of all ways of rounding a stack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from qsweep.formats import Format
from qsweep.rounding.elements import Elements
from qsweep.rounding.modes import Mode


class Way(ABC):
    """How the formats of a stack round.

    Attributes:
        keeps_parts: whether rounding a subset of rounded values again, with zeros or without, leaves them unchanged.
    """

    keeps_parts = False

    def __init__(self, formats: Sequence[Format], mode: Mode, device: torch.device, has_kernels: bool) -> None:
        self._formats: Sequence[Any] = formats
        self._shared: Any = formats[0]
        self._mode, self._device, self._has_kernels = mode, device, has_kernels

    def round_rows(self, w: Tensor, out: Tensor, noise: Tensor | None, first: int) -> None:
        """Round rows (R, n) into `out`, which may be `w`; noise (n,)."""
        if out is not w:
            out.copy_(w)
        self._round_rows(out, noise, first)

    @abstractmethod
    def _round_rows(self, w: Tensor, noise: Tensor | None, first: int) -> None:
        """The same in place."""

    @abstractmethod
    def round_whole(self, values: Tensor, noise: Tensor | None, first: int, contraction: int) -> None:
        """Round whole tensors (R, *shape) in place."""

    @abstractmethod
    def inside(self, values: Tensor, first: int, contraction: int) -> Tensor:
        """Where values (R, *shape) are between the smallest and the largest value of their format, inclusive."""

    def same_codes(self, before: Tensor, after: Tensor, first: int, contraction: int) -> Tensor:
        """Where stored values (R, *shape) have the same code before and after a step."""
        return before == after

    @cached_property
    def _elements(self) -> Elements:
        return Elements(self._formats, self._mode, self._device, self._has_kernels)
