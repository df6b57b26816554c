"""Values that nothing has rounded on their way into a product or out of the net, found while the net runs once.

Values are followed from call to call. A rounding place settles them, and so does all that only moves them: views,
copies, choices, concatenation. Any other operation makes new values, named after it until a place rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qsweep.training.functions import first, name_of

_MOVING = """
    reshape flatten contiguous clone to type type_as float cpu cuda cat concat concatenate stack hstack vstack dstack
    column_stack row_stack repeat repeat_interleave tile getitem setitem copy index_select gather take take_along_dim
    masked_select roll flip fliplr flipud rot90 pad unfold pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle dropout dropout1d dropout2d dropout3d feature_dropout sort topk"""
MOVING = frozenset(_MOVING.split())
"""Functions whose outputs are values that they were given, in new tensors. Views need no name: they share memory."""

_FRESH = """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full
    new_tensor"""
FRESH = frozenset(_FRESH.split())
"""Functions that look at the shape of a tensor alone."""


@dataclass
class Value:
    """What a piece of memory holds between two writes to it.

    Attributes:
        made_by: the operation that made it, where nothing has rounded it since; "" of what is rounded, and of what
            counts as such: the net's input, and what is listed by its own name.
        is_taken: whether anything but an activation function computes with it.
    """

    made_by: str = ""
    is_taken: bool = False


class DataFlow:
    """The values of one pass of a net. What depends on parameters and constants alone is none of them.

    Attributes:
        unrounded: where values go that nothing has rounded: `input of conv2 from add()`.
    """

    def __init__(self) -> None:
        self.unrounded: dict[str, None] = {}
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # whose memory must not become another's

    def of(self, tensor: Tensor) -> Value | None:
        """What a tensor holds; None of a parameter or a constant."""
        return self._values.get(_memory(tensor))

    def set(self, given: Any, made_by: str = "") -> None:
        """Follow all tensors in what a call gave, or the net was given."""
        value = Value(made_by)
        for tensor in tensors(given):
            self._values[_memory(tensor)] = value
            self._kept.append(tensor)

    def take(self, given: Any, by: str = "") -> None:
        """Note that something computes with tensors; `by`: a product, or the net's end, which takes what is rounded."""
        for tensor in tensors(given):
            value = self.of(tensor)
            if value is None:
                continue
            value.is_taken = True
            if by and value.made_by and tensor.is_floating_point():
                self.unrounded[f"{by} from {value.made_by}"] = None

    def settle(self, name: str, result: Any) -> None:
        """Follow what a place gives: its first output is rounded, others are not."""
        output = first(result)
        if isinstance(result, tuple):
            self.set(result[1:], f"{name} (another output than the first)")
        self.set(output)

    def call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """Call a function that is no place, and follow what it gives."""
        taken = list(tensors((args, given)))
        versions = [_version(tensor) for tensor in taken]
        made_by = self._maker(name, function, args, taken)
        result = function(*args, **given)
        written = [t for t, version in zip(taken, versions, strict=True) if _version(t) != version]
        memories = {_memory(tensor) for tensor in taken}
        fresh = [tensor for tensor in tensors(result) if _memory(tensor) not in memories]
        if not (fresh or written) or name_of(function) in FRESH:
            return result  # a view, or nothing that holds values
        if any(tensor.is_floating_point() for tensor in (*fresh, *written)):
            self.take(taken)
        if made_by is not None:
            self.set([*fresh, *written], made_by)
        return result

    def _maker(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], taken: list[Tensor]) -> str | None:
        """What made the values that a function gives; None where they follow from parameters and constants alone."""
        values = [(tensor, self.of(tensor)) for tensor in taken]
        if all(value is None for _, value in values):
            return None
        of_numbers = [(tensor, value) for tensor, value in values if tensor.is_floating_point()]
        moved = [value for _, value in of_numbers if value is not None]
        brings_parameter = any(value is None and tensor.requires_grad for tensor, value in of_numbers)
        if name_of(function) not in MOVING or not moved or brings_parameter or self._puts_constant(function, args):
            return name
        return next((value.made_by for value in moved if value.made_by), "")

    def _puts_constant(self, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Whether a call is `values[where] = constant`."""
        if name_of(function) != "setitem":
            return False
        return not isinstance(args[2], Tensor) or self.of(args[2]) is None


def tensors(given: Any) -> Iterator[Tensor]:
    """All tensors in arguments or results, also in lists and mappings of them."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for own in given:
            yield from tensors(own)
    elif isinstance(given, dict):
        yield from tensors(list(given.values()))


def _memory(tensor: Tensor) -> int:
    """Which memory a tensor's values lie in: that of its views too."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors and those inside of a `vmap` have none of their own
        return id(tensor)


def _version(tensor: Tensor) -> int:
    """How often a tensor's memory was written to."""
    return 0 if tensor.is_inference() else tensor._version
