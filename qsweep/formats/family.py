"""What a family of formats declares of itself, once: all other files of qsweep ask for nothing else.

A family is a frozen dataclass below `Format`. What it must declare is abstract here, so a family that lacks its code or
its rounding rule can't be made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from qsweep.formats.codes import Coding
from qsweep.formats.elements import Law
from qsweep.formats.scale import Ends, Scale
from qsweep.parameter import Parameter


class Format(ABC):
    """A number format.

    Attributes:
        family: the name of the family.
        short: the name of a format, with the parameters that it holds.
        parameters: their names are the dataclass's fields.
        summary: one line of what the formats are.
        examples: names of formats that messages offer.
        words: other names, each for some parameters.
        numerics: version of the arithmetic. Raise it on purpose when a change alters results.
        draws: how many uniform numbers a value takes in stochastic rounding.
        is_learned: whether levels are found once, in values that no longer change, so that no role takes them.
        is_sign: whether values are a sign times a scale, or 0, so that nearly all values lie between or beyond them.
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
        """The rounding rule, by its name in qsweep.rounding."""

    @property
    @abstractmethod
    def code(self) -> Coding | None:
        """How an element is kept; None of formats without a code of a fixed length.

        Of a format with a scale, the numbers are in units of it.
        """

    @property
    def law(self) -> Law | None:
        """The elements, where they are a grid or floating point by whose rules values are rounded."""
        return None

    @property
    def group_scale(self) -> Scale | None:
        """What the elements of a group are multiplied by."""
        return None

    @property
    def is_coded(self) -> bool:
        """Whether a tensor is stored as the codes of its elements and the scales of its groups.

        Not where the two ends of each group are stored: codes between them need be no longer than the values need.
        """
        return self.code is not None and not isinstance(self.group_scale, Ends)

    @property
    def has_given_ends(self) -> bool:
        """Whether the range is given and does not follow the values."""
        return self.group_scale is None or self.group_scale.bits == 0

    @property
    def drifts(self) -> bool:
        """Whether stored values change with the scale of their group while their codes stay."""
        return False

    @property
    def is_foreign(self) -> bool:
        """Whether the rules are another library's, so that it has that library's rounding modes alone."""
        return False

    @property
    def parts(self) -> frozenset[str]:
        """The parts of the arithmetic that results rest on, by their names among the versions of a key."""
        return frozenset({self.family})
