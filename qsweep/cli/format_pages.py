"""The output of `qsweep formats`: the list of formats, the formula of a family, the facts and values of a format."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from qsweep.cli.columns import aligned, listed
from qsweep.errors import UserError
from qsweep.formats import FAMILIES, Format, parameters_of, parse, split_name
from qsweep.formats.codes import MOST_VALUES, Coding, codes, values
from qsweep.formats.facts import Facts, facts
from qsweep.formats.names import NAMES, as_assignment
from qsweep.formats.numbers import number, power
from qsweep.formats.scale import Scale
from qsweep.parameter import REQUIRED, BadValueError, as_integers, show

WIDTH = 100
LINE = 120
MOST_CODES = 256
"""Up to so many values are shown with their codes; more are shown without."""

SHOWN = (
    *("float32", "tf32", "bf16", "fp16", "e5m2", "e4m3", "e4m3 flavour=ieee", "e3m2", "e2m3", "e2m1"),
    *("fixed16f8", "fixed8f7", "range8", "range4", "block8"),
    *("mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4"),
    *("uniform8", "uniform8 symmetric=true", "po2_4", "ternary", "binary"),
)
"""The formats in the list: those with their own names, and one or two of each family."""

BOTH = ("float32", "nvfp4", "ternary", "binary")
"""Families of a single format, which has the same name."""

NONE = "·"
NO_DEFAULT = "required"
COLUMNS = ("format", "bits", "levels", "largest", "lowest", "normal", "subnormal", "step", "Inf NaN", "scale per")
FAMILY_COLUMNS = ("family", "example", "description")
PARAMETER_COLUMNS = ("parameter", "default", "values")
LEGEND = (
    "bits: per value, including its part of the scale of a full group. normal, subnormal: the smallest of each.",
    "For formats with a scale, numbers are in units of the scale.",
)


# --- the list ---------------------------------------------------------------------------------------------------------


def format_list() -> str:
    """The facts of representative formats, and the families that all formats belong to."""
    families = [FAMILY_COLUMNS, *family_rows()]
    more = "`qsweep formats float` prints the formula of a family, `qsweep formats e4m3` every value of a format."
    return "\n\n".join([aligned(fact_rows()), "\n".join(LEGEND), aligned(families), more])


def fact_rows(names: Iterable[str] = SHOWN) -> list[Sequence[str]]:
    """The rows of the table of facts, header first."""
    return [COLUMNS, *(_fact_row(name, facts(parse(name))) for name in names)]


def _fact_row(name: str, known: Facts) -> list[str]:
    numbers = [known.largest, None if known.is_symmetric else known.lowest, known.normal, known.subnormal, known.step]
    bits = NONE if known.bits_per_value is None else f"{known.bits_per_value:g}"
    levels = NONE if known.levels is None else str(known.levels)
    shown = [NONE if each is None else power(each) for each in numbers]
    return [name, bits, levels, *shown, known.specials or NONE, NONE if known.scale is None else str(known.scale.per)]


def family_rows() -> Iterator[list[str]]:
    """Every family: its name, the name of one of its formats, and its summary."""
    for family, cls in FAMILIES.items():
        example = next((name for name in NAMES if split_name(name)[0] == family and name != family), NONE)
        yield [family, example, cls.summary]


def check_quoted(names: Sequence[str]) -> None:
    """Refuse parameters that the shell split from their format: `block4 per=16` is two words without quotes.

    Raises:
        UserError: there are some; the message shows the quoted name.
    """
    for start, name in enumerate(names):
        if own := list(_leading_parameters(name, names[start + 1 :])):
            raise UserError(f"'{names[start + 1]}' is a parameter of '{name}': quote both, '{' '.join([name, *own])}'")


def _leading_parameters(name: str, following: Sequence[str]) -> Iterator[str]:
    """The first words after a format's name that are its parameters, as assignments."""
    try:
        known = {p.name: p for p in parameters_of(split_name(name)[0])}
    except BadValueError:  # format_page reports the error
        return
    for word in following:
        is_assignment = re.match(r"\w+=", word) is not None
        if not (is_assignment or word in known):
            return
        yield word if is_assignment else as_assignment(word, known)


