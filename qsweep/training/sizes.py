"""The size of a model, and the effect of compression: each tensor's values before and after, size and error."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qsweep.formats import Format, name_of
from qsweep.formats.facts import stored_bits
from qsweep.formats.packing import FLOAT_BITS, Groups, packed, to_file
from qsweep.training.codebooks import groups_in
from qsweep.training.roles import contraction_axis
from qsweep.trial.measures import MODEL_BITS, STORED_AS

Values = NDArray[np.float32]


def kept_sizes(stored: Mapping[str, Format], shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The sizes in a record of a model that training keeps rounded; empty for others.

    Args:
        stored: the format of each parameter that stays rounded, by name.
        shapes: of all parameters.

    Returns:
        `stored`: the names of these formats; `model_bits`: of all parameters, codes and scales included, 32 bits per
        value for those that are not rounded. There is no `model_bits` if a format has no codes of a fixed length.
    """
    if not stored:
        return {}
    names = {STORED_AS: {name: name_of(fmt) for name, fmt in stored.items()}}
    bits = [bits_of(stored.get(name), tuple(shape)) for name, shape in shapes.items()]
    known = [own for own in bits if own is not None]
    return names | ({MODEL_BITS: sum(known)} if len(known) == len(bits) else {})


def bits_of(fmt: Format | None, shape: tuple[int, ...]) -> int | None:
    """The bits of a parameter as `packed` stores it; None if its format has no codes of a fixed length."""
    whole = FLOAT_BITS * math.prod(shape)
    if fmt is None:
        return whole
    own = stored_bits(fmt, shape, contraction_axis(shape))
    if own is None or fmt.is_coded:
        return own
    return min(own, whole)  # two ends for each value of a bias would take more than the bias


def sizes(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    formats: Mapping[str, tuple[str, Format]],
    parameters: Collection[str],
    is_compression: bool,
) -> dict[str, Any]:
    """The sizes of a compressed model, for tables and reports.

    Args:
        before: all that is kept of the model, by name.
        after: the same after the stage.
        formats: of each tensor that is compressed, its part and the format.
        parameters: names of all that is trained; buffers are not.
        is_compression: whether the difference is the rounding's, not that of training.

    Returns:
        `model_bits`: of all parameters, codes, scales and levels included; `compressed_bytes`: of the file that
        `export` writes; `tensors`: a row for each tensor that is compressed.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in after.items()}
    groups = {name: groups_in(fmt, arrays[name].shape) for name, (_, fmt) in formats.items()}
    rows = [
        _row(name, part, fmt, before[name].detach().cpu().numpy(), arrays[name], groups[name])
        for name, (part, fmt) in formats.items()
    ]
    others = sum(arrays[name].size for name in parameters if name not in formats)
    return {
        MODEL_BITS: sum(row["bits"] for row in rows) + FLOAT_BITS * others,
        "compressed_bytes": len(to_file(arrays, groups)),
        "tensors": [row if is_compression else {**row, "sqnr": None} for row in rows],
    }


def _row(name: str, part: str, fmt: Format, before: Values, after: Values, groups: Groups) -> dict[str, Any]:
    kept = packed(after, groups)
    return {
        "tensor": name,
        "part": part,
        "format": fmt.family,
        "shape": list(after.shape),
        "values": after.size,
        "distinct_before": len(np.unique(before)),
        "distinct": len(np.unique(after)),
        "bits_a_value": kept.bits_per_value,
        "bits": kept.total_bits,
        "entropy_bits": math.ceil(kept.entropy_bits),
        "sqnr": sqnr(before.astype(np.float64), after.astype(np.float64)),
    }


def sqnr(signal: NDArray[np.float64], found: NDArray[np.float64]) -> float | None:
    """Signal to quantization noise, in dB: 10 · log10(Σ x² / Σ (x - q)²); None without a signal or without noise."""
    power, noise = float((signal**2).sum()), float(((signal - found) ** 2).sum())
    return 10 * math.log10(power / noise) if 0 < power < math.inf and 0 < noise < math.inf else None
