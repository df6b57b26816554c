"""The base class of format families: everything that the rest of qsweep needs to know of a family.

A family is a frozen dataclass that inherits from `Format`. Required members are abstract, so a family without a code or
a rounding rule cannot be instantiated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from qsweep.formats.codes import Coding
from qsweep.formats.elements import ElementType
from qsweep.formats.scale import Ends, Scale
from qsweep.formats.words import Word, word_of
from qsweep.parameter import Parameter


class Format(ABC):
    """A number format.

    Attributes:
        family: the name of the family.
        short: a pattern of the short name, with the parameters that it includes.
        parameters: the parameters, one per field of the dataclass.
        summary: a description in one line.
        examples: names that messages suggest.
        words: other names, each with the parameters that it sets.
        numerics: version of the arithmetic. Raise it on purpose when a change alters results.
        draws: number of uniform random numbers per value in stochastic rounding.
        is_learned: whether levels are computed once from trained values; roles cannot use such formats.
        is_sign: whether a rounded value is a sign times a scale, or 0, so that rounding changes nearly every value.
    """

    family: ClassVar[str]
    short: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    summary: ClassVar[str]
    examples: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    numerics: ClassVar[int] = 1
    draws: ClassVar[int] = 1
    is_learned: ClassVar[bool] = False
    is_sign: ClassVar[bool] = False

    @property
    @abstractmethod
    def rule(self) -> str:
        """The name of the rounding rule in qsweep.rounding."""

    @property
    @abstractmethod
    def code(self) -> Coding | None:
        """The code of an element; None for formats without a code of a fixed length.

        If the format has a scale, the numbers are in units of the scale.
        """

    @property
    def word(self) -> Word | None:
        """An element as hardware holds it; None if its width depends on the values, or if levels are looked up."""
        return None if self.code is None else word_of(self.code)

    @property
    def elements(self) -> ElementType | None:
        """The elements, if they are a grid or floating point and values are rounded by its rules."""
        return None

    @property
    def group_scale(self) -> Scale | None:
        """The scale that the elements of a group are multiplied by; None if there is none."""
        return None

    @property
    def is_coded(self) -> bool:
        """Whether a tensor is stored as the codes of its elements and the scales of its groups.

        False if the two ends of each group are stored: then codes are only as long as the values need.
        """
        return self.code is not None and not isinstance(self.group_scale, Ends)

    @property
    def has_given_ends(self) -> bool:
        """Whether the range is given rather than computed from the values."""
        return self.group_scale is None or self.group_scale.bits == 0

    @property
    def drifts(self) -> bool:
        """Whether stored values can change with the scale of their group while their codes stay."""
        return False

    @property
    def is_emulated(self) -> bool:
        """Whether it emulates another library; then only that library's rounding modes are available."""
        return False

    @property
    def parts(self) -> frozenset[str]:
        """The parts of the arithmetic that results depend on, by their names in the versions of a key."""
        return frozenset({self.family})