# --- one page ---------------------------------------------------------------------------------------------------------


def format_page(name: str) -> str:
    """The formula of a family (`range`), the facts and values of a format (`range3`), or both if the name is both.

    Raises:
        UserError: no such format.
    """
    if name not in FAMILIES:
        return _of_format(name, parse(name))
    formula_page = _of_family(name)
    return f"{formula_page}\n\n{_of_format(name, parse(name))}" if name in BOTH else formula_page


def _of_family(name: str) -> str:
    rows = [PARAMETER_COLUMNS, *parameter_rows(name)]
    parts = [f"{name}: {FAMILIES[name].summary}", formula(name), aligned(rows) if len(rows) > 1 else ""]
    return "\n\n".join(filter(None, parts))


def formula(family: str) -> str:
    """The docstring of a family as prose, with the errors that it raises listed as `Refused`."""
    text, _, errors = (inspect.getdoc(FAMILIES[family]) or "").partition("\n\nRaises:\n")
    if not errors:
        return text
    refused = re.sub(r"\s*\n\s*", " ", errors.strip()).removeprefix("BadValueError: ")
    return f"{text}\n\n{textwrap.fill(f'Refused: {refused}', LINE, break_on_hyphens=False)}"


def parameter_rows(family: str) -> Iterator[list[str]]:
    """The parameters of a family: name, default as it is written in a format's name, allowed values."""
    for parameter in FAMILIES[family].parameters:
        default = as_integers(parameter.default)
        text = NO_DEFAULT if default is REQUIRED else default if isinstance(default, str) else show(default)
        yield [parameter.name, text, parameter.expected]


def _of_format(name: str, fmt: Format) -> str:
    known = facts(fmt)
    title = name if name == known.name else f"{name} = {known.name}"
    lines = aligned([[f"  {label}", text] for label, text in _fact_lines(known)]) if known != Facts(known.name) else ""
    return "\n".join([title, *filter(None, [lines]), "", *_value_lines(fmt.code)]).rstrip()


def _fact_lines(known: Facts) -> Iterator[tuple[str, str]]:
    if known.bits is not None:
        yield "bits", f"{known.bits}: {known.fields}"
        yield "levels", str(known.levels)
    numbers = {
        "largest": known.largest,
        "lowest": None if known.is_symmetric else known.lowest,
        "smallest normal": known.normal,
        "smallest subnormal": known.subnormal,
        "step": known.step,
    }
    yield from ((label, _exactly(value)) for label, value in numbers.items() if value is not None)
    if known.bits is not None:
        yield "Inf", "yes" if known.has_inf else "no"
        yield "NaN", f"yes, {known.nans} codes" if known.nans else "no"
    if known.scale is not None:
        yield "scale", _scale_words(known, known.scale)
        yield "numbers", "in units of the scale"


def _exactly(value: float) -> str:
    """A number, followed by its decimal form if that differs."""
    text = power(value)
    return f"{text} ≈ {value:.3g}" if "^" in text and number(value) == text else _equal(text, number(value))


def _equal(text: str, plain: str) -> str:
    return text if text == plain else f"{text} = {plain}"


def _scale_words(known: Facts, scale: Scale) -> str:
    if not isinstance(scale.per, int):
        return f"{scale.kind}, one per {scale.per}"
    return f"{scale.kind}, one for {scale.per} values: {known.bits_per_value:g} bits per value"


def _value_lines(code: Coding | None) -> Iterator[str]:
    if code is None:
        yield "(no list of values)"
    elif 1 << code.bits > MOST_VALUES:
        yield f"(more than {MOST_VALUES:,} values are not listed)"
    elif 1 << code.bits > MOST_CODES:
        yield listed([number(value) for value in values(code)], WIDTH)
    else:
        yield listed([f"{bits}  {number(value)}" for bits, value in codes(code)], WIDTH)
