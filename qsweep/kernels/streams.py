"""Random bits as a pure function of (seed, stage, purpose, place, step).

No draw depends on other draws, so trials with the same seed share init, batches, masks and noise whatever else differs
between them, one draw serves a whole stack, and differences between settings are paired. The bits come from
Philox4x64-10 (Salmon et al. 2011), keyed by SHA-256, on the host: they are the same on every device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qsweep.kernels.random_bits import uniforms


@dataclass(frozen=True)
class Stream:
    """All random bits of one seed and stage."""

    seed: int
    stage: int = 0

    def _key(self, purpose: str, place: str, step: int) -> NDArray[np.uint64]:
        name = f"{self.seed}/{self.stage}/{purpose}/{place}/{step}".encode()
        return np.frombuffer(hashlib.sha256(name).digest()[:16], dtype=np.uint64)

    def _philox(self, purpose: str, place: str, step: int) -> np.random.Philox:
        return np.random.Philox(key=self._key(purpose, place, step))

    def uniform(self, shape: tuple[int, ...], purpose: str, place: str, step: int) -> Tensor:
        """Multiples of 2^-24 in [0, 1), float32: the finest even spacing in float32."""
        numbers = torch.empty(shape, dtype=torch.float32)
        uniforms(numbers.view(-1).numpy(), self._key(purpose, place, step))
        return numbers

    def normal(self, shape: tuple[int, ...], purpose: str, place: str) -> NDArray[np.float64]:
        """Standard normal numbers, float64."""
        return np.random.Generator(self._philox(purpose, place, 0)).standard_normal(shape)

    def permutation(self, count: int, purpose: str, step: int) -> Tensor:
        """The numbers 0 … count-1 in random order, int64."""
        keys = self._philox(purpose, "", step).random_raw(count)
        return torch.from_numpy(np.argsort(keys, kind="stable"))
