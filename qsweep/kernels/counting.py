"""Counts that explain why a trial learns or does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsweep.kernels.compiled import ZERO, Floats, compiled

HASH = np.int64(2654435761)
"""2^32 ÷ the golden ratio (Knuth, The Art of Computer Programming 3, 6.4)."""


@compiled
def outside(w: Floats, low: float, high: float) -> int:
    """How many of the values (n,) are below `low` or above `high`."""
    count = 0
    for i in range(len(w)):
        count += (w[i] < low) | (w[i] > high)
    return count


@compiled
def moves(before: Floats, after: Floats, updates: Floats) -> tuple[int, int]:
    """How many updates are non-zero, and how many of them did not change the value."""
    moving, stalled = 0, 0
    for i in range(len(before)):
        moves = updates[i] != ZERO
        moving += moves
        stalled += moves & (before[i] == after[i])
    return moving, stalled


@compiled
def distinct(values: Floats, slots: Any, found: int) -> int:
    """Add values to a set by open addressing; returns its size, at most one more than half of its slots.

    Args:
        values: (n,).
        slots: the set, int64, of 2^17 slots with -1 for an empty one; NaN counts by its bits, -0 as 0.
        found: its size before.
    """
    patterns = values.view(np.uint32)
    mask = len(slots) - 1
    for i in range(len(values)):
        pattern = np.int64(patterns[i]) if values[i] != ZERO else np.int64(0)
        slot = (pattern * HASH >> 15) & mask
        while slots[slot] != pattern and slots[slot] != -1:
            slot = (slot + 1) & mask
        if slots[slot] == -1:
            slots[slot] = pattern
            found += 1
            if found > len(slots) // 2:
                break
    return found
