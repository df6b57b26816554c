"""Axes: positions and labels of values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from qsweep.plots.fonts import drawable
from qsweep.trial.measures import LABELS, MEASURES, is_share
from qsweep.trial.parameters import PLAIN, ROLE_PARTS

Value = bool | float | str
"""A value in a column of parameters; a column has only one type."""


@dataclass(frozen=True)
class Reference:
    """A place beyond the end of an axis, for trials that don't read its parameter: a float32 trial has no bitwidth."""

    label: str


Place = Value | Reference


WORDS: Final = {p.name: p.label for p in PLAIN.values() if p.label} | LABELS
INNER_WORDS: Final = {p.name: p.label or p.unit for p in ROLE_PARTS.values() if p.label or p.unit}
"""Labels of a format's parameters, shown after the role: `quantize.weight.bitwidth` is weight bits."""
UNITS: Final = {
    **{p.name: p.unit for p in PLAIN.values() if p.unit},
    **{measure: "%" for measure in MEASURES if is_share(measure)},
}
PHRASES: Final = {("zero", True): "with a zero level", ("zero", False): "without a zero level"}
DIGITS: Final = 4
"""Significant digits of a number in a figure, unless more are needed to distinguish numbers."""
LONGEST: Final = 25
"""Maximum characters of a value or a column's name in a figure; longer ones are cut."""
NEAREST: Final = 1e-3
"""Numbers closer to each other than this fraction of the mean distance look like one."""
EVEN: Final = 0.5
"""Steps of evenly spread values, such as 0.1, 0.03, 0.01, differ by at most this fraction of the largest step."""
DRAWN_APART: Final = 1e-11
"""The same as a fraction of the largest number, since drawing subtracts floats."""


def word(column: str) -> str:
    """A column's name in words."""
    return WORDS.get(column) or cut(_dotted_word(column) if "." in column else column)


def _dotted_word(column: str) -> str:
    """`quantize.weight` is the weight format, `quantize.weight.bitwidth` weight bits, `init.std` init std."""
    head, *inner = column.split(".")
    if head == "quantize":
        inner[1:] = [INNER_WORDS.get(name, name) for name in inner[1:]] or ["format"]
        return " ".join(inner).replace("_", " ")
    return " ".join([head, *inner]).replace("_", " ")


def label(column: str) -> str:
    """The label of an axis: a column's name with its unit."""
    return f"{word(column)} ({UNITS[column]})" if column in UNITS else word(column)


