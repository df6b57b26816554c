"""Packing compressed weights into a safetensors file, as codes and their levels, and reading them back.

A tensor in a format whose elements have codes is packed as these codes and the scales of its groups, in
`stored_bits` of the format. Any other tensor, or one whose values are no longer those of its format, is packed in the
smallest lossless way: codes between the two ends of each group (level k of n is (lo · (n - k) + hi · k) / n, as in the
format `uniform`), codes into a codebook per group or per tensor, or float32.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qsweep.errors import UserError
from qsweep.files import as_path
from qsweep.formats import Format, name_of, parse
from qsweep.formats.encoding import Encoded, are_codes, decoded, encoded, scales_fit

Array = NDArray[Any]
FORMAT, VERSION = "qsweep", 2
ENDING = ".safetensors"
ENDS, CODEBOOK, WHOLE, CODED = "ends", "codebook", "whole", "coded"
FLOAT_BITS = 32


@dataclass(frozen=True)
class Groups:
    """Which values of a tensor share a scale or levels: `tensor`, `channel`, or runs of this length.

    Attributes:
        axis: of the channels, or along which groups run; counted from 0.
        format: that the values were rounded to, if known.
    """

    per: int | str = "tensor"
    axis: int = 0
    format: Format | None = None

    def numbers(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """The index of each value's group in a tensor of this shape."""
        if self.per == "tensor":
            return np.zeros(tuple(shape), dtype=np.int64)
        along = np.arange(shape[self.axis]).reshape([-1 if d == self.axis else 1 for d in range(len(shape))])
        if self.per == "channel":
            return np.broadcast_to(along, tuple(shape)).copy()
        assert isinstance(self.per, int)  # noqa: S101
        others = [1 if d == self.axis else n for d, n in enumerate(shape)]
        lines = np.arange(math.prod(others)).reshape(others)
        return lines * -(-shape[self.axis] // self.per) + along // self.per


@dataclass(frozen=True)
class Packed:
    """A tensor as stored.

    Attributes:
        codes: of each value, row-major; none if kept as float32.
        bits: of a code.
        levels: the two ends or all levels of each group, (G, n); in the codes of its format, its scales; kept as
            float32, its values.
    """

    kind: str
    codes: NDArray[np.int64]
    bits: int
    levels: Array

    @property
    def total_bits(self) -> int:
        """The bits of codes and levels."""
        return self.codes.size * self.bits + self.levels.nbytes * 8

    @property
    def bits_per_value(self) -> float:
        """As in `tensors.csv`: the bits of a code; in the codes of a format, including a value's part of the scales.

        All bits per value, for any kind, are `total_bits` divided by the number of values.
        """
        if self.kind == CODED:
            return self.total_bits / self.codes.size
        return self.bits if self.codes.size else FLOAT_BITS

    @property
    def entropy_bits(self) -> float:
        """`total_bits` if an ideal entropy coder had compressed the codes (Shannon 1948)."""
        counts = np.unique(self.codes, return_counts=True)[1]
        return float(-(counts * np.log2(counts / counts.sum())).sum()) + self.levels.nbytes * 8


# --- packing ----------------------------------------------------------------------------------------------------------


def packed(values: NDArray[np.float32], groups: Groups) -> Packed:
    """Pack a tensor in the codes of its format, or else in the smallest lossless way."""
    if groups.format is not None and groups.format.is_coded and values.size:
        flat, numbers = np.ascontiguousarray(values).reshape(-1), groups.numbers(values.shape).reshape(-1)
        if own := encoded(groups.format, flat, numbers):
            return Packed(CODED, own.codes, _code_bits(groups.format), own.scales)
    return min(_ways(values, groups), key=lambda way: way.total_bits)


def _code_bits(fmt: Format) -> int:
    return fmt.code.bits if fmt.code else 0


def _ways(values: NDArray[np.float32], groups: Groups) -> Iterator[Packed]:
    yield Packed(WHOLE, np.zeros(0, dtype=np.int64), 0, values)
    if not values.size:
        return
    flat, numbers = np.ascontiguousarray(values).reshape(-1), groups.numbers(values.shape).reshape(-1)
    one = _with_codebook(flat, np.zeros_like(numbers))
    yield one
    if numbers.any():
        yield _with_codebook(flat, numbers)
    if np.isfinite(flat).all():
        yield from _between_ends(flat, numbers)


def _with_codebook(flat: NDArray[np.float32], numbers: NDArray[np.int64]) -> Packed:
    """Levels are distinguished by their bits, so that -0 and NaN are restored too."""
    pairs, inverse = np.unique((numbers << FLOAT_BITS) + flat.view(np.uint32).astype(np.int64), return_inverse=True)
    owners = pairs >> FLOAT_BITS
    first = np.searchsorted(owners, np.arange(owners[-1] + 1))
    codes = inverse.reshape(-1) - first[numbers]
    most = int(codes.max()) + 1
    levels = np.zeros((owners[-1] + 1, most), dtype=np.float32)
    levels[owners, np.arange(len(owners)) - first[owners]] = pairs.astype(np.uint32).view(np.float32)
    return Packed(CODEBOOK, codes, max((most - 1).bit_length(), int(flat.size > MOST_WITHOUT_CODES)), levels)


MOST_WITHOUT_CODES = 1 << 24
"""Most values of a tensor whose groups have one level each: its shape, not its codes, then determines how much memory a
reader needs, and a damaged shape must not ask for more than this."""


MOST_BITS = 16
"""Most bits of codes between two ends."""


def _between_ends(flat: NDArray[np.float32], numbers: NDArray[np.int64]) -> Iterator[Packed]:
    """With the fewest bits that restore all values, if any do."""
    count = int(numbers.max()) + 1
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, numbers, flat)
    np.maximum.at(high, numbers, flat)
    ends = np.stack([low, high], axis=1).astype(np.float32)
    span = np.where(high > low, high - low, 1.0)[numbers]
    share = (flat.astype(np.float64) - low[numbers]) / span
    for bits in range(1, MOST_BITS + 1):
        codes = np.rint(share * ((1 << bits) - 1)).astype(np.int64)
        if _levels_between(ends, codes, numbers, bits).tobytes() == flat.tobytes():
            yield Packed(ENDS, codes, bits, ends)
            return


