"""Rounding to an integer, by mode: the law under all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qsweep.formats.declared import random_bits
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
    def draws(self) -> bool:
        """Whether it needs random bits."""
        return self.number in (NUMBERS["stochastic"], LIMITED)


def rounded(t: Tensor, noise: Tensor | None, mode: Mode) -> Tensor:
    """The integers that t goes to (float32 or float64, as t is); noise in [0, 1) broadcasts against t."""
    match mode.name:
        case "nearest":
            return t.round()
        case "zero":
            return t.trunc()
        case "up":
            return t.ceil()
        case "down":
            return t.floor()
        case "away":
            whole = t.abs().floor()
            return torch.copysign(whole + (t.abs() - whole >= 0.5), t)
    assert noise is not None  # noqa: S101  # quantize has asked for it
    if mode.name == "stochastic":
        lower = t.floor()
        return lower + (noise < t - lower)
    whole = t.abs().floor()
    grows = (noise.to(t.dtype) * mode.shares).floor() < ((t.abs() - whole) * mode.shares).floor()
    return torch.copysign(whole + grows, t)


def noise_array(noise: Tensor | None) -> Floats:
    """Noise as the kernels take it: empty where a mode draws none."""
    return NO_NOISE if noise is None else noise.numpy()
