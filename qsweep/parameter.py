"""A parameter: its name, type and default, and how its values affect stacking and keys.

Formats, architectures, optimizers and the trial itself declare their parameters with this class, so that values are
checked, defaulted, hashed and documented in the same way everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from math import frexp
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from qsweep.errors import cut, did_you_mean

Name = TypeVar("Name", bound=str | int)


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final = _Marker("REQUIRED")
"""The `default` of a parameter without one."""

ALWAYS: Final = _Marker("ALWAYS")
"""The `as_before` of a parameter that has been part of every key from the start."""

Mistake = tuple[tuple[str | int, ...], str]
"""The path to a mistake inside a value (names and indices; empty for the value itself), and its message."""


class BadValueError(ValueError):
    """A value that its parameter does not accept; each mistake says what was found and what was expected."""

    def __init__(self, *mistakes: Mistake | str) -> None:
        self.mistakes: list[Mistake] = [((), m) if isinstance(m, str) else m for m in mistakes]
        super().__init__("; ".join(message for _, message in self.mistakes))


@dataclass(frozen=True, eq=False)  # by identity: a default may be a list
class Parameter:
    """One named value of a format, architecture, optimizer or trial.

    Attributes:
        type: a pydantic type with its bounds (`Annotated[int, Field(ge=1)]`).
        expected: the type in words, for messages and documentation.
        default: the value if none is given; REQUIRED if there is none, None if it depends on something else.
        stacks: whether trials that differ in it can train in one stack.
        as_before: the value that means "as before this parameter existed". It is left out of keys, so that adding a
            parameter leaves the keys of older trials as they were. It never changes once released.
        label: the name in words, for the axes of figures; empty if `name` is clear enough.
        unit: shown in brackets after the label, if there is one.
    """

    name: str
    type: Any
    expected: str
    default: Any = REQUIRED
    stacks: bool = False
    as_before: Any = ALWAYS
    label: str = ""
    unit: str = ""

    def check(self, value: object) -> Any:
        """`value` in its canonical spelling (1 becomes 1.0 for a float, 32.0 becomes 32 for an integer).

        Raises:
            BadValueError: `value` is not of this parameter's type, or is out of its range.
        """
        try:
            return _adapter(self).validate_python(as_integers(value), strict=True)
        except ValidationError:
            raise BadValueError(f"found {show(value)}, expected {self.expected}{self._near(value)}") from None

    def _near(self, value: object) -> str:
        """The hint with the nearest of the allowed strings."""
        choices = get_args(self.type) if get_origin(self.type) is Literal else ()
        return did_you_mean(value, choices, self.name) if isinstance(value, str) else ""

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of this parameter's values, with its description and default."""
        schema = {**_adapter(self).json_schema(), "description": self.expected}
        return schema if self.default is REQUIRED or self.default is None else {**schema, "default": self.default}


@cache
def _adapter(parameter: Parameter) -> TypeAdapter[Any]:
    return TypeAdapter(parameter.type)


def as_integers(value: object) -> object:
    """A value with each whole number as an int, which strict float types accept too.

    So `1e3` is a valid number of epochs, and -0.0 becomes 0, since it would have another key.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [as_integers(v) for v in value]
    if isinstance(value, dict):
        return {k: as_integers(v) for k, v in value.items()}
    return value


def check_each(items: Iterable[tuple[Name, object]], check: Callable[[Name, object], Any]) -> list[tuple[Name, Any]]:
    """Values by name or index, each as `check(name, value)` returns it.

    Raises:
        BadValueError: with the mistakes of all values, each path beginning with the name.
    """
    checked: list[tuple[Name, Any]] = []
    mistakes: list[Mistake | str] = []
    for name, value in items:
        try:
            checked.append((name, check(name, value)))
        except BadValueError as error:
            mistakes += [((name, *place), message) for place, message in error.mistakes]
    if mistakes:
        raise BadValueError(*mistakes)
    return checked


def show(value: object) -> str:
    """A value as it would be written in a spec, shortened if it is long."""
    return cut(json.dumps(value, default=str, ensure_ascii=False))


def listing(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Parameters by name, in order."""
    return {p.name: p for p in parameters}


def _power_of_two(value: float) -> float:
    if frexp(value)[0] != 0.5:
        raise ValueError
    return value


POSITIVE = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NOT_NEGATIVE = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BELOW_ONE = Annotated[float, Field(ge=0, lt=1)]
POWER_OF_TWO = Annotated[float, Field(gt=0, le=2.0**64), AfterValidator(_power_of_two)]
