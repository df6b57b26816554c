"""Short names of formats: `range4`, `fixed8f7`, `e4m3`, `block8 per=32`, and back.

A name is one word, optionally followed by parameters as `name=value`, separated by spaces. Names in tables can be used
in specs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from qsweep.errors import ArgumentError, UserError, cut, did_you_mean, nearest
from qsweep.formats import floats, grids, learned, qkeras, scaled
from qsweep.formats.declared import DETERMINISTIC, ROUNDINGS
from qsweep.formats.family import Format
from qsweep.parameter import REQUIRED, BadValueError, Parameter, check_each, show

OWN = (*grids.FAMILIES, *floats.FAMILIES, *scaled.FAMILIES, *learned.FAMILIES)
CLASSES = (*OWN, *qkeras.FAMILIES)
FAMILIES: dict[str, type[Format]] = {cls.family: cls for cls in CLASSES}
"""Every family by its name, in the order in which they are shown."""

WORDS = {word: (cls.family, preset) for cls in CLASSES for word, preset in cls.words.items()}
"""Short names for a family with some of its parameters."""
EXAMPLES = tuple(name for cls in OWN for name in cls.examples)
"""Suggested in messages."""
CALL = re.compile(r"([A-Za-z]\w*)\(([^()]*)\) ?(.*)")
PYTHON = {"None": "none", "True": True, "False": False}
"""Python's literals in a call, as other libraries print them."""
EMULATED_ROUNDINGS = ("nearest", "stochastic")
"""The rounding modes of QPyTorch and QKeras."""
NAMES = (*EXAMPLES, *WORDS)
"""Short names, those with numbers as examples."""


def parameters_of(family: str) -> tuple[Parameter, ...]:
    """The parameters of a family; empty for a name that is not a family."""
    return FAMILIES[family].parameters if family in FAMILIES else ()


def make(family: str, parameters: Mapping[str, Any]) -> Format:
    """The format of a family with these parameters; parameters of other families are ignored.

    Raises:
        BadValueError: values that are valid one by one but not together.
    """
    cls = FAMILIES[family]
    return cls(**{p.name: parameters[p.name] for p in cls.parameters if p.name in parameters})


def split_name(text: str, others: Iterable[Parameter] = ()) -> tuple[str, dict[str, Any]]:
    """Split a name into family and parameters: `block8 per=32` → ("block", {"bitwidth": 8, "per": 32}).

    Args:
        others: parameters allowed after the first word besides the family's own (a role's rounding).

    Raises:
        BadValueError: an unknown name, a parameter that the family does not have, or a value out of range.
    """
    first, call, rest = _parts(text)
    family, preset = _split_word(first)
    known = {p.name: p for p in (*parameters_of(family), *others)}
    given = [*_arguments(family, call), *(_assignment(word, known) for word in rest.split())]
    if twice := [name for name, count in Counter(name for name, _ in given).items() if count > 1]:
        raise BadValueError(f"'{cut(text)}' sets the {twice[0]} twice")
    return family, preset | dict(check_each(given, partial(_check, known, preset, first)))


def _parts(text: str) -> tuple[str, str, str]:
    """`fixed(8, 7) overflow=wrap` → ("fixed", "8, 7", "overflow=wrap"); without a call, the first word and the rest."""
    if match := CALL.fullmatch(text):
        return match[1], match[2], match[3]
    first, _, rest = text.partition(" ")
    return first, "", rest


def _split_word(word: str) -> tuple[str, dict[str, Any]]:
    if word in WORDS:
        family, preset = WORDS[word]
        return family, dict(preset)
    if word in FAMILIES:
        return word, {}
    for cls in CLASSES:
        if match := _pattern(cls.short).fullmatch(word):
            known = {p.name: p for p in cls.parameters}
            numbers = [(name, int(digits)) for name, digits in match.groupdict().items()]
            return cls.family, dict(check_each(numbers, partial(_check, known, {}, word)))
    if "=" in word and "(" not in word:
        raise BadValueError(f"found '{cut(word)}', expected a format's name before it, as in 'block8 per=32'")
    near = did_you_mean(word, (*NAMES, *_with_numbers(word), *FAMILIES), "format")
    raise BadValueError(
        f"unknown format '{cut(word)}'{near} (such as {', '.join(EXAMPLES)}; `qsweep formats` lists all)"
    )


