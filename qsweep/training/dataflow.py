"""Finding values that are not rounded before they enter a product or leave the net, while the net runs once.

Values are followed from call to call. A rounding place makes them rounded, and operations that only move them keep them
so: views, copies, selection, concatenation. Any other operation makes new values, named after it until a place rounds
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from qsweep.training.functions import first, name_of

_MOVING = """
    reshape flatten contiguous clone to type type_as float cpu cuda cat concat concatenate stack hstack vstack dstack
    column_stack row_stack repeat repeat_interleave tile getitem setitem copy index_select gather take take_along_dim
    masked_select roll flip fliplr flipud rot90 pad unfold pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle dropout dropout1d dropout2d dropout3d feature_dropout sort topk"""
MOVING = frozenset(_MOVING.split())
"""Functions whose outputs are their inputs' values in new tensors. Views need no name: they share memory."""

_FRESH = """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full
    new_tensor"""
FRESH = frozenset(_FRESH.split())
"""Functions that only read the shape of a tensor."""


@dataclass
class Value:
    """The content of a piece of memory between two writes.

    Attributes:
        made_by: the operation that made it, if it has not been rounded since; "" for rounded values, and those that
            count as rounded: the net's input, and values that are listed by their own name.
        is_taken: whether anything but an activation function computes with it.
    """

    made_by: str = ""
    is_taken: bool = False


class DataFlow:
    """The values of one pass of a net, except those that only depend on parameters and constants.

    Attributes:
        unrounded: where values go that are not rounded: `input of conv2 from add()`.
        computed_weights: the same for values that are computed from parameters: a weight times a number.
    """

    def __init__(self) -> None:
        self.unrounded: dict[str, None] = {}
        self.computed_weights: dict[str, None] = {}
        self._computed: dict[int, str] = {}
        """The operation that computed a value from parameters and constants alone, by memory."""
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # so that their memory is not reused

    def of(self, tensor: Tensor) -> Value | None:
        """The value in a tensor; None for a parameter or a constant."""
        return self._values.get(_memory(tensor))

    def set(self, given: Any, made_by: str = "") -> None:
        """Follow all tensors in a call's result or the net's input."""
        value = Value(made_by)
        for tensor in tensors(given):
            self._values[_memory(tensor)] = value
            self._kept.append(tensor)

    def take(self, given: Any, by: str = "") -> None:
        """Note that something computes with tensors; `by`: a product or the net's output, which should be rounded."""
        for tensor in tensors(given):
            value = self.of(tensor)
            if value is None:
                if by and (operation := self._computed.get(_memory(tensor))):
                    self.computed_weights[f"{by} from {operation}, computed from parameters"] = None
                continue
            value.is_taken = True
            if by and value.made_by and tensor.is_floating_point():
                self.unrounded[f"{by} from {value.made_by}"] = None

    def settle(self, name: str, result: Any) -> None:
        """Follow a place's outputs: the first is rounded, others are not."""
        output = first(result)
        if isinstance(result, tuple):
            self.set(result[1:], f"{name} (another output than the first)")
        self.set(output)

    def call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        """Call a function that is not a place, and follow its result."""
        taken = list(tensors((args, given)))
        versions = [_version(tensor) for tensor in taken]
        made_by = self._maker(name, function, args, taken)
        result = function(*args, **given)
        written = [t for t, version in zip(taken, versions, strict=True) if _version(t) != version]
        memories = {_memory(tensor) for tensor in taken}
        fresh = [tensor for tensor in tensors(result) if _memory(tensor) not in memories]
        if not (fresh or written) or name_of(function) in FRESH:
            return result  # a view, or no values
        if any(tensor.is_floating_point() for tensor in (*fresh, *written)):
            self.take(taken)
        if made_by is not None:
            self.set([*fresh, *written], made_by)
        else:
            self._follow_parameters(name, function, taken, fresh)
        return result

    def _follow_parameters(
        self, name: str, function: Callable[..., Any], taken: list[Tensor], fresh: list[Tensor]
    ) -> None:
        """Note values that an operation computed from parameters: they differ from the stored, rounded ones."""
        before = [self._computed.get(_memory(tensor)) for tensor in taken]
        is_computed = any(before) or any(isinstance(tensor, Parameter) for tensor in taken)
        operation = next(filter(None, before), None) if name_of(function) in MOVING else name
        if is_computed and operation:
            self._computed |= {_memory(tensor): operation for tensor in fresh if tensor.is_floating_point()}
            self._kept += fresh

    def _maker(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], taken: list[Tensor]) -> str | None:
        """The operation that made a function's result; None if it only depends on parameters and constants."""
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
    """All tensors in arguments or results, including nested lists and mappings."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for own in given:
            yield from tensors(own)
    elif isinstance(given, dict):
        yield from tensors(list(given.values()))


def _memory(tensor: Tensor) -> int:
    """The identity of a tensor's memory, which it shares with its views."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors and those inside `vmap` have no storage
        return id(tensor)


def _version(tensor: Tensor) -> int:
    """How many times a tensor's memory was written to."""
    return 0 if tensor.is_inference() else tensor._version