def _levels_between(
    ends: NDArray[np.float32], codes: NDArray[np.int64], numbers: NDArray[np.int64], bits: int
) -> NDArray[np.float32]:
    n, (low, high) = (1 << bits) - 1, ends.astype(np.float64)[numbers].T
    levels: NDArray[np.float32] = ((low * (n - codes) + high * codes) / n).astype(np.float32)
    return levels


# --- files ------------------------------------------------------------------------------------------------------------


def to_file(tensors: Mapping[str, Array], groups: Mapping[str, Groups]) -> bytes:
    """The content of a file: weights that have groups are packed, all others stored as they are."""
    kept: dict[str, Array] = {}
    about: dict[str, Any] = {}
    for name, values in tensors.items():
        own = packed(values, groups[name]) if name in groups else None
        if own is None or own.kind == WHOLE:
            kept[name] = np.asarray(values, order="C")
            continue
        kept[f"{name}.codes"], kept[f"{name}.levels"] = _to_bytes(own.codes, own.bits), own.levels
        per_group = groups[name] if own.kind == CODED or len(own.levels) > 1 else Groups()
        about[name] = {
            "kind": own.kind, "bits": own.bits, "shape": values.shape, "per": per_group.per, "axis": per_group.axis,
        }  # fmt: skip
        if own.kind == CODED and per_group.format is not None:
            about[name]["format"] = name_of(per_group.format)
    return _in_order(
        save(kept, {"format": FORMAT, "version": str(VERSION), "packed": json.dumps(about, sort_keys=True)})
    )