def cut(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, with its middle left out if it is too long, and escaped so that it is not mathematics."""
    text = drawable("".join(character for character in " ".join(text.split()) if character.isprintable()))
    ends = (longest - 1) // 2
    return (text if len(text) <= longest else f"{text[:ends]}…{text[-ends:]}").replace("$", r"\$")


def _near_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9


def _log2(number: float) -> float:
    """log2, rounded if almost whole: tables keep 12 digits, so small powers of two are slightly off."""
    exponent = math.log2(number)
    return float(round(exponent)) if _near_whole(exponent) else exponent


LOGARITHMS: Final = {"log2": _log2, "log10": math.log10}


@dataclass(frozen=True)
class Axis:
    """The places of one column, in order, on a suitable scale.

    `scale` is `log2`, `log10` or `linear` for numbers, and `category` for everything else and for numbers that no scale
    can distinguish; coordinates are logarithms on the first two, and indices on the last. References are placed after
    the last value; on a logarithmic scale, 0 is placed before the first value, separated by a gap.
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

    def is_off_scale(self, place: Place) -> bool:
        """Whether a place is off the scale, so that lines do not connect to it: a reference, or 0 on a log axis."""
        return isinstance(place, Reference) or (self.scale in LOGARITHMS and place == 0)

    @property
    def joined(self) -> tuple[Value, ...]:
        """The values on the scale."""
        return tuple(value for value in self.values if not self.is_off_scale(value))

    @property
    def off_scale(self) -> tuple[Place, ...]:
        """The places off the scale."""
        return tuple(place for place in self.places if self.is_off_scale(place))

    @property
    def is_even(self) -> bool:
        """Whether neighbours on the scale have about equal distances; sizes of models do not."""
        ends = [self.at(value) for value in self.joined]
        steps = [b - a for a, b in pairwise(ends)]
        return not steps or _spread(steps) <= EVEN * max(steps)

    @property
    def step(self) -> float:
        """The mean distance of neighbours; for a single value, a distance that is visible beside it."""
        ends = [self.at(value) for value in self.joined]
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
        if self.is_off_scale(place):
            return self.at(self.joined[0]) - 1.5 * self.step
        return LOGARITHMS.get(self.scale, float)(float(place))

    def text(self, place: Place, longest: int = LONGEST) -> str:
        """The tick or legend label of a place, with at most `longest` characters if it is text; labels are distinct."""
        texts = self._texts if longest == LONGEST else self._distinct_texts(longest)
        return texts[self.places.index(place)]

    @cached_property
    def _texts(self) -> list[str]:
        return self._distinct_texts(LONGEST)

    def _distinct_texts(self, longest: int) -> list[str]:
        """The labels of all places. A reference with the name of a value is marked as a reference."""
        texts = self._value_texts(longest)
        taken = set(texts)
        plain_names = _distinct_cuts([reference.label for reference in self.references], longest)
        for name in plain_names:
            texts.append(cut(f"{name} (reference)", longest + 12) if name in taken else name)
        return texts

    def _value_texts(self, longest: int) -> list[str]:
        if any(isinstance(value, str) for value in self.values):
            return _distinct_cuts([str(value) for value in self.values], longest)
        if any(isinstance(value, bool) for value in self.values):
            return [PHRASES.get((self.column, bool(value)), str(value).lower()) for value in self.values]
        return self._number_texts([float(value) for value in self.values])

    def _number_texts(self, numbers: Sequence[float]) -> list[str]:
        """Small integers are written out; other numbers are powers if all numbers of the axis are."""
        base = {"log2": 2, "log10": 10}.get(self.scale)
        written_out = all(number.is_integer() and number <= 4096 for number in numbers)
        exponents = [] if base is None or written_out else [self.at(number) for number in numbers if number]
        if exponents and all(map(_near_whole, exponents)):
            return [f"${base}^{{{self.at(number):.0f}}}$" if number else "0" for number in numbers]
        return plain_texts(numbers)

    def title(self, value: Value) -> str:
        """The title of a value's panel."""
        text = self.text(value)
        if isinstance(value, bool) and (self.column, value) in PHRASES:
            return text
        return f"{word(self.column)} = {text}" if isinstance(value, float) else f"{word(self.column)}: {text}"

    def ticks(self, most: int) -> list[Place]:
        """About `most` values to label at most; all values of categories."""
        if self.scale == "category" or len(self.values) <= most:
            return list(self.values)
        chosen = _round_ones(self.joined, [self.at(value) for value in self.joined], max(most, 2))
        return [*(value for value in self.values if self.is_off_scale(value)), *chosen]


def axis(column: str, places: Iterable[Place]) -> Axis:
    """The axis of some places: numbers in ascending order, everything else in the order of the table."""
    found = list(dict.fromkeys(places))
    values: list[Value] = [place for place in found if not isinstance(place, Reference)]
    references = tuple(place for place in found if isinstance(place, Reference))
    numbers = sorted(v for v in values if isinstance(v, float))
    if numbers:
        return Axis(column, tuple(numbers), references, scale_of(numbers))
    return Axis(column, tuple(values), references, "category")


def scale_of(numbers: Sequence[float]) -> str:
    """The scale on which ascending numbers are spread most evenly: `log2`, `log10`, `linear` or `category`.

    A leading 0 is off a logarithmic scale: weight decay, dropout and penalties nearly always start at 0. Numbers that
    would coincide on the scale, or that are too large to subtract, are spaced evenly, like categories.
    """
    if not math.isfinite(numbers[-1] - numbers[0]):
        return "category"
    scale = _even_scale(numbers)
    at = LOGARITHMS.get(scale, float)
    shown = [at(number) for number in numbers if number or scale not in LOGARITHMS]
    steps = [b - a for a, b in pairwise(shown)]
    least = max(NEAREST * (shown[-1] - shown[0]) / max(len(steps), 1), DRAWN_APART * max(map(abs, shown)))
    return scale if all(step > least for step in steps) else "category"


def _even_scale(numbers: Sequence[float]) -> str:
    if len(numbers) > 2 and numbers[0] == 0 and not _is_even(numbers):
        return _even_scale(numbers[1:])
    if len(numbers) < 2 or numbers[0] <= 0 or all(b - a == 1 for a, b in pairwise(numbers)):
        return "linear"
    if all(_near_whole(math.log2(number)) for number in numbers):
        return "log2" if len({round(math.log2(number)) for number in numbers}) == len(numbers) else "linear"
    geometric = len(numbers) > 2 and _spread([math.log(b) - math.log(a) for a, b in pairwise(numbers)]) < 0.01
    return "log10" if geometric or math.log10(numbers[-1]) - math.log10(numbers[0]) >= 2 else "linear"


def _spread(steps: Sequence[float]) -> float:
    return max(steps) - min(steps)


def _is_even(numbers: Sequence[float]) -> bool:
    """Whether neighbours have equal distances."""
    steps = [b - a for a, b in pairwise(numbers)]
    return _spread(steps) <= 1e-9 * max(steps)


def _distinct_cuts(texts: Sequence[str], longest: int) -> list[str]:
    """Different texts shortened for display, but never so that two of them look alike."""
    if not texts:
        return []
    common = max(_common(texts) - 3, 0)
    ways = (
        [cut(text, longest) for text in texts],
        [f"…{cut(text[common:], longest - 1)}" for text in texts],
        [f"{number}: {cut(text, longest - 4)}" for number, text in enumerate(texts, start=1)],
    )
    return next((way for way in ways if len(set(way)) == len(texts)), ways[-1])


def _common(texts: Sequence[str]) -> int:
    """The length of the common prefix of `texts`."""
    first, last = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def plain(number: float, digits: int = DIGITS) -> str:
    """A number in ordinary notation, with at most `digits` digits unless it is a small integer."""
    if number < 0:
        return f"−{plain(-number, digits)}"
    if number.is_integer() and number < 1e6:
        return f"{number:.0f}"
    mantissa, e, exponent = f"{number:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def plain_texts(numbers: Sequence[float]) -> list[str]:
    """Different numbers with enough digits to distinguish them: seeds that are dates differ in the eighth."""
    for digits in range(DIGITS, 17):
        texts = [plain(number, digits) for number in numbers]
        if len(set(texts)) == len(texts):
            return texts
    return [plain(number, 17) for number in numbers]  # 17 digits distinguish any two floats


def _round_ones(values: Sequence[Value], coordinates: Sequence[float], most: int) -> list[Value]:
    """Every second, fourth, fifth … value: at round coordinates if these are whole, else counted from the last."""
    whole = all(map(_near_whole, coordinates))
    marks = [round(c) for c in coordinates] if whole else list(range(1 - len(values), 1))
    for step in (m * 10**e for e in range(6) for m in (1, 2, 4, 5)):
        chosen = [value for value, mark in zip(values, marks, strict=True) if mark % step == 0]
        if len(chosen) <= most:
            return chosen if len(chosen) > 1 else [values[0], values[-1]]
    return [values[0], values[-1]]
