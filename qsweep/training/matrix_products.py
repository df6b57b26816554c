"""Batched matrix products whose bits do not depend on the stack, of vectors too.

MKL treats a matrix with a single row or column as a vector, and its algorithm then depends on the number of products
and on the memory alignment of operands: for one column by default, for one row in its strict mode. Padded with a row or
column of zeros, a vector is a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class NoVectors(TorchDispatchMode):
    """Runs each `bmm` inside it, forward and backward, without vectors."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler at the first operation, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bmm.default:
            return product(*args)
        return func(*args, **(kwargs or {}))


def has_vectors(weights: Iterable[Tensor], batch: int) -> bool:
    """Whether a pass of a stack multiplies vectors.

    Args:
        weights: parameters of all trials, each (P, *shape).
        batch: examples in the pass.
    """
    return batch == 1 or any(weight.dim() > 2 and 1 in weight.shape[1:] for weight in weights)


def product(a: Tensor, b: Tensor) -> Tensor:
    """(P, M, K) @ (P, K, N) → (P, M, N)."""
    rows, columns = a.shape[1], b.shape[2]
    if rows == 1:
        a = F.pad(a, (0, 0, 0, 1))  # (P, 2, K)
    if columns == 1:
        b = F.pad(b, (0, 1))  # (P, K, 2)
    return torch.bmm(a, b)[:, :rows, :columns]
