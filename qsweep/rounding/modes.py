"""Rounding modes by name, and rounding tensors to integers, on which all other rounding builds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from qsweep.formats.declared import random_bits
from qsweep.kernels import modes as kernels
from qsweep.kernels.compiled import Floats

NUMBERS = {"nearest": 0, "stochastic": 1, "zero": 2, "up": 3, "down": 4, "away": 5}
LIMITED = 6
NO_NOISE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Mode:
    """A rounding mode as numbers.

    Attributes:
        number: which one; LIMITED for stochasticN.
        shares: 2^N of stochasticN, else 1.
    """

    name: str

    @property
    def number(self) -> int:
        return NUMBERS.get(self.name, LIMITED)

    @property
    def shares(self) -> float:
        return 2.0 ** (random_bits(self.name) or 0)

    @property
    def numbers(self) -> kernels.ModeNumbers:
        """The same for the formulas that kernels and tensor operations share."""
        return _numbers_of(self)

    @property
    def draws(self) -> bool:
        """Whether it needs random bits."""
        return self.number in (NUMBERS["stochastic"], LIMITED)


@cache
def _numbers_of(mode: Mode) -> kernels.ModeNumbers:
    return kernels.ModeNumbers(mode.number, mode.shares)


_rounded = kernels.rounding(
    torch.round, torch.floor, torch.ceil, torch.trunc,
    as_float=lambda condition: condition, signed=torch.copysign, drawn=lambda noise, _: noise,
)  # fmt: skip


def rounded(t: Tensor, noise: Tensor | None, mode: Mode) -> Tensor:
    """t rounded to integers, in its dtype, float32 or float64; noise in [0, 1) broadcasts against t."""
    integers: Tensor = _rounded(t, noise, None, mode.numbers)
    return integers


def noise_array(noise: Tensor | None) -> Floats:
    """Noise as the kernels take it: empty if there is none."""
    return NO_NOISE if noise is None else noise.numpy()