def _with_numbers(word: str) -> Iterator[str]:
    """Names of all families with the numbers of a word, if their counts match, so that `rnge5` is close to range5."""
    numbers = re.findall(r"[0-9]{1,4}", word)
    for cls in CLASSES:
        names = re.findall(r"\{(\w+)\}", cls.short)
        if names and len(names) == len(numbers):
            yield cls.short.format(**dict(zip(names, numbers, strict=True)))


@cache
def _pattern(short: str) -> re.Pattern[str]:
    """The pattern of a short name: `fixed{bitwidth}f{fraction}` matches `fixed8f7` and `fixed8f-2`."""
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>-?[0-9]{1,9})", short))


def _arguments(family: str, call: str) -> Iterator[tuple[str, object]]:
    """The arguments in parentheses, in the order of the family's parameters or by name: `4, 0, alpha='auto'`."""
    words = [word.strip() for word in call.split(",")] if call.strip() else []
    names = [p.name for p in parameters_of(family)]
    switches = {p.name for p in parameters_of(family) if p.type is bool}
    for position, word in enumerate(words):
        if "=" not in word and position >= len(names):
            raise BadValueError(f"{family}({call}) has more than {len(names)} parameters: {', '.join(names)}")
        name, value = _assignment(word if "=" in word else f"{names[position]}={word}", {})
        yield name, bool(value) if name in switches and value in (0, 1) else value


def _assignment(word: str, known: Mapping[str, Parameter]) -> tuple[str, object]:
    name, equals, value = word.partition("=")
    if not equals:
        near = f"; did you mean '{meant}'?" if (meant := as_assignment(word, known)) else ""
        raise BadValueError(
            f"found '{cut(word)}' after a format's name, expected parameters as in 'block8 per=32'{near}"
        )
    with suppress(ValueError):
        return name, json.loads(value)
    return name, PYTHON.get(value, value.strip("'"))


def as_assignment(word: str, known: Mapping[str, Parameter]) -> str:
    """The assignment that a word without `=` means: `symmetric=true` for `symmetric`, `rounding=stochastic` for
    `stochastic`; "" if that is not clear.
    """
    name, _, value = word.partition(":")
    name = name if name in known else nearest(name, tuple(known))
    if name:
        return f"{name}={value or ('true' if known[name].type is bool else '…')}"
    return next((f"{p.name}={word}" for p in known.values() if word in _words_of(p)), "")


def _words_of(parameter: Parameter) -> set[object]:
    """The words that a parameter takes as its value."""
    types = (parameter.type, *get_args(parameter.type))
    return {word for own in types if get_origin(own) is Literal for word in get_args(own)}


