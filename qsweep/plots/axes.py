"""Where a value stands on an axis, and how it reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from qsweep.spec import MEASURES, SECONDS, is_share
from qsweep.vocabulary import PLURALS, ROLES

Value = bool | float | str
"""What stands in a column of parameters; a column holds one type only."""


@dataclass(frozen=True)
class Reference:
    """A place beyond an axis, for trials that don't read its parameter: a float32 trial has no bitwidth."""

    label: str


Place = Value | Reference


def _why_words() -> dict[str, str]:
    """The words of the columns that say why, by column."""
    return {f"{role}_{part}": words for role in ROLES for part, words in _why_words_of(role).items()}


def _why_words_of(role: str) -> dict[str, str]:
    return {
        "clipped": f"{PLURALS[role]} clipped",
        "zero": f"{PLURALS[role]} at 0",
        "levels": f"levels that {PLURALS[role]} use",
        "stalled": f"{role} updates undone",
    }


WORDS: Final = {
    "batch_size": "batch size",
    "fraction": "fraction bits",
    "lr": "learning rate",
    "l1": "L1 penalty",
    "weight_decay": "weight decay",
    "zero": "zero level",
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "test_loss": "test loss",
    "train_loss": "training loss",
    **_why_words(),
    "predicted_classes": "classes predicted",
    "model_bits": "bits of all parameters",
    "compressed_bytes": "bytes of the packed model",
    SECONDS: "seconds a trial",
}
UNITS: Final = {"bitwidth": "bits", **{measure: "%" for measure in MEASURES if is_share(measure)}}
PHRASES: Final = {("zero", True): "with a zero level", ("zero", False): "without a zero level"}
LONGEST: Final = 25
"""Characters of a value or a column's name that a figure shows; longer ones are cut."""


def word(column: str) -> str:
    """A column's name as the reader of a figure knows it."""
    role = column.removeprefix("quantize.")
    return WORDS.get(column) or (f"{cut(role)} format" if role != column else cut(column))


def label(column: str) -> str:
    """A column's name with its unit, as the label of an axis."""
    return f"{word(column)} ({UNITS[column]})" if column in UNITS else word(column)


