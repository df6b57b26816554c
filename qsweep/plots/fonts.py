"""Fonts: DejaVu Sans, which comes with matplotlib, and installed fonts for characters that it lacks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

FIRST: Final = "DejaVu Sans"
MISSING: Final = "□"
"""Replaces a character that no font has."""

NOT_UNICODE: Final = ("cm", "STIX", "DejaVu", "Last Resort")
"""Prefixes of font families with non-standard codes, or that are inferior variants of the first font."""


def drawable(text: str) -> str:
    """`text` with a box in place of each character that no font has."""
    if text.isascii():
        return text  # avoids importing matplotlib, which takes half a second
    return "".join(character if _family(character) else MISSING for character in text)


def families(text: str) -> list[str]:
    """The fonts needed to draw `text`, in the order of preference."""
    found = [_family(character) for character in sorted(set(text)) if not character.isascii()]
    return [FIRST, *dict.fromkeys(family for family in found if family not in (None, FIRST))]


def missing(text: str) -> list[str]:
    """The printable characters of `text` that no font has."""
    there = sorted(character for character in set(text) if character.isprintable() and not character.isascii())
    return [character for character in there if _family(character) is None]


@cache
def _family(character: str) -> str | None:
    """The first family that has a character."""
    return next((family for family in (FIRST, *_installed()) if _has(family, character)), None)


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    return tuple(sorted({font.name for font in fontManager.ttflist if not font.name.startswith(NOT_UNICODE)}))


def _has(family: str, character: str) -> bool:
    font = _font(family)
    return font is not None and font.get_char_index(ord(character)) != 0


@cache
def _font(family: str) -> FT2Font | None:
    """The font that matplotlib uses for a family; None if it can't be read or is a bitmap font."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):
        return None
    return font if font.scalable else None