def no_parameter(owner: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown parameter: where it belongs or a similar name, and the parameters of the format."""
    has = f" (it has: {', '.join(known)})" if known else " (it has none)"
    near = did_you_mean(name, known, "parameter") or misplaced(name)
    return f"'{cut(owner)}' has no parameter '{cut(name)}'{near}{has}"


def misplaced(name: str) -> str:
    """`; ` and where a parameter belongs that exists elsewhere; "" for any other name."""
    if name in BESIDES:
        return f"; {BESIDES[name]}"
    families = [family for family in FAMILIES if name in {p.name for p in parameters_of(family)}]
    return f"; {', '.join(families)} {'has' if len(families) == 1 else 'have'} it" if families else ""


BESIDES = {
    "clip": "it is for compressions, which clip values: `stages: [{compress: {weight: {format: …, clip: …}}}]`",
    "at": "it is for the roles weight, activation and error, which can be rounded at the operands of products",
    "rounding": "it is for roles; compressions round to nearest, and in Python it is an argument of quantize",
}
"""Parameters given next to a format in some places, but not the format's."""


def _check(known: Mapping[str, Parameter], preset: Mapping[str, Any], word: str, name: str, value: object) -> Any:
    """Check the value of a known parameter that the short name does not already set."""
    if name not in known:
        raise BadValueError(no_parameter(word, name, tuple(known)))
    if name in preset:
        raise BadValueError(f"'{word}' sets the {name} already")
    try:
        return known[name].check(value)
    except BadValueError as error:
        raise BadValueError(f"{cut(word)}: {name}: {error}") from None


def pattern_of(family: str) -> str:
    """A regular expression for the names of a family, including parameters, that other tools can use."""
    word = re.sub(r"\?P<\w+>", "?:", _pattern(FAMILIES[family].short).pattern)
    words = [name for name, (of, _) in WORDS.items() if of == family]
    return rf"^(?:{'|'.join([family, word, *words])}|{family}\([^()]*\))(?: [a-z_]+=[^ ]+)*$"


def check_rounding(fmt: Format, rounding: str) -> None:
    """Refuse a rounding mode that a format does not have.

    Raises:
        BadValueError: an unknown mode; formats that emulate another library have only that library's modes.
    """
    if rounding not in ROUNDINGS or (fmt.is_emulated and rounding not in EMULATED_ROUNDINGS):
        allowed = EMULATED_ROUNDINGS if fmt.is_emulated else (*DETERMINISTIC, "stochastic", "stochasticN")
        raise BadValueError(f"{name_of(fmt)} has no rounding '{cut(rounding)}' (one of: {', '.join(allowed)})")


def parse(text: str) -> Format:
    """The format of a complete name: `range4`, `fixed8f7 overflow=wrap`, `mxfp4`, `float32`.

    Args:
        text: the name, as in specs and tables; `qsweep formats` lists families and their parameters.

    Returns:
        A frozen dataclass, equal for names that mean the same.

    Raises:
        UserError: an unknown name, an impossible format, or a required number is missing.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"format: found {show(text)}, expected a name such as 'e4m3'")
    try:
        family, given = split_name(text)
        needed = [p.name for p in parameters_of(family) if p.default is REQUIRED and p.name not in given]
        if needed:
            raise BadValueError(f"format '{text}' needs {' and '.join(map(a, needed))}, as in '{example_of(family)}'")
        return make(family, given)
    except BadValueError as problem:
        raise UserError(str(problem)) from None


def a(name: str) -> str:
    """A name with its article; without one if it is a plural."""
    return name if name.endswith("s") else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def example_of(family: str) -> str:
    """An example of a family's name, including its numbers."""
    cls = FAMILIES[family]
    return (*cls.examples, *cls.words)[0]


# --- back to a name ---------------------------------------------------------------------------------------------------


def name_of(fmt: Format) -> str:
    """The name that `parse` turns back into the format; parameters that differ from their defaults follow the word."""
    own = {p.name: getattr(fmt, p.name) for p in fmt.parameters}
    return spell(fmt.family, {p.name: own[p.name] for p in fmt.parameters if own[p.name] != p.default})


def spell(family: str, given: Mapping[str, Any]) -> str:
    """The name of a family with some parameters: `range`, `range4`, `range4 scale=8.0`."""
    word, included = _word(family, given)
    return " ".join([word, *(f"{name}={_value(value)}" for name, value in given.items() if name not in included)])


def _word(family: str, given: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The first word, and the parameters that it sets."""
    known = {p.name: p.default for p in parameters_of(family)} | dict(given)
    for word, preset in FAMILIES[family].words.items():
        if all(known[name] == value for name, value in preset.items()):
            return word, set(preset)
    names = re.findall(r"\{(\w+)\}", FAMILIES[family].short)
    if names and all(name in given for name in names):
        return FAMILIES[family].short.format(**given), set(names)
    return family, set()


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
