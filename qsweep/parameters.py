"""One parameter: its name, type, default, and what a value of it means for stacking and for keys.

Formats, architectures, optimizers and the trial itself declare their parameters with this one class, so that a value
is checked, defaulted, hashed and documented in one way wherever it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final = _Marker("REQUIRED")
"""Default of a parameter that has none."""

ALWAYS: Final = _Marker("ALWAYS")
"""`as_before` of a parameter that has been part of every key since its owner exists."""


class BadValueError(ValueError):
    """A value that its parameter does not take; the message says what was found and what was expected."""


@dataclass(frozen=True, eq=False)  # by identity: a default may be a list
class Parameter:
    """One named value of a format, architecture, optimizer or trial.

    Attributes:
        type: a type that pydantic understands, with its bounds (`Annotated[int, Field(ge=1)]`).
        expected: the same in words, for messages and documentation.
        default: the value where none is given; REQUIRED if there is none.
        stacks: whether trials that differ in it can train in one stack.
        as_before: the value that means "as before this parameter existed". It is left out of keys, so that adding a
            parameter leaves the keys of older trials as they were. It never changes once released.
    """

    name: str
    type: Any
    expected: str
    default: Any = REQUIRED
    stacks: bool = False
    as_before: Any = ALWAYS

    def check(self, value: object) -> Any:
        """`value` in its one spelling (1 becomes 1.0 where a float is meant, 32.0 becomes 32 where an integer is).

        Raises:
            BadValueError: `value` is not of this parameter's type, or is out of its range.
        """
        from pydantic import ValidationError

        for candidate in _spellings(value):
            try:
                return _adapter(self).validate_python(candidate, strict=True)
            except ValidationError:
                continue
        raise BadValueError(f"found {show(value)}, expected {self.expected}")

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of this parameter's values, with its description and default."""
        schema = {**_adapter(self).json_schema(), "description": self.expected}
        return schema if self.default is REQUIRED else {**schema, "default": self.default}


@cache
def _adapter(parameter: Parameter) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(parameter.type)


def _spellings(value: object) -> Iterator[object]:
    """A value, and the integer that it equals: `{pow2: [5, 9]}` is a good axis of batch sizes."""
    if isinstance(value, float) and value == 0:
        value = 0.0  # -0.0 would be another key for the same number
    yield value
    if isinstance(value, float) and value.is_integer():
        yield int(value)


def show(value: object) -> str:
    """A value as a spec would spell it, cut where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def listing(parameters: Iterable[Parameter]) -> dict[str, Parameter]:
    """Parameters by name, in order."""
    return {p.name: p for p in parameters}