def _in_order(content: bytes) -> bytes:
    """The same file with the names in its header sorted: safetensors writes metadata in varying order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return content[:8] + header.encode().ljust(end - 8) + content[end:]


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The weights that `qsweep export` wrote into a .safetensors file.

    Args:
        path: the file.

    Returns:
        NumPy arrays by parameter name (`linear1.weight`), in the shapes and bits of training; packed weights are
        unpacked. `torch.from_numpy` of each makes a state_dict.

    Raises:
        Error: the file is not there, can't be read, was not written by `qsweep export` or is damaged.
    """
    file = as_path("path", path)
    try:
        return from_file(file.read_bytes())
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError) and file.suffix == ENDING
        hint = f"`qsweep export KEY {path}` writes it" if is_missing else f"expected a {ENDING} file of `qsweep export`"
        raise UserError(f"{path}: {error.strerror}; {hint}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def from_file(content: bytes) -> dict[str, Array]:
    """The weights in a file by name, packed ones included, bit for bit.

    Raises:
        ValueError: the file was not written by `to_file`, or it was damaged.
    """
    about = _described(content)
    try:
        tensors = load(content)
    except (SafetensorError, TypeError, KeyError, AttributeError) as error:  # raised for types that NumPy does not have
        raise _malformed(str(error)) from None
    return tensors | {name: _unpacked(name, own, tensors) for name, own in about.items()}


def _malformed(found: str) -> ValueError:
    return ValueError(f"not weights that `qsweep export` wrote: {found}")


def _described(content: bytes) -> dict[str, Any]:
    """The description of packed tensors in a file's header."""
    length = int.from_bytes(content[:8], "little")
    header = _json(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise _malformed("found no header, expected a safetensors file")
    own = header.get("__metadata__")
    if not isinstance(own, dict) or own.get("format") != FORMAT:
        raise _malformed("found a safetensors file of another program; `safetensors.numpy.load_file` reads it")
    version, about = own.get("version"), _json(own.get("packed"))
    if version not in [str(known) for known in range(1, VERSION + 1)]:
        raise _malformed(f"found version {version!r:.80}, expected 1 to {VERSION}")
    if not isinstance(about, dict):
        raise _malformed(f"found {about!r:.80}, expected a mapping of packed tensors")
    return about


def _json(text: object) -> Any:
    """The value of a JSON text; None if it is not JSON."""
    try:
        return json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def _unpacked(name: str, own: Any, tensors: dict[str, Array]) -> Array:
    """Unpack one tensor; its codes and levels are removed from `tensors`.

    Everything is checked against the bytes in the file before anything of the stated size is allocated.
    """
    codes, levels = tensors.pop(f"{name}.codes", None), tensors.pop(f"{name}.levels", None)
    kind, bits, shape, groups = _header(name, own)
    count = math.prod(shape)
    if codes is None or codes.dtype != np.uint8 or codes.ndim != 1 or codes.size != -(-count * bits // 8):
        raise _malformed(f"{name}: its codes are not {count} of {bits} bits")
    if kind == CODED:
        return _decoded(name, groups, shape, _from_bytes(codes, bits, count), levels)
    if levels is None or levels.dtype != np.float32 or levels.ndim != 2 or not levels.size:
        raise _malformed(f"{name}: its levels are not a matrix of float32")
    if bits == 0 and count > MOST_WITHOUT_CODES:
        raise _malformed(f"{name}: {count} values without codes")
    numbers = groups.numbers(shape).reshape(-1)
    if int(numbers.max()) + 1 != len(levels) or (kind == ENDS and levels.shape[1] != 2):
        raise _malformed(f"{name}: levels of shape {levels.shape} for {int(numbers.max()) + 1} groups")
    whole = _from_bytes(codes, bits, count)
    if kind == ENDS:
        return _levels_between(levels, whole, numbers, bits).reshape(shape)
    if int(whole.max()) >= levels.shape[1]:
        raise _malformed(f"{name}: code {int(whole.max())} of {levels.shape[1]} levels")
    found: Array = levels[numbers, whole].reshape(shape)
    return found


def _decoded(
    name: str, groups: Groups, shape: tuple[int, ...], codes: NDArray[np.int64], scales: Array | None
) -> Array:
    """One tensor from the codes and scales of its format."""
    assert groups.format is not None  # noqa: S101
    numbers = groups.numbers(shape).reshape(-1)
    if scales is None or not scales_fit(groups.format, scales, int(numbers.max()) + 1):
        raise _malformed(f"{name}: its scales are not those of {int(numbers.max()) + 1} groups")
    if not are_codes(groups.format, codes):
        raise _malformed(f"{name}: a code that {name_of(groups.format)} does not have")
    return decoded(groups.format, Encoded(codes, scales), numbers).reshape(shape)


def _header(name: str, own: Any) -> tuple[str, int, tuple[int, ...], Groups]:
    """The header's description of one packed tensor, with types and ranges checked."""
    if not isinstance(own, dict) or own.keys() - {"format"} != {"kind", "bits", "shape", "per", "axis"}:
        raise _malformed(f"{name}: {own!r:.80}")
    kind, bits, shape, per, axis = (own[entry] for entry in ("kind", "bits", "shape", "per", "axis"))
    fmt = _format(name, own, kind, bits)
    least = {ENDS: 1, CODEBOOK: 0, CODED: 1}.get(kind) if isinstance(kind, str) else None
    if least is None or not _is_integer(bits, least, FLOAT_BITS):
        raise _malformed(f"{name}: kind {kind!r:.80} of {bits!r:.80} bits")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(_is_integer(n, 1) for n in shape):
        raise _malformed(f"{name}: shape {shape!r:.80}")
    if per not in ("tensor", "channel") and not _is_integer(per, 1):
        raise _malformed(f"{name}: per {per!r:.80}")
    if not _is_integer(axis, 0) or (per != "tensor" and axis >= len(shape)):
        raise _malformed(f"{name}: axis {axis!r:.80} of shape {shape!r:.80}")
    return kind, bits, tuple(shape), Groups(per, axis, fmt)


def _format(name: str, own: dict[str, Any], kind: Any, bits: Any) -> Format | None:
    """The format whose codes a tensor has; None if it is packed otherwise."""
    text = own.get("format")
    if kind != CODED and text is None:
        return None
    try:
        fmt = parse(text) if kind == CODED and isinstance(text, str) else None
    except UserError:
        fmt = None
    if fmt is None or not fmt.is_coded or bits != _code_bits(fmt):
        raise _malformed(f"{name}: kind {kind!r:.80} in format {text!r:.80} of {bits!r:.80} bits")
    return fmt


MOST_DIMENSIONS = 64
"""The most dimensions of a NumPy array."""


def _is_integer(value: Any, least: int, most: int = 2**62) -> bool:
    return type(value) is int and least <= value <= most


def _to_bytes(codes: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Codes of `bits` bits each, back to back, most significant bit first."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((codes[:, None] >> shifts) & 1).astype(np.uint8))


def _from_bytes(content: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int64]:
    digits = np.unpackbits(content, count=count * bits).reshape(count, bits).astype(np.int64)
    return digits @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))