def cut(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, its middle left out where it is too long, and safe from being read as mathematics."""
    text = " ".join(text.split())
    ends = (longest - 1) // 2
    return (text if len(text) <= longest else f"{text[:ends]}…{text[-ends:]}").replace("$", r"\$")


@dataclass(frozen=True)
class Axis:
    """The places of one column, in order, on a scale that suits them.

    `scale` is `log2`, `log10` or `linear` for numbers, `category` for the rest; coordinates are logarithms on the first
    two, and counted from 0 on the last. References stand beyond the last value.
    """

    column: str
    values: tuple[Value, ...]
    references: tuple[Reference, ...]
    scale: str

    @property
    def label(self) -> str:
        """The column in words, with its unit."""
        return label(self.column)

    @property
    def places(self) -> tuple[Place, ...]:
        """All places, references last."""
        return (*self.values, *self.references)

    @property
    def step(self) -> float:
        """The mean distance of neighbours; for a single value, what can be told from it."""
        ends = [self.at(value) for value in self.values]
        if len(ends) > 1:
            return (ends[-1] - ends[0]) / (len(ends) - 1)
        return max([1.0, *(1e-3 * abs(end) for end in ends)])

    def at(self, place: Place) -> float:
        """The coordinate of a place."""
        if isinstance(place, Reference):
            last = self.at(self.values[-1]) if self.values else 0.0
            return last + (1.5 + self.references.index(place)) * self.step
        if self.scale == "category":
            return float(self.values.index(place))
        number = float(place)
        return {"log2": _log2, "log10": math.log10}.get(self.scale, float)(number)

    def text(self, place: Place, longest: int = LONGEST) -> str:
        """A place as its tick or legend label, of at most `longest` characters if it is text."""
        if isinstance(place, Reference):
            return cut(place.label, longest)
        if isinstance(place, bool):
            return PHRASES.get((self.column, place), str(place).lower())
        return self._names(longest)[place] if isinstance(place, str) else self._number(place)

    def _names(self, longest: int) -> dict[str, str]:
        """Text values as they are shown: cut, but never so that two of them look alike."""
        texts = [value for value in self.values if isinstance(value, str)]
        common = max(_common(texts) - 3, 0)
        ways = (
            [cut(text, longest) for text in texts],
            [f"…{cut(text[common:], longest - 1)}" for text in texts],
            [f"{number}: {cut(text, longest - 4)}" for number, text in enumerate(texts, start=1)],
        )
        return dict(zip(texts, next((way for way in ways if len(set(way)) == len(texts)), ways[-1]), strict=True))

    def title(self, value: Value) -> str:
        """A value as the title of its panel."""
        text = self.text(value)
        if isinstance(value, bool) and (self.column, value) in PHRASES:
            return text
        return f"{word(self.column)} = {text}" if isinstance(value, float) else f"{word(self.column)}: {text}"

    def _number(self, number: float) -> str:
        """Small integers are written out; other numbers as powers where all of the axis are powers."""
        base = {"log2": 2, "log10": 10}.get(self.scale)
        written_out = all(isinstance(v, float) and v.is_integer() and v <= 4096 for v in self.values)
        if base is None or written_out or not all(_near_whole(self.at(v)) for v in self.values):
            return plain(number)
        return f"${base}^{{{self.at(number):.0f}}}$"

    def ticks(self, most: int) -> list[Place]:
        """At most about `most` values that deserve a tick label; categories all do."""
        if self.scale == "category" or len(self.values) <= most:
            return list(self.values)
        return [*_round_ones(self.values, [self.at(v) for v in self.values], max(most, 2))]


def axis(column: str, places: Iterable[Place]) -> Axis:
    """The axis of the places that occur: numbers ascending, all else as the table has it."""
    found = list(dict.fromkeys(places))
    values: list[Value] = [place for place in found if not isinstance(place, Reference)]
    references = tuple(place for place in found if isinstance(place, Reference))
    numbers = sorted(v for v in values if isinstance(v, float))
    if numbers:
        return Axis(column, tuple(numbers), references, scale_of(numbers))
    return Axis(column, tuple(values), references, "category")


def scale_of(numbers: Sequence[float]) -> str:
    """The scale on which ascending numbers are spread most evenly: `log2`, `log10` or `linear`."""
    if len(numbers) < 2 or numbers[0] <= 0 or all(b - a == 1 for a, b in pairwise(numbers)):
        return "linear"
    if all(_near_whole(math.log2(number)) for number in numbers):
        return "log2"
    ratios = [b / a for a, b in pairwise(numbers)]
    geometric = len(numbers) > 2 and max(ratios) / min(ratios) < 1.01
    return "log10" if geometric or numbers[-1] / numbers[0] >= 100 else "linear"


def _common(texts: Sequence[str]) -> int:
    """How many characters all of `texts` begin with."""
    first, last = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def plain(number: float) -> str:
    """A number as one would write it by hand."""
    if number < 0:
        return f"−{plain(-number)}"
    if number.is_integer() and number < 1e6:
        return f"{number:.0f}"
    mantissa, e, exponent = f"{number:.4g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _log2(number: float) -> float:
    """Tables keep 12 digits, so that small powers of two come back a little off."""
    exponent = math.log2(number)
    return float(round(exponent)) if _near_whole(exponent) else exponent


def _near_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9


def _round_ones(values: Sequence[Value], coordinates: Sequence[float], most: int) -> list[Value]:
    """Every second, fourth, fifth … value: on round coordinates where these are whole, else counted from the last."""
    whole = all(map(_near_whole, coordinates))
    marks = [round(c) for c in coordinates] if whole else list(range(1 - len(values), 1))
    for step in (m * 10**e for e in range(6) for m in (1, 2, 4, 5)):
        chosen = [value for value, mark in zip(values, marks, strict=True) if mark % step == 0]
        if len(chosen) <= most:
            return chosen if len(chosen) > 1 else [values[0], values[-1]]
    return [values[0], values[-1]]
