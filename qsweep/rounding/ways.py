"""The ways of rounding a stack: one is chosen when the stack is made, by the rule that its family declares.

A way rounds value by value (`by_value`) or tensors whose values share scales (`by_group`), by kernels where they can
run, otherwise by equivalent tensor operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from qsweep.formats import Format, Grid, name_of
from qsweep.rounding import scales
from qsweep.rounding.by_group import (
    AsNvidia,
    AsQkeras,
    ToBlocks,
    ToEnds,
    ToQtorchBlocks,
    ToSigns,
    ToThree,
    UnderScale,
)
from qsweep.rounding.by_value import AsQtorch, ToElements, ToRange, ToShorter, Unchanged
from qsweep.rounding.modes import Mode
from qsweep.rounding.way import Way

WAYS: Mapping[str, type[Way]] = {
    **dict.fromkeys(scales.RULES, UnderScale),
    "none": Unchanged,
    "range": ToRange,
    "elements": ToElements,
    "qtorch": AsQtorch,
    "qtorch blocks": ToQtorchBlocks,
    "nvidia": AsNvidia,
    "ends": ToEnds,
    "sign": ToSigns,
    "threshold": ToThree,
    "qkeras": AsQkeras,
}
"""By the rules that families declare."""


def way_of(formats: Sequence[Format], mode: Mode, device: torch.device, has_kernels: bool) -> Way:
    """The way of formats of one family.

    Args:
        has_kernels: whether kernels run, rather than equivalent tensor operations.

    Raises:
        LookupError: the family declares an unknown rule.
    """
    shared = formats[0]
    way = WAYS.get(shared.rule)
    if way is None:
        raise LookupError(f"{name_of(shared)}: no rounding rule '{shared.rule}' (one of: {', '.join(WAYS)})")
    if has_kernels and way is UnderScale and shared.rule in scales.BY_EXPONENT and isinstance(shared.elements, Grid):
        way = ToBlocks
    elif has_kernels and way is ToElements and ToShorter.fits(formats, mode):
        way = ToShorter
    return way(formats, mode, device, has_kernels)
